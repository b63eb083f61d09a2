"""Which states stay in objects between batches; the others are bytes until they are judged again."""

from collections.abc import Iterable
from weakref import WeakSet

from processors.detect.telemetry_state import TelemetryState

MOST_LOOSE = 1000
"""States that are kept as objects, each some ten thousand bytes. To read one from bytes again costs half as
much as to judge its event: a small fleet is spared that, or some devices with open findings."""


class Loose:
    """The first of them, as long as their owner keeps them."""

    def __init__(self) -> None:
        self._those = WeakSet[TelemetryState]()

    def settle(self, written: Iterable[tuple[TelemetryState, bytes]]) -> None:
        """Let states in objects stay so where there is room; others are their bytes, as they were written."""
        if len(self._those) >= MOST_LOOSE:
            self._those = WeakSet(each for each in self._those if each.is_loose)
        for state, data in written:
            if state not in self._those and len(self._those) >= MOST_LOOSE:
                state.pack(data)
            else:
                self._those.add(state)
