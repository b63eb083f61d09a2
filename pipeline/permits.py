"""When live permits are judged again: as soon as a fresh table has moved, and when their time is over."""

from collections import deque
from collections.abc import Mapping

from pipeline import metrics
from pipeline.devices import PartitionStates
from pipeline.policies import PolicyFollower
from pipeline.registry import RegistryFollower
from pipeline.statestore import Partition
from pipeline.topics import ACCESS_RAW
from processors.access.guard import Guard
from processors.model import Outcome

MOST_AT_ONCE = 500
"""Devices judged again in one step, so that a change that concerns all of them holds nobody up."""


class Permits:
    """Hands live permits of a worker's partitions to the guard. Begins by judging all of them."""

    def __init__(self, guard: Guard, registry: RegistryFollower, policies: PolicyFollower) -> None:
        self._guard, self._registry, self._policies = guard, registry, policies
        self.begin()

    def begin(self) -> None:
        """Forget what was judged: states were read anew."""
        self._seen: tuple[int, int] | None = None
        self._since = 0
        self._waiting: deque[tuple[Partition, str]] = deque()

    def sweep(self, states: Mapping[Partition, PartitionStates], now_us: int) -> dict[Partition, Outcome]:
        """Judge permits that a change may concern; nothing while a table is stale."""
        if not (self._registry.is_fresh() and self._policies.is_fresh()):
            return {}
        at = (self._registry.table.offset, self._policies.table.changed_at)
        if at != self._seen:
            # What still waits from the change before has not been judged since that one.
            since = 0 if self._seen is None or at[1] != self._seen[1] else self._seen[0]
            self._since = min(since, self._since) if self._waiting else since
            self._seen = at
            live = [place for place in states if place[0] == ACCESS_RAW]
            self._waiting = deque(
                (place, device) for place in live for device in states[place].next_expiry_us
            )
            metrics.PERMITTED_DEVICES.set(len(self._waiting))
        found: dict[Partition, Outcome] = {}
        for _ in range(min(MOST_AT_ONCE, len(self._waiting))):
            place, device = self._waiting.popleft()
            outcome = found.setdefault(place, Outcome())
            self._guard.sweep(states[place], (device,), self._since, now_us, outcome)
        return {place: outcome for place, outcome in found.items() if outcome.decisions}

    def expire(self, states: PartitionStates, known_us: int, outcome: Outcome) -> None:
        """End what is over in a partition of which everything up to a moment was judged."""
        if states.partition[0] == ACCESS_RAW:
            self._guard.expire(states, known_us, outcome)
