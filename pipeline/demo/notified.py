"""What was decided and told: `access.decisions`, `alerts` and a party's topic, as anybody sees them."""

import json
from collections import Counter
from dataclasses import dataclass, field, replace

from pipeline.partytopics import party_topic
from processors.model import RawRecord
from processors.ocsf import reading
from schemas.decisions import DecisionKind, Effect, decode_decision

PARTY = "soc"
"""Who is told of every alert of the demo."""
PARTY_TOPIC = party_topic(PARTY)


@dataclass(frozen=True, slots=True)
class SeenIncident:
    """One cause at many devices. `start_ms` is broker time."""

    rule: str
    devices: int
    """How many it is about."""
    named: frozenset[str]
    """Those that its messages name."""
    start_ms: int
    at_s: float
    """When it was first visible (monotonic seconds)."""


@dataclass(slots=True)
class Decided:
    """Requests by what was decided; ends of permits are not counted."""

    permitted: int = 0
    denied: Counter[str] = field(default_factory=Counter)
    """By reason."""
    asked_at: Counter[str] = field(default_factory=Counter)
    """By device: each request that ingest accepted has exactly one decision."""

    def take(self, record: RawRecord) -> None:
        """Note a record of `access.decisions`."""
        decision = decode_decision(record.value or b"")
        if decision.kind is not DecisionKind.REQUEST:
            return
        self.asked_at[decision.device_id] += 1
        if decision.effect is Effect.PERMIT:
            self.permitted += 1
        else:
            self.denied[decision.reason.value] += 1


@dataclass(slots=True)
class Told:
    """Alerts, each once by its `ce_id`, and what the party's topic made of them."""

    alerts: int = 0
    """Records of `alerts`, repeats among them."""
    first_s: dict[tuple[str, str], float] = field(default_factory=dict)
    """Rule and device to the moment at which an alert of both was first visible (monotonic seconds)."""
    suppressed: int = 0
    incidents: dict[str, SeenIncident] = field(default_factory=dict)
    """By the alert's uid: messages about one incident are one."""
    due: int = -1
    """Offset of the newest alert that the party must be told of."""
    routed: int = -1
    """Offset of the newest alert that it was told of."""
    before: int = 0
    """The party's last number before the demo."""
    numbers: set[int] = field(default_factory=set)
    """The party's numbers since."""
    _ids: set[str] = field(default_factory=set)

    @property
    def newest(self) -> int:
        """The party's newest number."""
        return max(self.numbers, default=self.before)

    def take_alert(self, record: RawRecord, at_s: float) -> None:
        """Note a record of `alerts`."""
        self.alerts += 1
        alert = json.loads(record.value or b"")
        identity = alert["metadata"]["uid"]
        if identity in self._ids:
            return  # made again after a crash: nobody is told twice
        self._ids.add(identity)
        rule, unmapped = reading.rule(alert), alert.get("unmapped", {})
        self.first_s.setdefault((rule, reading.text(alert, "device", "uid")), at_s)
        if unmapped.get("incident"):
            named = frozenset(each["uid"] for each in alert.get("resources", ()) if "uid" in each)
            seen = SeenIncident(rule, unmapped["devices"], named, alert["start_time"], at_s)
            self._incident(reading.cause(alert), seen)
        if unmapped.get("suppressed_by"):
            self.suppressed += 1
        else:
            self.due = record.offset

    def _incident(self, uid: str, seen: SeenIncident) -> None:
        known = self.incidents.get(uid, seen)
        self.incidents[uid] = replace(
            known,
            devices=max(known.devices, seen.devices),
            named=known.named | seen.named,
            start_ms=min(known.start_ms, seen.start_ms),
        )

    def take_routed(self, record: RawRecord, *, earlier: bool) -> None:
        """Note a record of the party's topic; `earlier`: of before the demo."""
        headers = dict(record.headers)
        number = int(headers["party.sequence"] or b"0")
        if earlier:
            self.before = max(self.before, number)
            return
        self.numbers.add(number)
        self.routed = max(self.routed, int((headers["source"] or b"").rpartition(b"/")[2]))
