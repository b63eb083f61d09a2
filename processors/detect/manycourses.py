"""The course of many blocks by columns: rate, noise, smoothness, grid, epochs, as `blocks.judge` has them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from processors.detect.blockcolumns import Flags, Floats, Places, Row, Thresholds, of
from processors.detect.blocks import COARSE, EPOCH, FEW_TURNS, RANGED, SAME, SMOOTH_MEMORY
from processors.detect.columnsort import in_order
from processors.detect.grid import MANY, ROUNDED_SLIP, SHARE, SLIP, WIDE


class Course(NamedTuple):
    """What is seen of blocks: changes from sample to sample as rows, else one number a block."""

    level: Floats
    width: Floats
    changes: Floats
    memory: Floats
    is_rare: Flags
    """Shown to be so by the level: the rest does not matter."""


def take_course(known: Floats, seen: Course, limits: Thresholds) -> Flags:
    """Go on with rate, noise, smoothness and grid; return which are rare by anything."""
    level, width, changes, memory, is_rare = seen
    count = len(changes)
    sizes = in_order(np.abs(changes))
    least, largest = sizes[0], sizes[-1]
    change = _added(sizes)
    mean = change / count
    blocks, noise, resolution = known[[Row.BLOCKS, Row.NOISE, Row.RESOLUTION]]
    usual = np.fmax(noise, limits.noise)
    flat = np.flatnonzero(largest == 0.0)
    before_flat = known[:, flat] if len(flat) else known
    is_odd = (largest > limits.max_change) | (largest <= SAME) | (least == SAME)
    loud = np.flatnonzero((mean > limits.ratio_twice * usual) & (blocks > limits.warm))
    if len(loud):
        # One block alone is a motion artefact: a state.
        times = np.minimum(known[Row.LOUD, loud] + 1, RANGED)
        is_odd[loud] |= (mean[loud] > of(limits.ratio_once, loud) * usual[loud]) | (times > 1)
    counted = np.fmin(mean, 2 * usual)
    young = np.flatnonzero(blocks < 3)
    counted[young] = mean[young]
    known[Row.NOISE] += memory * (counted - noise)
    is_odd |= _is_smooth(known, (change, width, changes), limits) & (blocks > 4)
    none = np.flatnonzero(least < SAME)
    if len(none):
        least = least.copy()
        moved = np.array([size[none] for size in sizes])
        least[none] = np.where(moved > SAME, moved, np.inf).min(axis=0)
    is_new = resolution == 0.0
    is_coarse = ~(least < COARSE * resolution) & ~is_new
    known[Row.RESOLUTION] += (least - resolution) * np.where(least < resolution, 0.5, 1 / 64)
    new = np.flatnonzero(is_new)
    known[Row.RESOLUTION, new] = least[new]
    is_odd |= is_rare
    is_odd[flat] = is_rare[flat]
    is_coarse[flat] = False
    coarse = np.flatnonzero(is_coarse & ~is_odd)
    on_grid = known[Row.EVEN : Row.GRID + 1, coarse]
    known[Row.EVEN] = known[Row.MOVES] = known[Row.LOUD] = 0.0
    _epoch(known, (level, mean, change / width))
    if len(loud):
        known[Row.LOUD, loud] = times
    if len(flat):
        _keep(known, before_flat, flat, count)
    if len(coarse):
        known[Row.RESOLUTION, coarse] = finest = resolution[coarse]
        moved = np.array([size[coarse] for size in sizes])
        known[Row.EVEN : Row.GRID + 1, coarse] = found = _on_grid(finest, on_grid, moved, least[coarse])
        is_odd[coarse] |= (found[1] >= 4) & (found[0] >= of(limits.evidence, coarse))
    odd: Flags = is_odd
    return odd


def _is_smooth(known: Floats, block: tuple[Floats, Floats, Floats], limits: Thresholds) -> Flags:
    """Go on with smoothness; return which blocks turn too seldom."""
    change, width, changes = block
    turn = change.copy()
    few = np.flatnonzero(~(change > FEW_TURNS * width))
    bent = changes[:, few]
    turn[few] = _added(np.abs(bent[1:] - bent[:-1]))
    smooth = known[Row.SMOOTH_CHANGE : Row.SMOOTH_TURN + 1]
    smooth *= SMOOTH_MEMORY
    smooth[0] += change
    smooth[1] += turn
    is_smooth: Flags = smooth[1] < limits.smooth_ratio * smooth[0]
    return is_smooth


def _keep(known: Floats, before: Floats, flat: Places, changes: int) -> None:
    """Let blocks without any change leave a course as it was; `before` is what was known of them."""
    known[Row.NOISE, flat] = before[Row.NOISE]
    known[Row.SMOOTH_CHANGE : Row.GRID + 1, flat] = before[Row.SMOOTH_CHANGE : Row.GRID + 1]
    known[Row.EPOCH_LOW : Row.EPOCH_FILL + 1, flat] = before[Row.EPOCH_LOW : Row.EPOCH_FILL + 1]
    even = before[Row.EVEN] + changes
    known[Row.EVEN, flat] = np.where(before[Row.EVEN] != 0, np.where(even < RANGED, even, RANGED), 0.0)
    known[Row.EPOCH_N, flat] = 0.0


def _epoch(known: Floats, block: tuple[Floats, Floats, Floats]) -> None:
    """Go on with the epochs."""
    level, mean, fill = block
    low, high = known[Row.EPOCH_LOW], known[Row.EPOCH_HIGH]
    first = np.flatnonzero(known[Row.EPOCH_N] == 0.0)
    lower = level < low
    higher = np.flatnonzero(~lower & (level > high))
    lower = np.flatnonzero(lower)
    low[lower], high[higher] = level[lower], level[higher]
    known[Row.EPOCH_N] += 1.0
    known[Row.EPOCH_CHANGE] += mean
    known[Row.EPOCH_FILL] += fill
    if len(first):
        known[Row.EPOCH_LOW : Row.EPOCH_FILL + 1, first] = (
            level[first], level[first], mean[first], fill[first],
        )  # fmt: skip


def _on_grid(finest: Floats, before: Floats, sizes: Floats, least: Floats) -> Floats:
    """Do what `judge_grid` does; return samples and moves on a grid, and the grid. `finest` is not 0 here."""
    even, moves, grid = before
    begins = (even == 0) | (grid == 0) | (least < grid)
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


def _added(rows: Sequence[Floats] | Floats) -> Floats:
    """Add rows from the first to the last: how numpy would order it is not promised."""
    total: Floats = rows[0].copy()
    for row in rows[1:]:
        total += row
    return total


def end_epochs(known: Floats, ended: Places, limits: Thresholds) -> Places:
    """End the epochs of these blocks; return which of them are frozen, as `is_frozen` says it."""
    epoch = known[Row.EPOCH_LOW : Row.EPOCH_FILL + 1, ended]
    low, high, change, fill = epoch
    last_low, last_high, last_change, last_fill = known[Row.LAST_LOW :, ended]
    most, least_fill = of(limits.jitter_range, ended), of(limits.jitter_fill, ended)
    is_calm = change < of(limits.jitter_calm, ended) * EPOCH * known[Row.NOISE, ended]
    is_one = is_calm & (high - low < most * (1.5 * change / EPOCH)) & (fill / EPOCH > least_fill)
    both, fills = (change + last_change) / (2 * EPOCH), (fill + last_fill) / (2 * EPOCH)
    wide = np.where(last_high > high, last_high, high) - np.where(last_low < low, last_low, low)
    is_two = (wide < most * both) & (fills > least_fill)
    is_two &= (of(limits.jitter, ended) != 0.0) & ~(last_change < 0.0)
    known[Row.LAST_LOW :, ended] = epoch
    known[Row.EPOCH_N : Row.EPOCH_FILL + 1, ended] = 0.0
    frozen: Places = ended[is_one | is_two]
    return frozen
