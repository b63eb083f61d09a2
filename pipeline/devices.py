"""The states of one raw topic-partition: a cache over the store, valid only between commits."""

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import Any

from pipeline.statestore import Partition, StateStore
from processors.judge import Detectors
from processors.state import DELTA, DeviceState, decode_state, last_append_if_due

PROGRESS_EVERY = 5000
"""States read between two signs of life while a partition is taken up."""


class _OrphanError(Exception):
    """A delta stands in the store, and what it changes does not."""


class PartitionStates:
    """Device states of one partition; `touch` marks what the next commit must carry."""

    def __init__(
        self,
        partition: Partition,
        store: StateStore,
        detectors: Detectors,
        on_progress: Callable[[int], None] = lambda _devices: None,
        expiry_of: Callable[[bytes], int] | None = None,
    ) -> None:
        """`expiry_of` reads from the detectors' part when the first permit of a device ends, or 0."""
        self.partition = partition
        self._store, self._detectors = store, detectors
        self._cache: dict[str, DeviceState] = {}
        self._touched: dict[str, DeviceState] = {}
        self.last_append_ms: dict[str, int] = {}
        """Of each device that is due to speak again: not of those already reported silent."""
        self.next_expiry_us: dict[str, int] = {}
        """Of each device with a live permit, when the first of them ends."""
        try:
            self._read_all(on_progress, expiry_of)
        except _OrphanError as error:
            raise store.damaged(partition, error) from error

    def _read_all(self, on_progress: Callable[[int], None], expiry_of: Callable[[bytes], int] | None) -> None:
        for number, (key, value, delta) in enumerate(_with_deltas(self._store.items(self.partition))):
            if number % PROGRESS_EVERY == 0:
                on_progress(number)
            last_append_ms = last_append_if_due(value, delta)
            if last_append_ms:
                self.last_append_ms[key.decode()] = last_append_ms
            if expiry_of is not None and (ends_us := expiry_of(decode_state(value, delta)[1])):
                self.next_expiry_us[key.decode()] = ends_us

    def state_of(self, device_id: str) -> DeviceState:
        """Return a device's state, from the cache, the store, or new."""
        state = self._cache.get(device_id)
        if state is None:
            key = device_id.encode()
            stored = self._store.get(self.partition, key)
            if stored is None:
                state = DeviceState(self._detectors.new())
            else:
                state, detectors = decode_state(stored, self._store.get(self.partition, key + DELTA))
                state.detectors = self._detectors.load(detectors)
            self._cache[device_id] = state
        return state

    def detectors_of(self, device_id: str) -> Any:
        """Return the detectors' part of a device's state."""
        return self.state_of(device_id).detectors

    def touch(self, device_id: str, state: DeviceState) -> None:
        """Mark a state as changed by this batch."""
        self._touched[device_id] = state

    def changes(self) -> Iterable[tuple[bytes, bytes]]:
        """Encode each touched state once: the batch's changelog records. The marks are gone then."""
        marked, self._touched = self._touched, {}
        touched = marked.values()
        written = self._detectors.dump_changes(
            [state.detectors for state in touched], [state.is_due_whole for state in touched]
        )
        changes = []
        for (device_id, state), detectors in zip(marked.items(), written, strict=True):
            suffix, value = state.write(detectors)
            changes.append((device_id.encode() + suffix, value))
        return changes

    @property
    def cached(self) -> int:
        """How many states are in memory."""
        return len(self._cache)

    def keep(self, most: int) -> None:
        """Forget states beyond so many, once all that was written is in the store; marked ones stay.

        The newest go: devices speak in turn, so of the oldest each would go just before it speaks again. But
        one of the oldest goes each time, since some never speak again.
        """
        over = len(self._cache) - most
        if over <= 0:
            return
        oldest = next((each for each in self._cache if each not in self._touched), None)
        if oldest is not None:
            del self._cache[oldest]
        newest = (each for each in reversed(self._cache) if each not in self._touched)
        for device_id in list(islice(newest, over - 1)):
            del self._cache[device_id]


def keep_most(states: Collection[PartitionStates], most: int) -> None:
    """Keep so many states of all partitions together: of each as large a part as of the others."""
    cached = sum(each.cached for each in states)
    if cached > most:
        for each in states:
            each.keep(each.cached * most // cached)


def _with_deltas(items: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes, bytes | None]]:
    """Join each state with its delta, whose key follows, if only after those that begin with its own.

    Raises _OrphanError for a delta without a state: no commit leaves such a thing.
    """
    waiting: dict[bytes, bytes] = {}
    for key, value in items:
        if key.endswith(DELTA):
            own = key[: -len(DELTA)]
            if own not in waiting:
                message = f"a device_delta of {own!r}, whose device_state is not there"
                raise _OrphanError(message)
            yield own, waiting.pop(own), value
            continue
        # A key that this one does not begin with comes to its delta, if it has one, before this one does.
        for over in [each for each in waiting if not key.startswith(each)]:
            yield over, waiting.pop(over), None
        waiting[key] = value
    for key, value in waiting.items():
        yield key, value, None
