"""The legs of an event's way, each timed from the moment at which it was meant to be sent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtests.corpusplan import WARD_DEVICES
from loadtests.latency import Latencies
from loadtests.ledger import ACCEPTED, REJECTED, Verdicts
from loadtests.openloop import UNSET, Sent
from loadtests.sightings import NEVER, Place, Sightings, Times

PUBLISHED, DELAYED = "published", "delayed"
ACCEPT, CHECKPOINT, ANCHOR, REJECT, ALERT = "accepted", "checkpoint", "anchored", "rejected", "alert"


@dataclass(frozen=True, slots=True)
class Leg:
    """One leg: what it leads to, when records came so far and after how long, both in ns and parallel."""

    name: str
    title: str
    came_ns: Times
    took_ns: Times
    missing: int = 0
    """Records that did not come so far while it was watched."""
    why_not: str = ""
    """Why it was not measured; empty where it was."""

    @property
    def latencies(self) -> Latencies:
        """The latencies, sorted."""
        return Latencies.of_ns(self.took_ns)

    def to_json(self) -> dict[str, Any]:
        """Figures in ms."""
        said = {"not_measured": self.why_not} if self.why_not else {}
        return {"title": self.title, **self.latencies.summary(), "missing": self.missing, **said}


@dataclass(frozen=True, slots=True)
class Run:
    """What is known of one run, parallel over its records."""

    sent: Sent
    verdicts: Verdicts
    forged: npt.NDArray[np.bool_]
    devices: npt.NDArray[np.int32]
    sightings: Sightings
    events: str
    rejected: str
    warmup: int
    """So many records at the start count for nothing."""
    absent: Mapping[str, str]
    """Why a leg cannot be measured here, by its name."""
    attacked: npt.NDArray[np.int32]
    """Devices that earlier parts of the corpus attacked: of their wards was told before."""


def legs_of(run: Run) -> dict[str, Leg]:
    """Work out all legs."""
    intended = run.sent.intended_ns()
    counted = np.arange(len(intended)) >= run.warmup
    seen = run.sightings

    def leg(name: str, title: str, chosen: npt.NDArray[np.bool_], look: "Look", topic: str) -> Leg:
        why_not = run.absent.get(name, "")
        at = np.full(len(intended), NEVER, np.int64)
        wanted = chosen & counted
        if not why_not:
            for partition in np.unique(run.verdicts.partitions[wanted]):
                mask = wanted & (run.verdicts.partitions == partition)
                at[mask] = look((topic, int(partition)), run.verdicts.offsets[mask])
        return _leg(name, title, intended, at, wanted, why_not)

    accepted = run.verdicts.kinds == ACCEPTED
    rejected = run.verdicts.kinds == REJECTED
    sent = run.sent.acknowledged_ns != UNSET
    there = sent & counted
    sent_ns, acknowledged_ns = run.sent.sent_ns[there], run.sent.acknowledged_ns[there]
    return {
        DELAYED: Leg(DELAYED, "intended → sent", sent_ns, sent_ns - intended[there]),
        PUBLISHED: Leg(PUBLISHED, "sent → acknowledged", acknowledged_ns, acknowledged_ns - sent_ns),
        ACCEPT: leg(ACCEPT, "raw → accepted", accepted, seen.visible, run.events),
        REJECT: leg(REJECT, "raw → rejected", rejected, seen.visible, run.rejected),
        CHECKPOINT: leg(CHECKPOINT, "raw → signed checkpoint", accepted, seen.in_checkpoint, run.events),
        ANCHOR: leg(ANCHOR, "raw → anchored", accepted, seen.in_anchor, run.events),
        ALERT: _alerts(run, intended, counted & rejected & run.forged),
    }


Look = Callable[[Place, npt.NDArray[np.int64]], Times]


def _leg(  # noqa: PLR0917 - the parts of a leg
    name: str, title: str, intended: Times, at: Times, wanted: npt.NDArray[np.bool_], why_not: str
) -> Leg:
    came = wanted & (at != NEVER)
    missing = 0 if why_not else int(wanted.sum() - came.sum())
    return Leg(name, title, at[came], at[came] - intended[came], missing, why_not)


def _alerts(run: Run, intended: Times, attacks: npt.NDArray[np.bool_]) -> Leg:
    """From the first forgery in each ward to the alert that tells of it.

    Rejections of one ward are one group: what follows the first waits for the group's next message by design.
    """
    wanted = np.zeros(len(intended), bool)
    numbers = np.flatnonzero(attacks)
    wards = run.devices // WARD_DEVICES
    wanted[numbers[np.unique(wards[numbers], return_index=True)[1]]] = True
    title, why_not = "first attack on a ward → alert", run.absent.get(ALERT, "")
    # What the warm-up or an earlier run began is told already, and does not begin anew.
    began = wards[: run.warmup][run.forged[: run.warmup]]
    wanted &= ~np.isin(wards, np.concatenate((began, run.attacked // WARD_DEVICES)))
    at = np.full(len(intended), NEVER, np.int64)
    told = _told(run) if not why_not else {}
    for number in np.flatnonzero(wanted).tolist():
        place = (run.verdicts.partitions[number], run.verdicts.offsets[number])
        at[number] = told.get((int(place[0]), int(place[1])), NEVER)
    return _leg(ALERT, title, intended, at, wanted, why_not)


def _told(run: Run) -> dict[tuple[int, int], int]:
    """When the first alert told of each rejection, by its place."""
    first: dict[tuple[int, int], int] = {}
    for alert in run.sightings.alerts:
        for name, text in alert.covers.items():
            topic, _, partition = name.rpartition("/")
            if topic == run.rejected:
                for offset in offsets_of(text):
                    first.setdefault((int(partition), offset), alert.at_ns)
    return first


def offsets_of(text: str) -> list[int]:
    """Read `12-40,44`, as an alert's `covers` has it."""
    found: list[int] = []
    for part in text.split(","):
        start, dash, end = part.partition("-")
        if start.isdigit() and (not dash or end.isdigit()):
            found += range(int(start), int(end or start) + 1)
    return found
