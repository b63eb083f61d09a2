"""`blocks.judge` for many blocks at once, bit for bit.

Most blocks show nothing: their level is near the usual, their noise no more than usual, and only what is
remembered changes. Those are counted here, column by column; a block that comes near any rule is given to
`judge` itself. So there is one place that says what breaks a rule.

Elementwise arithmetic of numpy rounds as Python's does, operation by operation, as long as the operations
come in the same order. `max(a, b)` of Python is `b` only where `b > a`, hence the wheres.
"""

from collections.abc import Callable, Sequence
from typing import Any

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
    is_frozen,
    judge,
)
from processors.detect.grid import MANY, ROUNDED_SLIP, SHARE, SLIP, WIDE
from processors.detect.rules import JITTER

Floats = np.ndarray[Any, np.dtype[np.float64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]
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

    `known` and what is returned have `TRACKED` columns, `thresholds` those of `THRESHOLDS`, `samples`
    `BLOCK` + 1. `limits_of` gives the limits of a row.
    """
    with np.errstate(all="ignore"):
        after, is_near_a_rule = _usual(
            np.ascontiguousarray(known.T), np.ascontiguousarray(thresholds.T), samples
        )
    ended = np.flatnonzero((after[_EPOCH_N] == EPOCH) & ~is_near_a_rule)
    broken: dict[int, Broken] = {}
    if len(ended):
        broken = dict.fromkeys(_end_epochs(after, ended, limits_of), _FROZEN)
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


def _usual(known: Floats, thresholds: Floats, samples: Floats) -> tuple[Floats, Flags]:
    """Return what is remembered after blocks that break nothing, and which ones `judge` must look at."""
    usual, unit, step, max_change, warm, ratio_twice, smooth_ratio, evidence = thresholds
    before, after = known, known.copy()
    ordered = np.sort(samples, axis=1).T
    changes = samples.T[1:] - samples.T[:-1]
    sizes = np.sort(np.abs(changes).T, axis=1).T
    level = ordered[len(ordered) >> 1] + 0.0
    # Level.
    scale, level1 = before[_SCALE], before[_LEVEL1]
    unit = np.where(scale > unit, scale, unit)
    off = level - before[_BASE]
    is_rare = ~((-CLIP * unit < off) & (off < CLIP * unit) & (before[_UP] == 0) & (before[_DOWN] == 0))
    is_rare |= (before[_BLOCKS] == 0) | np.isnan(level1)
    memory = np.where(before[_BLOCKS] < LEARNED, 1 / (before[_BLOCKS] + 1), BASE_MEMORY)
    after[_BASE] = before[_BASE] + memory * off
    after[_BLOCKS] = blocks = np.where(before[_BLOCKS] < RANGED, before[_BLOCKS] + 1.0, before[_BLOCKS])
    memory = np.where(memory < MEMORY, MEMORY, memory)
    moved = level - before[_LEVEL3]
    step = np.where(step == 0.0, FAR * unit, step)
    is_rare |= ~((-step <= moved) & (moved <= step)) & (blocks > warm)
    moved = np.abs(level - level1)
    most = CLIP * unit
    after[_SCALE] = scale + memory * (np.where(moved < most, moved, most) - scale)
    after[_LEVEL3], after[_LEVEL2], after[_LEVEL1] = before[_LEVEL2], level1, level
    # Course.
    is_flat = sizes[-1] == 0.0
    change = _added(sizes)
    mean = change / BLOCK
    noise = before[_NOISE]
    usual = np.where(noise > usual, noise, usual)
    is_odd = (sizes[-1] > max_change) | (sizes[-1] <= SAME)
    is_odd |= (mean > ratio_twice * usual) & (blocks > warm)
    twice = 2 * usual
    counted = np.where((mean < twice) | (blocks < 3), mean, twice)
    width = ordered[-1] - ordered[0]
    turn = np.where(change > FEW_TURNS * width, change, _added(np.abs(changes[1:] - changes[:-1])))
    smooth_change = before[_SMOOTH_CHANGE] * SMOOTH_MEMORY + change
    smooth_turn = before[_SMOOTH_TURN] * SMOOTH_MEMORY + turn
    is_odd |= (smooth_turn < smooth_ratio * smooth_change) & (blocks > 4)
    least = np.where(sizes[0] < SAME, np.where(sizes > SAME, sizes, np.inf).min(axis=0), sizes[0])
    resolution = before[_RESOLUTION]
    is_odd |= (resolution == 0.0) | (sizes[0] == SAME)
    _course(
        before,
        after,
        is_flat,
        {
            _NOISE: noise + memory * (counted - noise),
            _SMOOTH_CHANGE: smooth_change,
            _SMOOTH_TURN: smooth_turn,
            _RESOLUTION: resolution + (least - resolution) * np.where(least < resolution, 0.5, 1 / 64),
        },
        (level, mean, change / width),
    )
    is_rare |= is_odd & ~is_flat
    coarse = np.flatnonzero(~((least < COARSE * resolution) | is_flat | is_rare))
    if len(coarse):
        after[_RESOLUTION, coarse] = resolution[coarse]
        after[_EVEN : _GRID + 1, coarse] = found = _on_grid(
            before[_RESOLUTION : _GRID + 1, coarse], sizes[:, coarse], least[coarse]
        )
        is_rare[coarse] |= (found[1] >= 4) & (found[0] >= evidence[coarse])
    return after, is_rare


def _course(
    before: Floats,
    after: Floats,
    is_flat: Flags,
    moving: dict[int, Floats],
    epoch: tuple[Floats, Floats, Floats],
) -> None:
    """Write what a block's course changes; a flat one changes the counts only."""
    level, mean, fill = epoch
    is_first = before[_EPOCH_N] == 0.0
    low, high = before[_EPOCH_LOW], before[_EPOCH_HIGH]
    moving |= {
        _MOVES: np.zeros_like(level),
        _EPOCH_LOW: np.where(is_first | (level < low), level, low),
        _EPOCH_HIGH: np.where(is_first | (~(level < low) & (level > high)), level, high),
        _EPOCH_CHANGE: np.where(is_first, mean, before[_EPOCH_CHANGE] + mean),
        _EPOCH_FILL: np.where(is_first, fill, before[_EPOCH_FILL] + fill),
    }
    for row, values in moving.items():
        after[row] = np.where(is_flat, before[row], values)
    even = before[_EVEN] + BLOCK
    after[_EVEN] = np.where(is_flat & (before[_EVEN] != 0), np.where(even < RANGED, even, RANGED), 0.0)
    after[_LOUD] = 0.0
    after[_EPOCH_N] = np.where(is_flat, 0.0, before[_EPOCH_N] + 1.0)


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
    even, moves = even + BLOCK, moves + has_moved.sum(axis=0)
    found = (np.where(even < MANY, even, MANY), np.where(moves < MANY, moves, MANY), grid)
    return np.where(is_off, 0.0, np.array(found))


def _added(rows: Floats) -> Floats:
    """Add rows from the first to the last: how numpy would order it is not promised."""
    total: Floats = rows[0].copy()
    for row in rows[1:]:
        total += row
    return total


def _end_epochs(
    after: Floats, ended: "np.ndarray[Any, np.dtype[np.intp]]", limits_of: Callable[[int], BlockLimits]
) -> Sequence[int]:
    """End the epochs of these blocks; return which of them are frozen."""
    frozen = []
    epochs = after[_EPOCH_LOW : _EPOCH_FILL + 1, ended]
    lasts, noises = after[_LAST_LOW:, ended], after[_NOISE, ended]
    for number, epoch, last, noise in zip(
        ended.tolist(), epochs.T.tolist(), lasts.T.tolist(), noises.tolist(), strict=True
    ):
        limits = limits_of(number)
        if is_frozen(tuple(epoch), tuple(last), noise, limits.jitter, limits.rare):
            frozen.append(number)
    after[_LAST_LOW:, ended] = epochs
    after[_EPOCH_N : _EPOCH_FILL + 1, ended] = 0.0
    return frozen
