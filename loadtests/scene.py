"""Where attacks take place, whom they may hit, and what one of them did."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtests.fleet import Fleet, Monitor, Outgoing

WARD_DEVICES = 12
"""Most monitors of an attack on a ward."""


@dataclass(slots=True)
class Scene:
    """Where attacks take place: the fleet, chance, the topics' partition count, and a stolen device."""

    fleet: Fleet
    rng: random.Random
    partitions: int
    stolen: Monitor
    """Enrolled, then revoked."""
    registration: Outgoing
    """The registry record that once enrolled `stolen`, as it was published."""
    _used: set[str] = field(default_factory=set)

    def victim(self) -> Monitor:
        """Pick a monitor that sends and that nobody has touched yet, or any that sends if all were."""
        sending = self._sending()
        fresh = [m for m in sending if m.device_id not in self._used]
        chosen = self.rng.choice(fresh or sending)
        self._used.add(chosen.device_id)
        return chosen

    def ward(self) -> list[Monitor]:
        """Pick up to `WARD_DEVICES` monitors that send, all of one ward; those that nobody touched first."""
        wards: dict[str, list[Monitor]] = {}
        for monitor in self._sending():
            wards.setdefault(monitor.ward, []).append(monitor)
        fullest = max(wards.values(), key=len)
        chosen = sorted(fullest, key=lambda m: m.device_id in self._used)[:WARD_DEVICES]
        self._used.update(m.device_id for m in chosen)
        return chosen

    def _sending(self) -> list[Monitor]:
        sending = [m for m in self.fleet.monitors if m.latest and not m.silenced and not m.tampered]
        if not sending:
            message = "no healthy monitor is left to attack"
            raise ValueError(message)
        return sending


@dataclass(frozen=True, slots=True)
class Launched:
    """What an attack did: records to publish now, in order, and the device that it is about."""

    device_id: str
    records: Sequence[Outgoing] = ()

    @property
    def device_ids(self) -> frozenset[str]:
        """Every device that it touches."""
        return frozenset((self.device_id, *(record.device_id for record in self.records)))
