"""Cases: alerts that were told and are not over. What a later message of the same cause goes on from."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from processors.alert_rules import Technique
from processors.correlate.groups import BUILD, Scope
from processors.ocsf import Status
from schemas.records import Severity

K = TypeVar("K")

FLEET_DRIFT = "fleet_drift"
"""The rule of an alert about a build."""
MAX_LISTED = 200
"""Alerts that were held back are listed up to so many, and counted beyond."""


@dataclass(slots=True)
class Case:
    """One alert in its life; `*_ms` of the broker's clock for what happened, else of the caller's."""

    uid: str
    analytic: str
    scope: Scope
    title: str
    types: tuple[str, ...]
    severity: Severity
    first_ms: int
    last_ms: int
    heard_ms: int
    """When something new was heard of it, by the caller's clock."""
    told_ms: int
    """When it was told last, by the caller's clock."""
    device_id: str | None = None
    subject: str | None = None
    ward: str = ""
    techniques: tuple[Technique, ...] = ()
    is_incident: bool = False
    is_silence: bool = False
    is_event: bool = False
    """Something that happened, and is not said to be over: a denial."""
    devices: dict[str, None] = field(default_factory=dict)
    members: dict[str, bool] = field(default_factory=dict)
    """Findings that it stands for, and whether each is a state that lasts."""
    status: Status = Status.NEW
    muted_by: str = ""
    suppressed: Counter[str] = field(default_factory=Counter)
    """Records held back because of it, by rule."""
    suppressed_uids: dict[str, None] = field(default_factory=dict)
    messages: int = 0

    @property
    def lasts(self) -> bool:
        """Tell whether something that it stands for goes on."""
        return any(self.members.values())

    @property
    def is_fleet(self) -> bool:
        """Tell whether it is about a build, whose devices have alerts of their own."""
        return self.analytic == FLEET_DRIFT and self.scope.kind == BUILD

    def list_suppressed(self, uid: str) -> None:
        """Note an alert that was held back because of it, while there is room."""
        if len(self.suppressed_uids) < MAX_LISTED:
            self.suppressed_uids[uid] = None


class Cases:
    """Cases by what is asked for them; at most `limit`, the oldest are forgotten first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_uid: dict[str, Case] = {}
        self._owner: dict[str, str] = {}  # a finding's uid: the case that stands for it
        self._by_device: dict[tuple[str, str], dict[str, None]] = {}
        self._by_scope: dict[tuple[str, Scope], dict[str, None]] = {}
        self.forgotten = 0

    def __len__(self) -> int:
        """Count them."""
        return len(self._by_uid)

    def __iter__(self) -> Iterator[Case]:
        """Go through them, oldest first; the caller may end some on the way."""
        return iter(list(self._by_uid.values()))

    def get(self, uid: str) -> Case | None:
        """Look a case up by its id."""
        return self._by_uid.get(uid)

    def owner_of(self, finding_uid: str) -> Case | None:
        """Return the case that stands for a finding."""
        return self._by_uid.get(self._owner.get(finding_uid, ""))

    def of_device(self, analytic: str, device_id: str) -> Iterator[Case]:
        """Return the cases of a rule that are about a device, incidents too."""
        return (self._by_uid[uid] for uid in self._by_device.get((analytic, device_id), ()))

    def of_scope(self, analytic: str, scope: Scope) -> Iterator[Case]:
        """Return the cases of a group."""
        return (self._by_uid[uid] for uid in self._by_scope.get((analytic, scope), ()))

    def of_ward(self, analytic: str, ward: str) -> Iterator[Case]:
        """Return the cases of a rule in a ward."""
        return self.of_scope(analytic, Scope("ward", ward))

    def keep(self, case: Case) -> None:
        """Take a case in, or note what was added to it."""
        self._by_uid[case.uid] = case
        self._by_scope.setdefault((case.analytic, case.scope), {})[case.uid] = None
        for device_id in case.devices:
            self._by_device.setdefault((case.analytic, device_id), {})[case.uid] = None
        for member in case.members:
            self._owner[member] = case.uid
        if len(self._by_uid) > self._limit:
            self.end(next(iter(self._by_uid.values())))
            self.forgotten += 1

    def end(self, case: Case) -> None:
        """Forget a case."""
        self._by_uid.pop(case.uid, None)
        _drop(self._by_scope, (case.analytic, case.scope), case.uid)
        for device_id in case.devices:
            _drop(self._by_device, (case.analytic, device_id), case.uid)
        for member in case.members:
            self._owner.pop(member, None)


def _drop(index: dict[K, dict[str, None]], key: K, uid: str) -> None:
    found = index.get(key)
    if found is not None:
        found.pop(uid, None)
        if not found:
            del index[key]
