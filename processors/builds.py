"""Builds: model and firmware of the devices in service, counted as the registry's entries come.

Names come from entries that authorities signed, and may still be long or odd: what is shown of them is
printable and short, and two that differ stay two.
"""

from dataclasses import dataclass

from blake3 import blake3

from processors.model import RawRecord
from processors.registry import Registry, Subject
from schemas.trust import TrustRoot

MAX_NAME = 64
_UNKNOWN = "unknown"
"""Firmware of a device whose entry names a model only."""


@dataclass(frozen=True, slots=True)
class Build:
    """What one device is, as of now; the count is of all in service that are the same."""

    model: str
    firmware: str
    devices: int
    since_us: int
    """Broker time from which the device is of this build; 0 where it always was."""


class Builds:
    """Which device is of which build; counts are kept, never made by going through devices."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[tuple[str, str], int]] = {}
        self._devices: dict[tuple[str, str], int] = {}
        self._left: dict[str, None] = {}

    def note(self, subject: Subject, time_us: int) -> None:
        """Take what an entry of that broker time made of a subject."""
        known = self._of.get(subject.did)
        name = _name(subject)
        if name == (known[0] if known is not None else None):
            return
        if known is not None:
            self._left[subject.did] = None
            del self._of[subject.did]
            self._devices[known[0]] -= 1
            if not self._devices[known[0]]:
                del self._devices[known[0]]
        if name is not None:
            # What was found before a device was known is about the build that it is first said to be.
            self._of[subject.did] = name, 0 if subject.version == 1 else time_us
            self._devices[name] = self._devices.get(name, 0) + 1

    def of(self, device_id: str) -> Build | None:
        """Return a device's build; None where no model is known, or the device is out of service."""
        known = self._of.get(device_id)
        if known is None:
            return None
        (model, firmware), since_us = known
        return Build(model, firmware, self._devices[model, firmware], since_us)

    def take_left(self) -> list[str]:
        """Return the devices that have left their build since this was asked last."""
        left, self._left = list(self._left), {}
        return left


class BuildRegistry(Registry):
    """The registry with its builds."""

    def __init__(self, trust: TrustRoot) -> None:
        super().__init__(trust)
        self.builds = Builds()

    def apply(self, record: RawRecord) -> None:
        """Take the next record of the topic; a bad one only moves the offset."""
        super().apply(record)
        subject = self.subject((record.key or b"").decode("utf-8", "replace"))
        if subject is not None and subject.changed_at == record.offset:
            self.builds.note(subject, record.append_us)


def _name(subject: Subject) -> tuple[str, str] | None:
    model, firmware = (_shown(subject.attributes.get(each, "")) for each in ("model", "firmware"))
    if not model or subject.decommissioned_at is not None:
        return None
    return model, firmware or _UNKNOWN


def _shown(text: str) -> str:
    """Return a text as it is where a person can read it; else what can be read of it, and a digest."""
    text = text.strip()
    readable = "".join(each if each.isprintable() else "?" for each in text[:MAX_NAME])
    if readable == text:
        return text
    return f"{readable}~{blake3(text.encode('utf-8', 'surrogatepass')).hexdigest(length=4)}"
