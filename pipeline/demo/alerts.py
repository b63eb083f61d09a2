"""What became of the alerts: each output must have every number, and the topics say which there are."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.demo.notified import SeenIncident
from pipeline.demo.observed import Observed
from pipeline.demo.subscribers import Inbox, Subscribers

MAX_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Delivered:
    """One output at the end."""

    output: str
    delivered: int
    """Numbers that came, each once."""
    missing: Sequence[int]
    """Numbers that did not."""
    faults: Sequence[str]
    away_s: float
    missed: int
    caught_up_s: float | None


@dataclass(frozen=True, slots=True)
class AlertsOutcome:
    """What was told to the party, and what `alerts` holds besides."""

    deliveries: Sequence[Delivered]
    unnumbered: Sequence[int]
    """Numbers that the party's own topic leaves out."""
    alerts: int
    suppressed: int
    incidents: Sequence[SeenIncident]

    @property
    def gaps(self) -> int:
        """Numbers that are missing, at any output or in the party's topic."""
        return len(self.unnumbered) + sum(len(each.missing) for each in self.deliveries)

    def problems(self) -> list[str]:
        """Say what did not go as it must, one sentence each."""
        told = [f"alerts: {each.output}: {fault}" for each in self.deliveries for fault in each.faults[:1]]
        told += [
            f"alerts: {each.output} lacks {len(each.missing)} numbers: {_listed(each.missing)}"
            for each in self.deliveries
            if each.missing
        ]
        told += [f"alerts: {e.output} was told of nothing" for e in self.deliveries if not e.delivered]
        if self.unnumbered:
            told.append(f"alerts: the party's topic leaves numbers out: {_listed(self.unnumbered)}")
        return told

    def to_json(self) -> dict[str, Any]:
        """The report's member `alerts`."""
        return {
            "delivered": {each.output: each.delivered for each in self.deliveries},
            "gaps": self.gaps,
            "suppressed": self.suppressed,
            "incidents": len(self.incidents),
        }


class Deliveries:
    """Holds what the subscribers have against what the topics say."""

    def __init__(self, observed: Observed, subscribers: Subscribers) -> None:
        self._observed, self._inboxes = observed, subscribers.inboxes
        self._until: int | None = None
        """The last number that counts: what comes later is still on its way."""
        subscribers.newest = lambda: observed.told.newest

    def now(self) -> Mapping[str, int]:
        """How many alerts each output was told of, by the party's newest number."""
        before = self._observed.told.before
        return {name: max(0, inbox.highest - before) for name, inbox in self._inboxes.items()}

    def missing(self, alerts: Callable[[], Iterable[tuple[str, str]]]) -> Callable[[], str]:
        """Say what is still to be told of what there is now; `alerts` are rules and devices to wait for."""
        due: int | None = None

        def text() -> str:
            nonlocal due
            with self._observed.lock:
                told = self._observed.told
                unseen = [rule for rule, device in alerts() if (rule, device) not in told.first_s]
                if unseen:
                    return f"alerts of {', '.join(unseen)}"
                due = told.due if due is None else due
                if told.routed < due:
                    return "alerts to get the party's numbers"
                until = self._until = told.newest if self._until is None else self._until
            behind = {name: until - inbox.highest for name, inbox in self._inboxes.items()}
            return ", ".join(f"{n:,} alerts by {name}" for name, n in behind.items() if n > 0)

        return text

    def outcome(self) -> AlertsOutcome:
        """What there is now."""
        told = self._observed.told
        with self._observed.lock:
            before, numbers = told.before, set(told.numbers)
            alerts, suppressed = told.alerts, told.suppressed
            until = told.newest if self._until is None else self._until
        expected = range(before + 1, until + 1)
        deliveries = [_delivered(name, inbox, expected) for name, inbox in self._inboxes.items()]
        unnumbered = [n for n in expected if n not in numbers]
        return AlertsOutcome(deliveries, unnumbered, alerts, suppressed, self._observed.incidents())


def _delivered(name: str, inbox: Inbox, expected: range) -> Delivered:
    numbers = set(inbox.numbers)
    return Delivered(
        name,
        len(numbers & set(expected)),
        [n for n in expected if n not in numbers],
        list(inbox.faults),
        inbox.away_s,
        inbox.missed,
        inbox.caught_up_s,
    )


def _listed(numbers: Sequence[int]) -> str:
    more = ", ..." if len(numbers) > MAX_EXAMPLES else ""
    return ", ".join(map(str, numbers[:MAX_EXAMPLES])) + more
