"""A batch's events as columns of a table's signals, in rounds: the first of each device, then the second."""

import struct
import sys
from array import array
from collections.abc import Sequence
from operator import attrgetter, itemgetter
from typing import Any
from zlib import crc32

import numpy as np

from processors.detect.rounds import MAX_APPEND_MS, MAX_TIME_US, Events
from processors.detect.rows import MOST_SHAPES, Array, Rows
from processors.detect.statebytes import WORD
from processors.detect.telemetry_state import TelemetryState
from processors.model import VerifiedEvent

# In C: a function of ours for each of them would cost as much as the judging.
_EVENT, _SOURCE, _BODY = map(attrgetter, ("event", "source", "body"))
_ROW = attrgetter("row")
_TIME, _APPEND, _OFFSET = map(attrgetter, ("time_us", "append_ms", "offset"))
_CODES, _VALUES = itemgetter("codes"), itemgetter("values")


def columns_of(
    rows: Rows, numbers: Sequence[int], events: Sequence[VerifiedEvent], states: Sequence[TelemetryState]
) -> Events:
    """Return the events of these numbers, whose devices live in `rows`."""
    count = len(numbers)
    is_all = count == len(events)
    those = events if is_all else [events[number] for number in numbers]
    devices = states if is_all else [states[number] for number in numbers]
    inside, sources = list(map(_EVENT, those)), list(map(_SOURCE, those))
    bodies = list(map(_BODY, inside))
    data = _packed(list(map(_VALUES, bodies)))
    value, is_here, is_fit = _values(rows, data, list(map(tuple, map(_CODES, bodies))))
    time_us = np.fromiter(map(_TIME, inside), np.int64, count)
    append_ms = np.fromiter(map(_APPEND, sources), np.int64, count)
    is_odd = (time_us > MAX_TIME_US) | (time_us < -MAX_TIME_US) | (np.abs(append_ms) > MAX_APPEND_MS)
    return Events(
        number=np.arange(count) if is_all else np.array(numbers, np.int64),
        row=np.fromiter(map(_ROW, devices), np.intp, count),
        value=value,
        is_here=is_here,
        time_us=time_us,
        append_ms=append_ms,
        offset=np.fromiter(map(_OFFSET, sources), np.int64, count),
        crc=np.fromiter(map(crc32, data), np.uint32, count),
        is_odd=is_odd if is_fit is None else is_odd | ~is_fit,
    )


def _values(
    rows: Rows, data: Sequence[Any], shapes: list[tuple[int, ...]]
) -> tuple[Array, Array | None, Array | None]:
    """Return events' values by signal, where an event has one, and which events are fit to be judged here.

    None stands for all. `data` are doubles or their bytes, `shapes` the codes that come with them.
    """
    count, kinds = len(shapes), {kind: number for number, kind in enumerate(dict.fromkeys(shapes))}
    flat = np.frombuffer(b"".join(data), "<f8")
    length = np.fromiter(map(len, data), np.intp, count)
    if not isinstance(data[0], array):
        length //= WORD
    if len(kinds) == 1 and (length == len(shapes[0])).all():
        positions = rows.positions_of(shapes[0])
        if positions is not None and (positions >= 0).all():
            return flat.reshape(count, -1).take(positions, axis=1), None, None
    kind_of = np.fromiter(map(kinds.__getitem__, shapes), np.intp, count)
    begin = np.cumsum(length) - length
    signals = len(rows.place.signals)
    value, is_here = np.zeros((count, signals)), np.zeros((count, signals), np.bool_)
    is_fit = np.zeros(count, np.bool_)
    for kind, number in list(kinds.items())[:MOST_SHAPES]:
        positions = rows.positions_of(kind)
        if positions is None:
            continue
        which = np.flatnonzero((kind_of == number) & (length == len(kind)))[:, None]
        here = np.flatnonzero(positions >= 0)
        value[which, here] = flat[begin[which] + positions[here]]
        is_here[which, here] = is_fit[which] = True
    return value, is_here, is_fit


def _packed(values: list[Sequence[float]]) -> Sequence[Any]:
    """Return each event's values as little-endian doubles: as the decoder leaves them, they are already."""
    if sys.byteorder == "little" and set(map(type, values)) == {array}:
        return values
    return [struct.pack(f"<{len(each)}d", *each) for each in values]


def rounds_of(row: Array) -> tuple[Array, list[int]]:
    """Return events by their rounds, and how many each has; one's is how many of its device came before."""
    order = np.argsort(row, kind="stable")
    ordered = row[order]
    begins = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    counts = np.diff(np.append(begins, len(row)))
    nth = np.empty(len(row), np.int64)
    nth[order] = np.arange(len(row)) - np.repeat(begins, counts)
    return np.argsort(nth, kind="stable"), np.bincount(nth).tolist()
