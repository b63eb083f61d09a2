"""States of many devices side by side: a row each, in tables of numbers.

A device that shows nothing of note is a few numbers that change; those of a thousand devices change at once
by numpy's columns for a tenth of what a thousand take one by one. A row is the state's bytes as they are
written (`statebytes.py`), so it is read and written by copying. Only devices without open findings live here,
and only while they send signals that are known of them: whatever else happens is for the objects of
`telemetry_state.py`.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from mmap import mmap
from typing import Any, NamedTuple

import numpy as np

from processors.detect.blocks import BLOCK, TRACKED
from processors.detect.config import DetectConfig
from processors.detect.limits import SignalLimits, gate
from processors.detect.manyblocks import Courses
from processors.detect.place import ROOM, Place
from processors.detect.relations import RELATED, RelationLimits
from processors.detect.replayed import KEPT, ROWS
from processors.detect.statebytes import WORD, read_state, write_state
from processors.detect.telemetry_state import MAX_RUN, TelemetryState
from processors.splice import Splice
from schemas.events import MAX_READINGS

Array = np.ndarray[Any, np.dtype[Any]]
SAMPLES = BLOCK + 1
"""Of a signal that was on throughout a block, with the last one of the block before."""
_GROWTH = 4, 3
_LEAST_ROOM, _MOST_EMPTY = 64, 3
"""Rows of the smallest table, and how many a larger one may have for each that is in use."""
MOST_SHAPES = 64
"""Lists of codes that a table knows the places of."""


@lru_cache(maxsize=64)
def hot_dtype(signals: int) -> np.dtype[Any]:
    """Return the columns that any event may change: the head of a state, and each signal's last sample."""
    n = signals
    return np.dtype(
        [
            ("version", "u1"), ("events", "u1"), ("begun", "u1"), ("most", "u1"), ("rows", "u1"),
            ("kept", "u1"), ("_0", "V2"), ("signals", "<u2"), ("relations", "<u2"), ("episodes", "<u2"),
            ("_1", "V2"), ("first_offset", "<i8"), ("time_us", "<i8"), ("append_ms", "<i8"),
            ("top_us", "<i8"), ("difference_us", "<i8"), ("below_since_ms", "<i8"), ("block_us", "<i8"),
            ("block_append_ms", "<i8"), ("interval_us", "<f8"), ("below", "<u4"), ("spacing", "<u4"),
            ("since", "<u4"), ("blocks", "<u2"), ("off_rate", "<u2"), ("crcs", "<u4", (ROWS,)),
            ("last", "<f8", (n,)), ("offset", "<i8", (n,)), ("run", "<i4", (n,)), ("count", "u1", (n,)),
            ("_2", f"V{-5 * n % WORD}"),
        ]
    )  # fmt: skip


@lru_cache(maxsize=64)
def cold_dtype(signals: int, relations: int) -> np.dtype[Any]:
    """Return the columns that the end of a block changes."""
    n, r = signals, relations
    return np.dtype(
        [
            ("unit_level", "<f8", (n,)), ("signs", "<u8", (n,)), ("track", "<f8", (n, TRACKED)),
            ("code", "<i4", (n,)), ("unit", "u1", (n,)), ("unit_count", "u1", (n,)), ("carried", "u1", (n,)),
            ("_0", f"V{-7 * n % WORD}"),
            ("relation", "<f8", (r, RELATED)), ("relation_code", "<i4", (r,)), ("_1", f"V{-4 * r % WORD}"),
        ]
    )  # fmt: skip


def gather(table: Array, which: Array) -> Array:
    """Return a copy of rows of a structured table, by their numbers.

    As whole words: numpy else copies field by field, which takes many times as long.
    """
    words = table.view("u8").reshape(len(table), table.dtype.itemsize // WORD)
    rows: Array = words.take(which, axis=0).view(table.dtype).reshape(len(which))
    return rows


def scatter(table: Array, which: Array, rows: Array) -> None:
    """Put rows back where `gather` took them from."""
    table.view((np.void, table.dtype.itemsize))[which] = rows.view((np.void, table.dtype.itemsize))


class Related(NamedTuple):
    """A relation between signals of a table; `at` is where its track stands, None before its first block."""

    limits: RelationLimits
    signals: list[int]
    at: int | None
    is_of_lasts: bool
    """Whether the last samples are held against each other: they are seldom, and come together."""


class Rows:
    """The table of one place under one configuration."""

    def __init__(self, config: DetectConfig, place: Place) -> None:
        signals, relations = len(place.signals), len(place.relations)
        self.config, self.place = config, place
        self._positions: dict[tuple[int, ...], Array | None] = {}
        self.limits = Limits(config, place.signals)
        related = [
            Related(
                limits,
                [place.signals.index(code) for code in limits.codes],
                place.relations.index(limits.codes[0]) if limits.codes[0] in place.relations else None,
                limits.kind == "mean" and config.signals[limits.codes[0]].course is None,
            )
            for limits in config.relations
            if set(limits.codes) <= set(place.signals)
        ]
        first = [each.signals[0] for each in related]
        turns = [first[:number].count(signal) for number, signal in enumerate(first)]
        self.related = [
            [each for each, at in zip(related, turns, strict=True) if at == turn]
            for turn in sorted(set(turns))
        ]
        """By turns: those of one first signal have one track, so one comes after the other."""
        self.hot: Array = np.zeros(0, hot_dtype(signals))
        self.cold: Array = np.zeros(0, cold_dtype(signals, relations))
        self.kept: Array = np.zeros((0, KEPT), "<u4")
        self.samples: Array = np.zeros((0, ROOM, signals), "<f8")
        self.settled: Array = np.zeros(0, np.bool_)
        """Whether `cold` and `kept` are what they were when the state was last written whole or loaded."""
        self._free: list[int] = []

    def positions_of(self, codes: tuple[int, ...]) -> Array | None:
        """Tell where each signal stands in an event with these codes, or -1.

        None for codes that are not judged here: of a signal that devices here do not have yet, or twice.
        """
        if codes not in self._positions:
            if len(self._positions) >= MOST_SHAPES:
                self._positions.clear()
            at = {code: number for number, code in enumerate(codes)}
            is_known = len(at) == len(codes) <= MAX_READINGS and not any(
                code in self.config.signals and code not in self.place.signals for code in at
            )
            self._positions[codes] = (
                np.array([at.get(code, -1) for code in self.place.signals], np.intp) if is_known else None
            )
        return self._positions[codes]

    @property
    def used(self) -> int:
        """How many devices live here."""
        return len(self.hot) - len(self._free)

    @property
    def is_thin(self) -> bool:
        """Whether the room that devices left is worth to be given back."""
        return not self.used or _MOST_EMPTY * self.used < len(self.hot) - _LEAST_ROOM

    def move_in(self, states: Sequence[TelemetryState]) -> None:
        """Take states that `place_of` said belong here."""
        written = [write_state(each) if each.packed is None else each.packed for each in states]
        while len(self._free) < len(states):
            self._grow()
        which = np.array([self._free.pop() for _ in states], np.intp)
        h, c = self.hot.dtype.itemsize, self.hot.dtype.itemsize + self.cold.dtype.itemsize
        hot = np.frombuffer(b"".join([each[:h] for each in written]), self.hot.dtype)
        scatter(self.hot, which, hot)
        scatter(self.cold, which, np.frombuffer(b"".join([each[h:c] for each in written]), self.cold.dtype))
        ends = (c + 4 * hot["kept"].astype(int)).tolist()
        kept = [each[c:end].ljust(4 * KEPT, b"\0") for each, end in zip(written, ends, strict=True)]
        self.kept[which] = np.frombuffer(b"".join(kept), "<u4").reshape(len(states), KEPT)
        size = self.samples.itemsize * self.samples[0].size
        samples = [each[end:].ljust(size, b"\0") for each, end in zip(written, ends, strict=True)]
        self.samples[which] = np.frombuffer(b"".join(samples), "<f8").reshape(-1, *self.samples.shape[1:])
        self.settled[which] = [state.packed is not None for state in states]
        for state, row in zip(states, which.tolist(), strict=True):
            state.enter(self, row)

    def move_out(self, state: TelemetryState) -> None:
        """Give a state its objects back."""
        events = int(self.hot["events"][state.row])
        self.hot["events"][state.row] = 0  # a block at its end is no state to be read, unless it is at hand
        (data,) = self.dump([state.row])
        state.leave()
        read_state(state, data)
        state.events, state.alone = events, 0

    def let_go(self, states: Sequence[TelemetryState]) -> None:
        """Let states be their bytes; those of which more has changed than a delta tells stay here."""
        those = [state for state in states if self.settled[state.row]]
        for state, data in zip(those, self.dump([state.row for state in those]), strict=True):
            state.leave()
            state.packed = data

    def release(self, row: int) -> None:
        """Give a row to the next device that needs one."""
        self._free.append(row)

    def dump(self, rows: Sequence[int] | Array) -> list[bytes]:
        """Write the states of these rows, as `write_state` would."""
        which = np.array(rows, np.intp)
        hot, cold, kept, samples = (
            found.tobytes()
            for found in (
                gather(self.hot, which),
                gather(self.cold, which),
                self.kept[which],
                self.samples[which],
            )
        )
        h, c, k = self.hot.dtype.itemsize, self.cold.dtype.itemsize, 4 * KEPT
        width = WORD * len(self.place.signals)
        written = []
        for n, (prints, most) in enumerate(
            zip(self.hot["kept"][which].tolist(), self.hot["most"][which].tolist(), strict=True)
        ):
            s = n * ROOM * width
            written.append(
                hot[n * h : n * h + h]
                + cold[n * c : n * c + c]
                + kept[n * k : n * k + 4 * prints]
                + samples[s : s + most * width]
            )
        return written

    def dump_changes(self, rows: Sequence[int], is_whole: Sequence[bool]) -> list[bytes | Splice]:
        """Write the states of these rows, whole or how each differs from what was written whole."""
        which = np.array(rows, np.intp)
        is_splice = self.settled[which] & ~np.array(is_whole, np.bool_)
        self.settled[which] = True
        spliced = which[is_splice]
        hot, most = gather(self.hot, spliced), int(self.hot["most"][spliced].max(initial=0))
        samples = self.samples[spliced, :most].tobytes()
        data, h = hot.tobytes(), hot.dtype.itemsize
        width, end = WORD * len(self.place.signals), h + self.cold.dtype.itemsize
        splices = [
            Splice(
                data[n * h : n * h + h],
                h,
                end + 4 * prints,
                samples[n * most * width : (n * most + count) * width],
            )
            for n, (prints, count) in enumerate(zip(hot["kept"].tolist(), hot["most"].tolist(), strict=True))
        ]
        whole, spliced_next = iter(self.dump(which[~is_splice])), iter(splices)
        return [next(spliced_next) if each else next(whole) for each in is_splice.tolist()]

    def _grow(self) -> None:
        before = len(self.hot)
        after = max(_LEAST_ROOM, before * _GROWTH[0] // _GROWTH[1])
        for name in ("hot", "cold", "kept", "samples", "settled"):
            table = getattr(self, name)
            larger = _zeros((after, *table.shape[1:]), table.dtype)
            larger[:before] = table
            setattr(self, name, larger)
        self._free += range(after - 1, before - 1, -1)


def _zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return zeros in pages of their own: when a table has grown, its former ones go back to the system.

    From malloc they would leave holes, of which there are more than tables in the end.
    """
    count = math.prod(shape)
    return np.frombuffer(mmap(-1, count * dtype.itemsize), dtype, count).reshape(shape)


class Limits:
    """Limits of a table's signals as columns; never met where a signal has none."""

    def __init__(self, config: DetectConfig, signals: Sequence[int]) -> None:
        each = [config.signals[code] for code in signals]
        gates = [gate(limits) for limits in each]
        offs = [limits.off or (math.inf, -math.inf) for limits in each]
        self.of: list[SignalLimits] = each
        self.floor, self.roof = np.array(gates).T.copy()
        self.off_low, self.off_high = np.array(offs).T.copy()
        self.low, self.high = np.array([limits.low for limits in each]), np.array([lim.high for lim in each])
        self.ceiling = np.array([math.inf if limits.ceiling is None else limits.ceiling for limits in each])
        self.has_units = np.array([bool(limits.units) for limits in each])
        self.longest_run = np.array([(limits.stuck_after or MAX_RUN) - 1 for limits in each])
        courses = [(at, limits.course) for at, limits in enumerate(each) if limits.course is not None]
        self.courses = Courses.of([course for _, course in courses])
        self.course_at = np.array([at for at, _ in courses], np.intp)
        begin, end = (courses[0][0], courses[-1][0] + 1) if courses else (0, 0)
        self.with_course = slice(begin, end) if end - begin == len(courses) else self.course_at
        """Those, too: numpy reads a slice where it lies."""
        stands = [config.noise_of.get(code) for code in signals]
        self.noise_code = np.array([-1 if code is None else code for code in stands])
        self.has_noise = np.array([code is not None for code in stands])
        # Where a device sends both signals of a relation, the noise of one stands for that of the other.
        self.stands_at = [
            signals.index(code) if code is not None and code != own and code in signals else None
            for own, code in zip(signals, stands, strict=True)
        ]
