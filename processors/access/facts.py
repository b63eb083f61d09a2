"""What a policy is told about a request: entities from the registry's attributes, and the context.

Attributes of persons: `kind` (clinician, technician), `roles` and `wards` (lists), `shift`. Of devices:
`kind`, `manufacturer`, `model`, `firmware`, `ward`. Lists are separated by commas. Every other attribute is a
tag, except `name`, which is for people and no reason for a decision.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from processors.registry import Subject

CLINICIAN, TECHNICIAN = "Clinician", "Technician"
_TYPE_OF = {"clinician": CLINICIAN, "technician": TECHNICIAN}
_DEVICE_ATTRIBUTES = ("kind", "manufacturer", "model", "firmware")
_PERSON_KNOWN = frozenset({"name", "kind", "roles", "wards", "ward", "shift"})
_DEVICE_KNOWN = frozenset({"name", "ward", *_DEVICE_ATTRIBUTES})
EMERGENCY = "BTG"
"""HL7's purpose of use for breaking the glass."""
DAY_MINUTES = 1440
_MINUTE_US = 60_000_000
_SHIFT = re.compile(
    r"(?P<h1>[01][0-9]|2[0-3]):(?P<m1>[0-5][0-9])-(?P<h2>[01][0-9]|2[0-3]):(?P<m2>[0-5][0-9])"
    r"(?:(?P<sign>[+-])(?P<zh>0[0-9]|1[0-4]):(?P<zm>[0-5][0-9]))?",
    re.ASCII,
)


class BadAttributeError(ValueError):
    """An attribute in the registry cannot be read."""


@dataclass(frozen=True, slots=True)
class Shift:
    """Minutes of the UTC day, `end` excluded; one that ends before it starts goes past midnight."""

    start: int
    end: int

    def minutes_left(self, minute: int) -> int:
        """Return how many minutes of it are left at a minute of the day; 0 outside of it."""
        length = (self.end - self.start) % DAY_MINUTES or DAY_MINUTES
        since = (minute - self.start) % DAY_MINUTES
        return length - since if since < length else 0

    @property
    def name(self) -> str:
        """Write it as policies name it: `Shift::"07:00-15:00"`, in UTC."""
        return "-".join(f"{at // 60:02}:{at % 60:02}" for at in (self.start, self.end))


def parse_shifts(text: str) -> tuple[Shift, ...]:
    """Read `HH:MM-HH:MM`, in UTC or with an offset such as `+01:00` behind it; several with commas."""
    shifts = []
    for part in _listed(text):
        match = _SHIFT.fullmatch(part)
        if match is None:
            message = f"shift {part[:40]!r} is no HH:MM-HH:MM, with an offset from UTC or without"
            raise BadAttributeError(message)
        east = int(match["zh"] or 0) * 60 + int(match["zm"] or 0)
        east = -east if match["sign"] == "-" else east
        start = (int(match["h1"]) * 60 + int(match["m1"]) - east) % DAY_MINUTES
        end = (int(match["h2"]) * 60 + int(match["m2"]) - east) % DAY_MINUTES
        shifts.append(Shift(start, end))
    return tuple(shifts)


def minute_of(time_us: int) -> int:
    """Return the minute of the UTC day."""
    return time_us // _MINUTE_US % DAY_MINUTES


def roles_of(subject: Subject) -> frozenset[str]:
    """Return the roles of a person; none for what is not registered as one."""
    if subject.attributes.get("kind") not in _TYPE_OF:
        return frozenset()
    return frozenset(_listed(subject.attributes.get("roles", "")))


def person_type(subject: Subject) -> str | None:
    """Return the Cedar type of a person; None for what is none."""
    return _TYPE_OF.get(subject.attributes.get("kind", ""))


@dataclass(frozen=True, slots=True)
class Facts:
    """A request in Cedar's form, and the same for the decision record."""

    request: dict[str, Any]
    entities: list[dict[str, Any]]
    attributes: dict[str, str]
    shift_minutes_left: int | None
    """None where the person is on no shift, or has none."""
    is_emergency: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """The part of a request that its facts follow from, besides the registry."""

    action: str
    target: str
    purpose: str
    session: str
    is_live: bool
    subject_signed: bool


def facts_of(person: Subject, device: Subject, asked: Asked, time_us: int) -> Facts:
    """Tell everything that policies are told; raises BadAttributeError for an attribute that is unreadable.

    The person must have a `person_type`.
    """
    kind, minute = person_type(person) or "", minute_of(time_us)
    shifts = parse_shifts(person.attributes.get("shift", ""))
    left = max((shift.minutes_left(minute) for shift in shifts), default=0)
    wards = _listed(person.attributes.get("wards", "")) or _listed(person.attributes.get("ward", ""))
    roles = sorted(roles_of(person))
    principal = _uid(kind, person.did)
    resource = _uid("Device", device.did)
    groups = [_uid("Ward", ward) for ward in wards] + [_uid("Role", role) for role in roles]
    entities = [
        {"uid": _uid("Shift", s.name), "attrs": {"start": s.start, "end": s.end}, "parents": []}
        for s in dict.fromkeys(shifts)
    ]
    entities.append(
        {
            "uid": principal,
            "attrs": {},
            "parents": groups + [entity["uid"] for entity in entities],
            "tags": _rest(person.attributes, _PERSON_KNOWN),
        }
    )
    attrs: dict[str, Any] = {n: device.attributes[n] for n in _DEVICE_ATTRIBUTES if device.attributes.get(n)}
    told = {f"resource.{name}": value for name, value in attrs.items()}
    ward = device.attributes.get("ward", "")
    if ward:
        attrs["ward"] = {"__entity": _uid("Ward", ward)}
        told["resource.ward"] = ward
    entities.append(
        {
            "uid": resource,
            "attrs": attrs,
            "parents": [_uid("Ward", ward)] if ward else [],
            "tags": _rest(device.attributes, _DEVICE_KNOWN),
        }
    )
    context: dict[str, Any] = {
        "emergency": asked.purpose == EMERGENCY,
        "subjectSigned": asked.subject_signed,
        "minute": minute,
        "target": asked.target,
    }
    if shifts:
        context["onShift"] = left > 0
    told |= {f"context.{name}": _text(value) for name, value in context.items()}
    if asked.purpose:
        context["purpose"] = {"__entity": _uid("Purpose", asked.purpose)}
        told["context.purpose"] = asked.purpose
    if asked.session:
        # The device is part of the name: sessions of two devices are two, whatever they are called.
        session = _uid("Session", f"{device.did}/{asked.session}")
        entities.append({"uid": session, "attrs": {"live": asked.is_live}, "parents": [resource]})
        context["session"] = {"__entity": session}
        told["context.session.live"] = _text(asked.is_live)
    told |= {
        "principal.kind": kind,
        "principal.wards": ",".join(wards),
        "principal.roles": ",".join(roles),
        "principal.shifts": ",".join(shift.name for shift in shifts),
    }
    told |= {f"principal.tag.{n}": v for n, v in _rest(person.attributes, _PERSON_KNOWN).items()}
    told |= {f"resource.tag.{n}": v for n, v in _rest(device.attributes, _DEVICE_KNOWN).items()}
    request = {
        "principal": principal,
        "action": _uid("Action", asked.action),
        "resource": resource,
        "context": context,
    }
    return Facts(request, entities, told, left if shifts and left else None, asked.purpose == EMERGENCY)


def _uid(kind: str, name: str) -> dict[str, str]:
    return {"type": kind, "id": name}


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _rest(attributes: Mapping[str, str], known: frozenset[str]) -> dict[str, str]:
    return {name: value for name, value in attributes.items() if name not in known}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
