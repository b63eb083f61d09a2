"""What an observer saw, and when: the data of all legs but the first moment, which the generator has.

Times are monotonic, in ns, of the machine that measures. A record at offset o of a topic is visible from the
first moment at which the last stable offset was above o, which is all that a reader of committed records
gets; it is in a signed checkpoint from the first moment at which the published checkpoint covered it, and so
on.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]
Place = tuple[str, int]
"""Topic and partition."""
NEVER = -1


@dataclass(slots=True)
class Steps:
    """A number that only rises, and when it was seen to have risen."""

    times_ns: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)

    def saw(self, value: int, at_ns: int) -> bool:
        """Note a value; True where it is above the last one."""
        if self.values and value <= self.values[-1]:
            return False
        self.times_ns.append(at_ns)
        self.values.append(value)
        return True

    def first_reaching(self, wanted: npt.NDArray[np.int64]) -> Times:
        """When the number first was each wanted one or more; NEVER where it was not."""
        values, times = np.asarray(self.values, np.int64), np.asarray([*self.times_ns, NEVER], np.int64)
        return times[np.searchsorted(values, wanted, side="left")]


@dataclass(frozen=True, slots=True)
class EpochLeaf:
    """A shard's checkpoint in the epoch log: at its tree's end lies the record at `last_offset`."""

    index: int
    place: Place
    last_offset: int


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert, and the records that it says it tells of: `{"device.rejected/3": "12-40,44"}`."""

    at_ns: int
    covers: Mapping[str, str]


@dataclass(slots=True)
class Lag:
    """How much waits, at one moment."""

    at_ns: int
    raw: int
    """Raw records that ingest has not committed."""
    unsealed: int | None
    """Committed events and rejections without a leaf in a signed checkpoint; None: no log is here."""


@dataclass(slots=True)
class Sightings:
    """Everything that was seen."""

    stable: dict[Place, Steps] = field(default_factory=dict)
    """Last stable offsets."""
    covered: dict[Place, Steps] = field(default_factory=dict)
    """Offset of the last record that the published checkpoint covers."""
    epoch: list[EpochLeaf] = field(default_factory=list)
    anchored: Steps = field(default_factory=Steps)
    """Confirmed sizes of the epoch log."""
    alerts: list[Alert] = field(default_factory=list)
    lag: list[Lag] = field(default_factory=list)

    def unsealed(self) -> int:
        """Count what is committed and has no leaf in a signed checkpoint."""
        waiting = 0
        for place, covered in self.covered.items():
            stable = self.stable[place].values
            if not stable:
                continue
            # Before the first look at a checkpoint nothing is known of what was there when we came.
            last = covered.values[-1] + 1 if covered.values else stable[0]
            # A transaction's marker lies behind its records and is no leaf.
            waiting += max(0, stable[-1] - last - 1)
        return waiting

    def visible(self, place: Place, offsets: npt.NDArray[np.int64]) -> Times:
        """When records became visible to readers of what is committed."""
        return self._reached(self.stable, place, offsets + 1)

    def in_checkpoint(self, place: Place, offsets: npt.NDArray[np.int64]) -> Times:
        """When records were in a signed, published checkpoint."""
        return self._reached(self.covered, place, offsets)

    def in_anchor(self, place: Place, offsets: npt.NDArray[np.int64]) -> Times:
        """When the ledger had confirmed a root over them."""
        leaves = Steps()
        for leaf in self.epoch:
            if leaf.place == place:
                leaves.saw(leaf.last_offset, leaf.index)
        sizes = [index + 1 for index in leaves.times_ns]
        at = np.searchsorted(np.asarray(leaves.values, np.int64), offsets, side="left")
        # Beyond any size that is ever anchored where no leaf covers the record.
        needed = np.asarray([*sizes, np.iinfo(np.int64).max], np.int64)[at]
        return self.anchored.first_reaching(needed)

    @staticmethod
    def _reached(steps: Mapping[Place, Steps], place: Place, wanted: npt.NDArray[np.int64]) -> Times:
        return steps.get(place, Steps()).first_reaching(wanted)

    def save(self, path: Path) -> None:
        """Write to a file."""
        document = {
            "stable": _pack(self.stable),
            "covered": _pack(self.covered),
            "epoch": [[leaf.index, *leaf.place, leaf.last_offset] for leaf in self.epoch],
            "anchored": [self.anchored.times_ns, self.anchored.values],
            "alerts": [[each.at_ns, dict(each.covers)] for each in self.alerts],
            "lag": [[each.at_ns, each.raw, each.unsealed] for each in self.lag],
        }
        path.write_text(json.dumps(document), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Sightings":
        """Read what `save` wrote."""
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            stable=_unpack(found["stable"]),
            covered=_unpack(found["covered"]),
            epoch=[EpochLeaf(index, (topic, part), last) for index, topic, part, last in found["epoch"]],
            anchored=Steps(*found["anchored"]),
            alerts=[Alert(at_ns, covers) for at_ns, covers in found["alerts"]],
            lag=[Lag(*each) for each in found["lag"]],
        )


def _pack(steps: Mapping[Place, Steps]) -> list[list[Any]]:
    return [[*place, each.times_ns, each.values] for place, each in steps.items()]


def _unpack(found: list[list[Any]]) -> dict[Place, Steps]:
    return {(topic, part): Steps(times, values) for topic, part, times, values in found}
