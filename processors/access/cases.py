"""Tests of policies: persons, devices, requests, and what each is to come to. No keys, no topics.

TOML:

    [person.nora]
    kind = "clinician"
    wards = "ICU-2"

    [device.pump7]
    kind = "infusion-pump"
    ward = "ICU-2"

    [[request]]
    name = "a nurse on her ward"
    person = "nora"
    device = "pump7"
    action = "login"
    purpose = "TREAT"
    at = "09:30"            # of the UTC day
    expect = "permit"       # or "deny"
    reason = "policy"       # may be left out, like what follows
    session = "s1"          # left out: no session
    live = true             # the session is open
    approvals = ["carla"]   # who signs the request, besides the device
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from processors.access.cedar import PolicyBook
from processors.access.conditions import PolicyError
from processors.access.decide import Request, Verdict, View, decide
from processors.access.facts import DAY_MINUTES
from processors.access.policies import PolicyTable
from processors.registry import Key, Registry, Subject
from schemas.decisions import DecisionReason
from schemas.records import EvidenceRef
from schemas.trust import TrustRoot

_KEY = "k1"
_MINUTE_US = 60_000_000
_TIME = re.compile(r"(?P<hours>[01][0-9]|2[0-3]):(?P<minutes>[0-5][0-9])", re.ASCII)
_TEXTS = ("name", "person", "device", "action", "purpose", "at", "expect", "reason", "session", "target")
_REQUIRED = ("name", "person", "device", "action", "at", "expect")


@dataclass(frozen=True, slots=True)
class Case:
    """A request and its expected outcome; `reason` None: any."""

    name: str
    request: Request
    minute: int
    is_permit: bool
    reason: DecisionReason | None


@dataclass(frozen=True, slots=True)
class Result:
    """What a case came to."""

    case: Case
    verdict: Verdict

    @property
    def is_as_expected(self) -> bool:
        """Tell whether effect and reason are those that were expected."""
        case, verdict = self.case, self.verdict
        return verdict.is_permit is case.is_permit and case.reason in (None, verdict.reason)


class _Cast(Registry):
    """A registry of whoever plays in the cases, each with one valid key."""

    def __init__(self, trust: TrustRoot, persons: Mapping[str, Any], devices: Mapping[str, Any]) -> None:
        super().__init__(trust)
        for named, purpose in ((persons, "APPROVAL"), (devices, "EVENT")):
            for name, attributes in named.items():
                key = Key(_KEY, b"", purpose, 0)
                did = _did(name)
                self._subjects[did] = Subject(did, 1, b"", _attributes(name, attributes), {_KEY: key})


def run_cases(text: str, book: PolicyBook) -> list[Result]:
    """Decide every request of a file; raises PolicyError for one that is not as described above."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = f"the cases are not TOML: {error}"
        raise PolicyError(message) from error
    unknown = sorted(tables.keys() - {"person", "device", "request"})
    if unknown:
        message = f"unknown table {unknown[0]!r}: expected [person.NAME], [device.NAME], [[request]]"
        raise PolicyError(message)
    trust = TrustRoot("cases", bytes(32), {})
    persons, devices = _named(tables, "person"), _named(tables, "device")
    registry, policies = _Cast(trust, persons, devices), PolicyTable(trust)
    policies.book = book
    view = View(registry, policies, registry_fresh=True, policies_fresh=True)
    requests = tables.get("request", [])
    if not isinstance(requests, list) or not requests:
        message = "no [[request]]"
        raise PolicyError(message)
    cases = [_case(each, number) for number, each in enumerate(requests, 1)]
    return [Result(case, decide(case.request, view, case.minute * _MINUTE_US)) for case in cases]


def _named(tables: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    found = tables.get(kind, {})
    if not isinstance(found, dict):
        message = f"expected [{kind}.NAME]"
        raise PolicyError(message)
    return found


def _attributes(name: str, found: object) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        message = f"attributes of {name!r} must be texts"
        raise PolicyError(message)
    return found


def _case(found: Any, number: int) -> Case:
    where = f"request {number}"
    if not isinstance(found, dict):
        message = f"{where} is no table"
        raise PolicyError(message)
    unknown = sorted(found.keys() - {*_TEXTS, "live", "approvals"})
    missing = [name for name in _REQUIRED if name not in found]
    if unknown or missing:
        message = f"{where} has unknown {unknown[0]!r}" if unknown else f"{where} has no {missing[0]!r}"
        raise PolicyError(message)
    wrong = [name for name in _TEXTS if not isinstance(found.get(name, ""), str)]
    approvals = found.get("approvals", [])
    if wrong or not isinstance(approvals, list) or not isinstance(found.get("live", False), bool):
        message = f"{where}: {wrong[0] if wrong else 'approvals or live'} is of another type"
        raise PolicyError(message)
    at = _TIME.fullmatch(found["at"])
    reason = found.get("reason")
    if at is None or found["expect"] not in ("permit", "deny"):
        message = f"{where}: at is HH:MM, expect is permit or deny"
        raise PolicyError(message)
    if reason is not None and reason not in set(DecisionReason):
        message = f"{where}: reason {reason!r} is none of {', '.join(DecisionReason)}"
        raise PolicyError(message)
    request = Request(
        _did(found["device"]),
        _KEY,
        _did(found["person"]),
        found["action"],
        found.get("target", ""),
        found.get("purpose", ""),
        found.get("session", ""),
        EvidenceRef("", 0, number),
        tuple(f"{_did(str(name))}#{_KEY}" for name in approvals),
        is_live=found.get("live", False),
    )
    minute = int(at["hours"]) * 60 + int(at["minutes"]) + DAY_MINUTES  # a day that has one before it
    return Case(
        found["name"],
        request,
        minute,
        found["expect"] == "permit",
        None if reason is None else DecisionReason(reason),
    )


def _did(name: str) -> str:
    return f"did:example:{name}"
