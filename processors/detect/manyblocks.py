"""`blocks.judge` for many blocks at once, bit for bit.

Most blocks show nothing: their level is near the usual, their noise no more than usual, and only what is
remembered changes. Those are counted here, column by column; a block that comes near any rule is given to
`judge` itself. So there is one place that says what breaks a rule.

Elementwise arithmetic of numpy rounds as Python's does, operation by operation, as long as the operations
come in the same order. `max(a, b)` of Python is `b` only where `b > a`, hence the wheres.

Where the crate is at work it does all of that (`native/src/blocks.rs`), and says only which blocks break a
rule.
"""

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from processors.detect.blockcolumns import (
    Flags,
    Floats,
    Places,
    Row,
    Thresholds,
    columns_of,
    of,
    of_some,
    rows_of,
    thresholds_of,
)
from processors.detect.blocks import (
    BASE_MEMORY,
    BLOCK,
    CLIP,
    EPOCH,
    FAR,
    LEARNED,
    LEVEL,
    MEMORY,
    RANGED,
    THRESHOLDS,
    TRACK,
    TRACKED,
    Block,
    BlockLimits,
    Broken,
    Track,
    judge,
)
from processors.detect.columnsort import least_middle_largest
from processors.detect.manycourses import Course, end_epochs, take_course
from processors.detect.rules import JITTER
from processors.detect.statebytes import WORD
from schemas.native import CRATE

_NOTHING: Broken = ()
_FROZEN: Broken = ((JITTER, 1.0),)
_NATIVE = None if sys.byteorder == "big" else CRATE


class Courses(NamedTuple):
    """Limits of some signals, whose blocks are judged together."""

    limits: Sequence[BlockLimits]
    packed: Floats
    """A row of `THRESHOLDS` for each."""
    thresholds: Thresholds
    """The same by columns."""

    @classmethod
    def of(cls, limits: Sequence[BlockLimits]) -> "Courses":
        """Put the limits together; there may be none."""
        data = b"".join([each.packed for each in limits])
        packed = np.frombuffer(data, "<f8").reshape(len(limits), THRESHOLDS.size // WORD)
        return cls(limits, packed, thresholds_of(packed))


def judge_signals(
    tracks: Floats, samples: Floats, courses: Courses, which: Places
) -> tuple[Floats, Sequence[int]]:
    """Judge the blocks of many signals: tables of any shape, the same but for the last axis.

    That has `TRACKED` numbers in `tracks`, and in `samples` as many as all blocks have, at least 3; in
    `which`, where there is no last axis, it is one of `courses`. Returns what is known now, in the shape of
    `tracks`, and the places of signals that break a rule, counted through: theirs may be anything.
    """
    if _NATIVE is not None:
        tables = map(np.ascontiguousarray, (tracks, samples, courses.packed))
        data, breaking = _NATIVE.judge_blocks(*tables, np.ascontiguousarray(which, np.int64))
        return np.frombuffer(data, "<f8").reshape(tracks.shape), breaking
    return signals_by_columns(tracks, samples, courses, which)


def signals_by_columns(
    tracks: Floats, samples: Floats, courses: Courses, which: Places
) -> tuple[Floats, Sequence[int]]:
    """Do what `judge_signals` does without the crate."""
    known, seen, each = columns_of(tracks), columns_of(samples), which.ravel()

    def alone(at: int) -> tuple[Track, Broken]:
        track = tracks[np.unravel_index(at, which.shape)]
        return judge(track.tobytes(), seen[:, at].tolist(), courses.limits[each[at]])

    broken = judge_columns(known, of_some(courses.thresholds, each), seen, alone)
    return rows_of(known, tracks.shape), list(broken)


def judge_many(blocks: Sequence[Block]) -> list[tuple[Track, Broken]]:
    """Judge blocks, each of `BLOCK` + 1 samples; what is returned for each is what `judge` returns."""
    count, size = len(blocks), TRACK.size
    known = columns_of(np.frombuffer(b"".join([each.track for each in blocks]), "<f8").reshape(-1, TRACKED))
    samples = columns_of(np.frombuffer(b"".join([each.samples for each in blocks])).reshape(count, BLOCK + 1))
    thresholds = Courses.of([each.limits for each in blocks]).thresholds
    broken = judge_columns(known, thresholds, samples, lambda number: judge(*blocks[number]))
    data = known.T.tobytes()
    return [(data[n * size : (n + 1) * size], broken.get(n, _NOTHING)) for n in range(count)]


def judge_columns(
    known: Floats, limits: Thresholds, samples: Floats, alone: Callable[[int], tuple[Track, Broken]]
) -> dict[int, Broken]:
    """Judge blocks that are columns of these tables; return the rules that some break.

    `known` has `TRACKED` rows and becomes what is known now; `samples` has as many as the blocks have, at
    least 3. `alone` judges the block of a column by `judge`.
    """
    broken: dict[int, Broken] = {}
    with np.errstate(all="ignore"):
        is_near_a_rule = _usual(known, limits, samples)
        ended = np.flatnonzero((known[Row.EPOCH_N] == EPOCH) & ~is_near_a_rule)
        if len(ended):
            broken = dict.fromkeys(end_epochs(known, ended, limits).tolist(), _FROZEN)
    for number in np.flatnonzero(is_near_a_rule).tolist():
        track, broke = alone(number)
        known[:, number] = np.frombuffer(track)
        if broke:
            broken[number] = broke
    return broken


def interrupted_columns(known: Floats) -> Floats:
    """Do what `interrupted` does for rows of tracks."""
    known[:, LEVEL : LEVEL + 3] = np.nan
    known[:, Row.EVEN : Row.EPOCH_N + 1] = 0.0
    known[:, Row.LAST_CHANGE] = -1.0
    return known


def _usual(known: Floats, limits: Thresholds, samples: Floats) -> Flags:
    """Make `known` what it is after blocks that break nothing; return which ones `judge` must look at."""
    least, middle, largest = least_middle_largest(samples)
    level = middle + 0.0
    first = np.flatnonzero(known[Row.BLOCKS] == 0)
    if len(first):
        known[Row.BASE, first], known[Row.SCALE, first] = level[first], of(limits.spread, first)
        known[Row.NOISE, first] = of(limits.noise, first)
    memory, is_rare = _level(known, level, limits)
    return take_course(
        known, Course(level, largest - least, samples[1:] - samples[:-1], memory, is_rare), limits
    )


def _level(known: Floats, level: Floats, limits: Thresholds) -> tuple[Floats, Flags]:
    """Go on with drift and step; return the weight of this block, and which are rare."""
    blocks, base, scale, level1, level3 = known[[Row.BLOCKS, Row.BASE, Row.SCALE, Row.LEVEL1, Row.LEVEL3]]
    unit = np.fmax(scale, limits.spread)
    far_away = CLIP * unit
    off = level - base
    is_near = (np.abs(off) < far_away) & (known[Row.UP] == 0) & (known[Row.DOWN] == 0)
    memory = np.where(blocks < LEARNED, 1 / (blocks + 1), BASE_MEMORY)
    known[Row.BASE] += memory * off
    is_rare: Flags = np.zeros(len(level), np.bool_)
    far = np.flatnonzero(~is_near)
    if len(far):
        is_rare[far] = _drift(known, far, (blocks[far], base[far], off[far], unit[far], memory[far]), limits)
    known[Row.BLOCKS] += blocks < RANGED
    memory = np.maximum(memory, MEMORY)
    moved = level - level3
    step = np.where(limits.step == 0.0, FAR * unit, limits.step)
    moving = np.flatnonzero(~(np.abs(moved) <= step) & (known[Row.BLOCKS] > limits.warm))
    if len(moving):
        since = level[moving] - level1[moving]
        is_rare[moving] |= _has_stepped(moved[moving], level1[moving] - level3[moving], since, step[moving])
    known[Row.SCALE] += memory * (np.fmin(np.abs(level - level1), far_away) - scale)
    new = np.flatnonzero(np.isnan(level1))
    known[Row.SCALE, new] = scale[new]
    known[Row.LEVEL3], known[Row.LEVEL2], known[Row.LEVEL1] = known[Row.LEVEL2], level1, level
    return memory, is_rare


def _has_stepped(moved: Floats, before: Floats, since: Floats, step: Floats) -> Flags:
    """Do what `blocks._has_stepped` does."""
    is_far: Flags = ((moved > step) & (before > step)) | ((moved < -step) & (before < -step))
    is_far &= (-step / 2 < since) & (since < step / 2)
    return is_far


def _drift(known: Floats, far: Places, level: tuple[Floats, ...], limits: Thresholds) -> Flags:
    """Count levels that are far from their base, or were; return where the counts are beyond their limit."""
    blocks, base, off, unit, memory = level
    slack, limit = of(limits.drift_slack, far), of(limits.drift_limit, far)
    off = off / unit
    off = np.where(off < FAR, off, FAR)
    off = np.where(off > -FAR, off, -FAR)
    most, is_warm = 3 * limit, blocks >= of(limits.warm, far)
    is_beyond: Flags = np.zeros(len(far), np.bool_)
    for row, change in ((Row.UP, off), (Row.DOWN, -off)):
        before = known[row, far]
        total = before + change - slack
        total = np.where(total > 0.0, total, 0.0)
        known[row, far] = total = np.where(is_warm, np.where(most < total, most, total), before)
        is_beyond |= total > limit
    off = np.where(off < CLIP, off, CLIP)
    off = np.where(off > -CLIP, off, -CLIP)
    known[Row.BASE, far] = base + memory * unit * off
    is_beyond &= is_warm
    return is_beyond
