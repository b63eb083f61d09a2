"""Judges a batch's events of many devices by rounds: the first of each device, then the second of each.

What cannot be judged by columns, because its device shows something or is alone with its codes, is given back
to be judged event by event.
"""

from collections.abc import Sequence
from itertools import repeat
from operator import attrgetter, is_
from typing import NamedTuple

import numpy as np

from processors.detect.blocks import BLOCK
from processors.detect.config import DetectConfig
from processors.detect.eventcolumns import columns_of, rounds_of
from processors.detect.noiseprints import block_of
from processors.detect.place import Place, place_of
from processors.detect.rounds import Events, take_round
from processors.detect.rowblocks import end_row_blocks
from processors.detect.rows import Array, Rows
from processors.detect.telemetry_state import LEAST_DEVICES, TelemetryState
from processors.model import VerifiedEvent
from schemas.noise import NoiseBlock

MAX_TABLES = 64
"""Of different signals or configurations; devices with others are judged one by one."""
LEAST_ALIKE = 8
"""Devices that fit into a table, for a new one to be made."""
LEAST_ROUND, SMALL_ROUNDS = 4, 5
"""A round of fewer costs more than to judge them alone. But to move out, be alone for a block and move in
again costs as much as a few such rounds, and a batch of live events ends in one or two."""
MOST_BLOCKS = 512
"""Devices whose blocks are judged at once: fewer cost more calls of numpy, more take more memory."""
FEW_TABLES = 4
"""To look for each one's devices by a loop of its own then takes less than one loop that asks each state."""
_NEVER = 2**62
_ROWS = attrgetter("rows")
Configs = list[DetectConfig]
"""Of the device of each event."""


class Left(NamedTuple):
    """What was not judged: numbers of events, in order, and blocks that are at their end by their last's."""

    numbers: list[int]
    blocks: list[int]


class Tables:
    """The tables of all places; owns rows that states live in."""

    def __init__(self, noise: list[NoiseBlock] | None) -> None:
        self._noise = noise
        self._tables: dict[tuple[int, Place], Rows] = {}
        self._thin: set[Rows] = set()
        """Of whose rows most were given back: their devices leave as they speak."""

    def judge(
        self, events: Sequence[VerifiedEvent], states: Sequence[TelemetryState], configs: Configs
    ) -> Left:
        """Judge what can be judged by columns; `states` and `configs` are those of the events' devices."""
        self._move_in(events, states, configs)
        left = Left([], [])
        groups = self._groups(states, configs, left)
        for rows, numbers in groups.items():
            _Batch(rows, numbers, events, states, self._noise).judge(left)
        left.numbers.sort()
        left.blocks.sort()
        return left

    def _groups(
        self, states: Sequence[TelemetryState], configs: Configs, left: Left
    ) -> dict[Rows, Sequence[int]]:
        """Return the events of each table; those of devices outside go to `left`."""
        rows_of, config = list(map(_ROWS, states)), configs[0]
        kinds = dict.fromkeys(rows_of)
        if (
            len(kinds) <= FEW_TABLES
            and all(rows is None or rows.config is config for rows in kinds)
            and all(map(is_, configs, repeat(config)))
        ):
            found: dict[Rows | None, Sequence[int]] = (
                dict.fromkeys(kinds, range(len(states)))
                if len(kinds) == 1
                else {rows: [n for n, each in enumerate(rows_of) if each is rows] for rows in kinds}
            )
            left.numbers.extend(found.pop(None, ()))
            return {rows: numbers for rows, numbers in found.items() if rows is not None}
        groups: dict[Rows, list[int]] = {}
        for number, (state, config) in enumerate(zip(states, configs, strict=True)):
            rows = state.rows
            if rows is None:
                left.numbers.append(number)
            elif rows.config is not config:
                rows.move_out(state)
                left.numbers.append(number)
            elif rows in groups:
                groups[rows].append(number)
            else:
                groups[rows] = [number]
        return dict(groups)

    def _move_in(
        self, events: Sequence[VerifiedEvent], states: Sequence[TelemetryState], configs: Configs
    ) -> None:
        if len(set(states)) < LEAST_DEVICES:
            return
        self._thin_out(states)
        if None not in list(map(_ROWS, states)):
            return
        outside = [number for number, state in enumerate(states) if state.rows is None]
        first_of = {states[number]: number for number in reversed(outside)}
        alike: dict[tuple[int, Place], list[TelemetryState]] = {}
        example: dict[tuple[int, Place], int] = {}
        for state, number in first_of.items():
            config = configs[number]
            place = place_of(state, config, events[number].event.body["codes"])
            if place is not None:
                alike.setdefault((id(config), place), []).append(state)
                example[id(config), place] = number
        for key, those in alike.items():
            rows = self._tables.get(key)
            if rows is None and len(those) >= LEAST_ALIKE:
                number = example[key]
                rows = self._new(configs[number], key[1])
            if rows is not None:
                rows.move_in(those)

    def _thin_out(self, states: Sequence[TelemetryState]) -> None:
        """Give up tables that most devices have left: they take room for as many as they ever had.

        Most do where a configuration is over, where nobody sends some codes any more, and at the beginning,
        when devices come to have relations.
        """
        self._thin = {rows for rows in self._thin if rows.used}
        self._thin.update(rows for rows in self._tables.values() if rows.is_thin)
        self._tables = {key: rows for key, rows in self._tables.items() if not rows.is_thin}
        if self._thin:
            for rows in self._thin.intersection(map(_ROWS, states)):
                rows.let_go(list(dict.fromkeys(state for state in states if state.rows is rows)))

    def _new(self, config: DetectConfig, place: Place) -> Rows | None:
        if len(self._tables) + len(self._thin) >= MAX_TABLES:
            return None
        rows = self._tables[id(config), place] = Rows(config, place)
        return rows


class _Batch:
    """The events of a batch whose devices live in one table."""

    def __init__(
        self,
        rows: Rows,
        numbers: Sequence[int],
        events: Sequence[VerifiedEvent],
        states: Sequence[TelemetryState],
        noise: list[NoiseBlock] | None,
    ) -> None:
        self._rows, self._events, self._states, self._noise = rows, events, states, noise
        columns = columns_of(rows, numbers, events, states)
        by_round, self._sizes = rounds_of(columns.row)
        self._columns = columns.at(by_round)
        size = len(rows.hot)
        self._has_left = False
        self._left_from = np.full(size, _NEVER)
        """By row: from which of its device's events on they are judged alone."""
        self._done = np.zeros(size, np.int64)
        """By row: how many of its device's events are judged."""
        self._last = np.zeros(size, np.int64)
        """By row: the number of the last of them, or of the one at hand."""
        self._waiting: list[Array] = []
        """Rows whose blocks are at their end: they wait until their devices speak again, or the batch is
        over, since many are judged for less."""

    def judge(self, left: Left) -> None:
        """Judge round after round."""
        hot, begin = self._rows.hot, 0
        for number, size in enumerate(self._sizes):
            events = self._still_here(self._columns.at(slice(begin, begin + size)))
            if self._waiting and (hot["events"][events.row] == BLOCK).any():
                self._end_blocks(left)
                events = self._still_here(events)
            if len(events.row):
                self._round(number, events)
            begin += size
        if self._waiting:
            self._end_blocks(left)
        if self._has_left:
            nth = np.repeat(np.arange(len(self._sizes)), self._sizes)
            left.numbers.extend(self._columns.number[nth >= self._left_from[self._columns.row]].tolist())

    def _still_here(self, events: Events) -> Events:
        return events.at(self._left_from[events.row] == _NEVER) if self._has_left else events

    def _round(self, number: int, events: Events) -> None:
        those = events.row
        self._last[those] = events.number
        if len(those) < LEAST_ROUND and len(self._sizes) - number > SMALL_ROUNDS:
            self._leave(those)
            return
        is_taken = take_round(self._rows, events)
        if not is_taken.all():
            self._leave(those[~is_taken])
            those = those[is_taken]
        self._done[those] = number + 1
        whole = those[self._rows.hot["events"][those] == BLOCK]
        if len(whole):
            self._waiting.append(whole)

    def _leave(self, those: Array) -> None:
        """Move devices out; what follows of their events is judged alone."""
        self._has_left |= len(those) > 0
        self._left_from[those] = self._done[those]
        for number in self._last[those].tolist():
            self._rows.move_out(self._states[number])

    def _end_blocks(self, left: Left) -> None:
        waiting = np.concatenate(self._waiting)
        self._waiting.clear()
        for begin in range(0, len(waiting), MOST_BLOCKS):
            self._end_some(waiting[begin : begin + MOST_BLOCKS], left)

    def _end_some(self, which: Array, left: Left) -> None:
        ended = end_row_blocks(self._rows, which, with_noise=self._noise is not None)
        if self._noise is not None:
            for at, prints in ended.prints:
                self._noise.append(block_of(self._events[int(self._last[which[at]])], prints))
        odd = which[~ended.is_taken]
        left.blocks.extend(self._last[odd].tolist())
        self._leave(odd)
