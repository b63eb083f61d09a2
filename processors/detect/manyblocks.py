"""`blocks.judge` for many blocks at once, bit for bit.

Most blocks show nothing: their level is near the usual, their noise no more than usual, and only what is
remembered changes. Those are counted here, column by column; a block that comes near any rule is given to
`judge` itself. So there is one place that says what breaks a rule.

Elementwise arithmetic of numpy rounds as Python's does, operation by operation, as long as the operations
come in the same order. `max(a, b)` of Python is `b` only where `b > a`, hence the wheres.
"""

from collections.abc import Callable, Sequence

import numpy as np

from processors.detect.blockcolumns import Flags, Floats, Places, Row, Thresholds
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
from processors.detect.manycourses import Course, end_epochs, take_course
from processors.detect.rules import JITTER

_NOTHING: Broken = ()
_FROZEN: Broken = ((JITTER, 1.0),)


def judge_many(blocks: Sequence[Block]) -> list[tuple[Track, Broken]]:
    """Judge blocks, each of `BLOCK` + 1 samples; what is returned for each is what `judge` returns."""
    count = len(blocks)
    known = np.frombuffer(b"".join([each.track for each in blocks]), "<f8").reshape(count, TRACKED)
    thresholds = np.frombuffer(b"".join([each.limits.packed for each in blocks]), "<f8")
    samples = np.frombuffer(b"".join([each.samples for each in blocks])).reshape(count, BLOCK + 1)
    after, broken = judge_columns(
        known, thresholds.reshape(count, THRESHOLDS.size // 8), samples, lambda number: blocks[number].limits
    )
    data, size = after.tobytes(), TRACK.size
    return [(data[n * size : (n + 1) * size], broken.get(n, _NOTHING)) for n in range(count)]


def judge_columns(
    known: Floats, thresholds: Floats, samples: Floats, limits_of: Callable[[int], BlockLimits]
) -> tuple[Floats, dict[int, Broken]]:
    """Judge blocks that are rows of these tables; return what is known now, and the rules that some break.

    `known` and what is returned have `TRACKED` columns, `thresholds` those of `THRESHOLDS`, `samples` as many
    as the blocks have, at least 3. `limits_of` gives the limits of a row.
    """
    limits = Thresholds(*np.ascontiguousarray(thresholds.T))
    broken: dict[int, Broken] = {}
    with np.errstate(all="ignore"):
        after, is_near_a_rule = _usual(np.ascontiguousarray(known.T), limits, samples)
        ended = np.flatnonzero((after[Row.EPOCH_N] == EPOCH) & ~is_near_a_rule)
        if len(ended):
            broken = dict.fromkeys(end_epochs(after, ended, limits).tolist(), _FROZEN)
    judged = np.ascontiguousarray(after.T)
    for number in np.flatnonzero(is_near_a_rule).tolist():
        track, broke = judge(known[number].tobytes(), samples[number].tolist(), limits_of(number))
        judged[number] = np.frombuffer(track)
        if broke:
            broken[number] = broke
    return judged, broken


def interrupted_columns(known: Floats) -> Floats:
    """Do what `interrupted` does for rows of tracks."""
    known[:, LEVEL : LEVEL + 3] = np.nan
    known[:, Row.EVEN : Row.EPOCH_N + 1] = 0.0
    known[:, Row.LAST_CHANGE] = -1.0
    return known


def _usual(known: Floats, limits: Thresholds, samples: Floats) -> tuple[Floats, Flags]:
    """Return what is remembered after blocks that break nothing, and which ones `judge` must look at."""
    before, after = known, known.copy()
    ordered = np.sort(samples, axis=1).T
    level = ordered[len(ordered) >> 1] + 0.0
    first = np.flatnonzero(known[Row.BLOCKS] == 0)
    if len(first):
        before = known.copy()
        before[Row.BASE, first], before[Row.SCALE, first] = level[first], limits.spread[first]
        before[Row.NOISE, first] = limits.noise[first]
    blocks, memory, is_rare = _level(before, after, level, limits)
    changes = np.ascontiguousarray(samples.T)
    changes = changes[1:] - changes[:-1]
    course = Course(level, ordered[-1] - ordered[0], changes, blocks, memory)
    is_rare |= take_course(before, after, course, limits, is_rare)
    return after, is_rare


def _level(before: Floats, after: Floats, level: Floats, limits: Thresholds) -> tuple[Floats, Floats, Flags]:
    """Go on with drift and step; return the blocks so far, the weight of this one, and which are rare."""
    scale, level1 = before[Row.SCALE], before[Row.LEVEL1]
    unit = np.where(scale > limits.spread, scale, limits.spread)
    off = level - before[Row.BASE]
    is_far = ~((-CLIP * unit < off) & (off < CLIP * unit) & (before[Row.UP] == 0) & (before[Row.DOWN] == 0))
    memory = np.where(before[Row.BLOCKS] < LEARNED, 1 / (before[Row.BLOCKS] + 1), BASE_MEMORY)
    after[Row.BASE] = before[Row.BASE] + memory * off
    is_rare: Flags = np.zeros(len(level), np.bool_)
    far = np.flatnonzero(is_far)
    if len(far):
        is_rare[far] = _drift(before, after, far, (off[far], unit[far], memory[far]), limits)
    blocks = before[Row.BLOCKS]
    after[Row.BLOCKS] = blocks = np.where(blocks < RANGED, blocks + 1.0, blocks)
    memory = np.where(memory < MEMORY, MEMORY, memory)
    moved = level - before[Row.LEVEL3]
    step = np.where(limits.step == 0.0, FAR * unit, limits.step)
    moving = np.flatnonzero(~((-step <= moved) & (moved <= step)) & (blocks > limits.warm))
    if len(moving):
        since = level[moving] - level1[moving]
        is_rare[moving] |= _has_stepped(
            moved[moving], level1[moving] - before[Row.LEVEL3, moving], since, step[moving]
        )
    moved = np.abs(level - level1)
    most = CLIP * unit
    moved = scale + memory * (np.where(moved < most, moved, most) - scale)
    after[Row.SCALE] = np.where(np.isnan(level1), scale, moved)
    after[Row.LEVEL3], after[Row.LEVEL2], after[Row.LEVEL1] = before[Row.LEVEL2], level1, level
    return blocks, memory, is_rare


def _has_stepped(moved: Floats, before: Floats, since: Floats, step: Floats) -> Flags:
    """Do what `blocks._has_stepped` does."""
    is_far: Flags = ((moved > step) & (before > step)) | ((moved < -step) & (before < -step))
    is_far &= (-step / 2 < since) & (since < step / 2)
    return is_far


def _drift(
    before: Floats,
    after: Floats,
    far: Places,
    level: tuple[Floats, Floats, Floats],
    limits: Thresholds,
) -> Flags:
    """Count levels that are far from their base, or were; return where the counts are beyond their limit."""
    off, unit, memory = level
    warm, slack, limit = limits.warm[far], limits.drift_slack[far], limits.drift_limit[far]
    off = off / unit
    off = np.where(off < FAR, off, FAR)
    off = np.where(off > -FAR, off, -FAR)
    most, is_warm = 3 * limit, before[Row.BLOCKS, far] >= warm
    is_beyond: Flags = np.zeros(len(far), np.bool_)
    for row, change in ((Row.UP, off), (Row.DOWN, -off)):
        total = before[row, far] + change - slack
        total = np.where(total > 0.0, total, 0.0)
        after[row, far] = total = np.where(is_warm, np.where(most < total, most, total), before[row, far])
        is_beyond |= total > limit
    off = np.where(off < CLIP, off, CLIP)
    off = np.where(off > -CLIP, off, -CLIP)
    after[Row.BASE, far] = before[Row.BASE, far] + memory * unit * off
    is_beyond &= is_warm
    return is_beyond
