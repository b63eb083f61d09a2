"""`blocks.judge` for many blocks at once, bit for bit.

Most blocks show nothing: their level is near the usual, their noise no more than usual, and only what is
remembered changes. Those are counted here, column by column; a block that comes near any rule is given to
`judge` itself. So there is one place that says what breaks a rule.

Elementwise arithmetic of numpy rounds as Python's does, operation by operation, as long as the operations
come in the same order. `max(a, b)` of Python is `b` only where `b > a`, hence the wheres.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from processors.detect.blocks import (
    BASE_MEMORY,
    BLOCK,
    CLIP,
    COARSE,
    EPOCH,
    FAR,
    FEW_TURNS,
    LEARNED,
    LEVEL,
    MEMORY,
    RANGED,
    SAME,
    SMOOTH_MEMORY,
    THRESHOLDS,
    TRACK,
    TRACKED,
    Block,
    BlockLimits,
    Broken,
    Track,
    judge,
)
from processors.detect.grid import MANY, ROUNDED_SLIP, SHARE, SLIP, WIDE
from processors.detect.rules import JITTER

Floats = np.ndarray[Any, np.dtype[np.float64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]
_NOTHING: Broken = ()
_FROZEN: Broken = ((JITTER, 1.0),)


class _Limits(NamedTuple):
    """Rows of `THRESHOLDS`."""

    noise: Floats
    spread: Floats
    step: Floats
    max_change: Floats
    warm: Floats
    ratio_twice: Floats
    smooth_ratio: Floats
    evidence: Floats
    drift_slack: Floats
    drift_limit: Floats
    jitter: Floats
    jitter_range: Floats
    jitter_fill: Floats
    jitter_calm: Floats
    ratio_once: Floats


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
    limits = _Limits(*np.ascontiguousarray(thresholds.T))
    broken: dict[int, Broken] = {}
    with np.errstate(all="ignore"):
        after, is_near_a_rule = _usual(np.ascontiguousarray(known.T), limits, samples)
        ended = np.flatnonzero((after[_EPOCH_N] == EPOCH) & ~is_near_a_rule)
        if len(ended):
            broken = dict.fromkeys(_end_epochs(after, ended, limits).tolist(), _FROZEN)
    judged = np.ascontiguousarray(after.T)
    for number in np.flatnonzero(is_near_a_rule).tolist():
        track, broke = judge(known[number].tobytes(), samples[number].tolist(), limits_of(number))
        judged[number] = np.frombuffer(track)
        if broke:
            broken[number] = broke
    return judged, broken


# Rows of a track, in the order in which `judge` unpacks it.
(
    _BLOCKS, _BASE, _SCALE, _NOISE, _UP, _DOWN, _LEVEL1, _LEVEL2, _LEVEL3, _SMOOTH_CHANGE, _SMOOTH_TURN,
    _RESOLUTION, _EVEN, _MOVES, _GRID, _LOUD, _EPOCH_N, _EPOCH_LOW, _EPOCH_HIGH, _EPOCH_CHANGE, _EPOCH_FILL,
    _LAST_LOW, _LAST_HIGH, _LAST_CHANGE, _LAST_FILL,
) = range(TRACKED)  # fmt: skip


def interrupted_columns(known: Floats) -> Floats:
    """Do what `interrupted` does for rows of tracks."""
    known[:, LEVEL : LEVEL + 3] = np.nan
    known[:, _EVEN : _EPOCH_N + 1] = 0.0
    known[:, _LAST_CHANGE] = -1.0
    return known


def _usual(known: Floats, limits: _Limits, samples: Floats) -> tuple[Floats, Flags]:
    """Return what is remembered after blocks that break nothing, and which ones `judge` must look at."""
    before, after = known, known.copy()
    ordered = np.sort(samples, axis=1).T
    level = ordered[len(ordered) >> 1] + 0.0
    first = np.flatnonzero(known[_BLOCKS] == 0)
    if len(first):
        before = known.copy()
        before[_BASE, first], before[_SCALE, first] = level[first], limits.spread[first]
        before[_NOISE, first] = limits.noise[first]
    blocks, memory, is_rare = _level(before, after, level, limits)
    changes = np.ascontiguousarray(samples.T)
    changes = changes[1:] - changes[:-1]
    course = _Course(level, ordered[-1] - ordered[0], changes, blocks, memory)
    is_rare |= _course(before, after, course, limits, is_rare)
    return after, is_rare


def _level(before: Floats, after: Floats, level: Floats, limits: _Limits) -> tuple[Floats, Floats, Flags]:
    """Go on with drift and step; return the blocks so far, the weight of this one, and which are rare."""
    scale, level1 = before[_SCALE], before[_LEVEL1]
    unit = np.where(scale > limits.spread, scale, limits.spread)
    off = level - before[_BASE]
    is_far = ~((-CLIP * unit < off) & (off < CLIP * unit) & (before[_UP] == 0) & (before[_DOWN] == 0))
    memory = np.where(before[_BLOCKS] < LEARNED, 1 / (before[_BLOCKS] + 1), BASE_MEMORY)
    after[_BASE] = before[_BASE] + memory * off
    is_rare: Flags = np.zeros(len(level), np.bool_)
    far = np.flatnonzero(is_far)
    if len(far):
        is_rare[far] = _drift(before, after, far, (off[far], unit[far], memory[far]), limits)
    after[_BLOCKS] = blocks = np.where(before[_BLOCKS] < RANGED, before[_BLOCKS] + 1.0, before[_BLOCKS])
    memory = np.where(memory < MEMORY, MEMORY, memory)
    moved = level - before[_LEVEL3]
    step = np.where(limits.step == 0.0, FAR * unit, limits.step)
    moving = np.flatnonzero(~((-step <= moved) & (moved <= step)) & (blocks > limits.warm))
    if len(moving):
        since = level[moving] - level1[moving]
        is_rare[moving] |= _has_stepped(
            moved[moving], level1[moving] - before[_LEVEL3, moving], since, step[moving]
        )
    moved = np.abs(level - level1)
    most = CLIP * unit
    moved = scale + memory * (np.where(moved < most, moved, most) - scale)
    after[_SCALE] = np.where(np.isnan(level1), scale, moved)
    after[_LEVEL3], after[_LEVEL2], after[_LEVEL1] = before[_LEVEL2], level1, level
    return blocks, memory, is_rare


class _Course(NamedTuple):
    """What is seen of blocks: changes from sample to sample as rows, else one number a block."""

    level: Floats
    width: Floats
    changes: Floats
    blocks: Floats
    memory: Floats


def _course(before: Floats, after: Floats, seen: _Course, limits: _Limits, is_rare: Flags) -> Flags:
    """Go on with rate, noise, smoothness and grid; return which are rare as well."""
    level, width, changes, blocks, memory = seen
    sizes = np.ascontiguousarray(np.sort(np.abs(changes).T, axis=1).T)
    largest, least = sizes[-1], sizes[0]
    is_flat = largest == 0.0
    change = _added(sizes)
    mean = change / len(sizes)
    noise = before[_NOISE]
    usual = np.where(noise > limits.noise, noise, limits.noise)
    is_odd = (largest > limits.max_change) | (largest <= SAME)
    is_loud = (mean > limits.ratio_twice * usual) & (blocks > limits.warm)
    twice = 2 * usual
    counted = np.where((mean < twice) | (blocks < 3), mean, twice)
    after[_NOISE] = noise + memory * (counted - noise)
    turn = change.copy()
    few = np.flatnonzero(~(change > FEW_TURNS * width))
    turn[few] = _added(np.abs(changes[1:, few] - changes[:-1, few]))
    after[_SMOOTH_CHANGE] = smooth_change = before[_SMOOTH_CHANGE] * SMOOTH_MEMORY + change
    after[_SMOOTH_TURN] = smooth_turn = before[_SMOOTH_TURN] * SMOOTH_MEMORY + turn
    is_odd |= (smooth_turn < limits.smooth_ratio * smooth_change) & (blocks > 4)
    is_odd |= least == SAME
    none = np.flatnonzero(least < SAME)
    if len(none):
        least = least.copy()
        least[none] = np.where(sizes[:, none] > SAME, sizes[:, none], np.inf).min(axis=0)
    resolution = before[_RESOLUTION]
    is_new = resolution == 0.0
    is_coarse = ~(least < COARSE * resolution) & ~is_new
    follows = resolution + (least - resolution) * np.where(least < resolution, 0.5, 1 / 64)
    after[_RESOLUTION] = np.where(is_new, least, follows)
    _epoch(before, after, (level, mean, change / width))
    loud = np.flatnonzero(is_loud)
    if len(loud):
        # One block alone is a motion artefact: a state.
        after[_LOUD, loud] = times = np.minimum(before[_LOUD, loud] + 1, RANGED)
        is_odd[loud] |= (mean[loud] > limits.ratio_once[loud] * usual[loud]) | (times > 1)
    flat = np.flatnonzero(is_flat)
    if len(flat):
        _keep(before, after, flat, len(sizes))
    is_odd &= ~is_flat
    coarse = np.flatnonzero(is_coarse & ~(is_flat | is_odd | is_rare))
    if len(coarse):
        after[_RESOLUTION, coarse] = resolution[coarse]
        after[_EVEN : _GRID + 1, coarse] = found = _on_grid(
            before[_RESOLUTION : _GRID + 1, coarse], sizes[:, coarse], least[coarse]
        )
        is_odd[coarse] |= (found[1] >= 4) & (found[0] >= limits.evidence[coarse])
    odd: Flags = is_odd
    return odd


def _keep(before: Floats, after: Floats, flat: "np.ndarray[Any, np.dtype[np.intp]]", changes: int) -> None:
    """Let blocks without any change leave a course as it was."""
    after[_NOISE, flat] = before[_NOISE, flat]
    after[_SMOOTH_CHANGE : _GRID + 1, flat] = before[_SMOOTH_CHANGE : _GRID + 1, flat]
    after[_EPOCH_LOW : _EPOCH_FILL + 1, flat] = before[_EPOCH_LOW : _EPOCH_FILL + 1, flat]
    even = before[_EVEN, flat] + changes
    after[_EVEN, flat] = np.where(before[_EVEN, flat] != 0, np.where(even < RANGED, even, RANGED), 0.0)
    after[_EPOCH_N, flat] = 0.0


def _has_stepped(moved: Floats, before: Floats, since: Floats, step: Floats) -> Flags:
    """Do what `blocks._has_stepped` does."""
    is_far: Flags = ((moved > step) & (before > step)) | ((moved < -step) & (before < -step))
    is_far &= (-step / 2 < since) & (since < step / 2)
    return is_far


def _drift(
    before: Floats,
    after: Floats,
    far: "np.ndarray[Any, np.dtype[np.intp]]",
    level: tuple[Floats, Floats, Floats],
    limits: _Limits,
) -> Flags:
    """Count levels that are far from their base, or were; return where the counts are beyond their limit."""
    off, unit, memory = level
    warm, slack, limit = limits.warm[far], limits.drift_slack[far], limits.drift_limit[far]
    off = off / unit
    off = np.where(off < FAR, off, FAR)
    off = np.where(off > -FAR, off, -FAR)
    most, is_warm = 3 * limit, before[_BLOCKS, far] >= warm
    is_beyond: Flags = np.zeros(len(far), np.bool_)
    for row, change in ((_UP, off), (_DOWN, -off)):
        total = before[row, far] + change - slack
        total = np.where(total > 0.0, total, 0.0)
        after[row, far] = total = np.where(is_warm, np.where(most < total, most, total), before[row, far])
        is_beyond |= total > limit
    off = np.where(off < CLIP, off, CLIP)
    off = np.where(off > -CLIP, off, -CLIP)
    after[_BASE, far] = before[_BASE, far] + memory * unit * off
    is_beyond &= is_warm
    return is_beyond


def _epoch(before: Floats, after: Floats, block: tuple[Floats, Floats, Floats]) -> None:
    """Go on with the epochs, and begin a new grid."""
    level, mean, fill = block
    is_first = before[_EPOCH_N] == 0.0
    low, high = before[_EPOCH_LOW], before[_EPOCH_HIGH]
    is_lower = level < low
    after[_EVEN] = after[_MOVES] = after[_LOUD] = 0.0
    after[_EPOCH_N] = before[_EPOCH_N] + 1.0
    after[_EPOCH_LOW] = np.where(is_first | is_lower, level, low)
    after[_EPOCH_HIGH] = np.where(is_first | (~is_lower & (level > high)), level, high)
    after[_EPOCH_CHANGE] = np.where(is_first, mean, before[_EPOCH_CHANGE] + mean)
    after[_EPOCH_FILL] = np.where(is_first, fill, before[_EPOCH_FILL] + fill)


def _on_grid(before: Floats, sizes: Floats, least: Floats) -> Floats:
    """Do what `judge_grid` does; return samples and moves on a grid, and the grid. `finest` is not 0 here."""
    finest, even, moves, grid = before
    begins = (even == 0) | (least < grid)
    is_off = begins & (even != 0) & (np.abs(grid / least - np.rint(grid / least)) > SHARE)
    grid = np.where(begins, least, grid)
    slip = finest * np.where(grid > WIDE * finest, ROUNDED_SLIP, SLIP)
    has_moved = sizes > SAME
    steps = sizes / grid
    room = SHARE * sizes
    room = np.where(room > slip, room, slip)
    is_off |= (has_moved & (np.abs(steps - np.rint(steps)) * grid > room)).any(axis=0)
    even, moves = even + len(sizes), moves + has_moved.sum(axis=0)
    found = (np.where(even < MANY, even, MANY), np.where(moves < MANY, moves, MANY), grid)
    return np.where(is_off, 0.0, np.array(found))


def _added(rows: Floats) -> Floats:
    """Add rows from the first to the last: how numpy would order it is not promised."""
    total: Floats = rows[0].copy()
    for row in rows[1:]:
        total += row
    return total


def _end_epochs(
    after: Floats, ended: "np.ndarray[Any, np.dtype[np.intp]]", limits: _Limits
) -> "np.ndarray[Any, np.dtype[np.intp]]":
    """End the epochs of these blocks; return which of them are frozen, as `is_frozen` says it."""
    low, high, change, fill = after[_EPOCH_LOW : _EPOCH_FILL + 1, ended]
    last_low, last_high, last_change, last_fill = after[_LAST_LOW:, ended]
    most, least_fill = limits.jitter_range[ended], limits.jitter_fill[ended]
    is_calm = change < limits.jitter_calm[ended] * EPOCH * after[_NOISE, ended]
    is_one = is_calm & (high - low < most * (1.5 * change / EPOCH)) & (fill / EPOCH > least_fill)
    both, fills = (change + last_change) / (2 * EPOCH), (fill + last_fill) / (2 * EPOCH)
    wide = np.where(last_high > high, last_high, high) - np.where(last_low < low, last_low, low)
    is_two = (wide < most * both) & (fills > least_fill)
    is_two &= (limits.jitter[ended] != 0.0) & ~(last_change < 0.0)
    after[_LAST_LOW:, ended] = after[_EPOCH_LOW : _EPOCH_FILL + 1, ended]
    after[_EPOCH_N : _EPOCH_FILL + 1, ended] = 0.0
    frozen: np.ndarray[Any, np.dtype[np.intp]] = ended[is_one | is_two]
    return frozen
