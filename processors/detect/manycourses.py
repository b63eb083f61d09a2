"""The course of many blocks by columns: rate, noise, smoothness, grid, epochs, as `blocks.judge` has them."""

from typing import NamedTuple

import numpy as np

from processors.detect.blockcolumns import Flags, Floats, Places, Row, Thresholds
from processors.detect.blocks import COARSE, EPOCH, FEW_TURNS, RANGED, SAME, SMOOTH_MEMORY
from processors.detect.grid import MANY, ROUNDED_SLIP, SHARE, SLIP, WIDE


class Course(NamedTuple):
    """What is seen of blocks: changes from sample to sample as rows, else one number a block."""

    level: Floats
    width: Floats
    changes: Floats
    blocks: Floats
    memory: Floats


def take_course(before: Floats, after: Floats, seen: Course, limits: Thresholds, is_rare: Flags) -> Flags:
    """Go on with rate, noise, smoothness and grid; return which are rare as well."""
    level, width, changes, blocks, memory = seen
    sizes = np.ascontiguousarray(np.sort(np.abs(changes).T, axis=1).T)
    largest, least = sizes[-1], sizes[0]
    is_flat = largest == 0.0
    change = _added(sizes)
    mean = change / len(sizes)
    noise = before[Row.NOISE]
    usual = np.where(noise > limits.noise, noise, limits.noise)
    is_odd = (largest > limits.max_change) | (largest <= SAME)
    is_loud = (mean > limits.ratio_twice * usual) & (blocks > limits.warm)
    twice = 2 * usual
    counted = np.where((mean < twice) | (blocks < 3), mean, twice)
    after[Row.NOISE] = noise + memory * (counted - noise)
    turn = change.copy()
    few = np.flatnonzero(~(change > FEW_TURNS * width))
    turn[few] = _added(np.abs(changes[1:, few] - changes[:-1, few]))
    after[Row.SMOOTH_CHANGE] = smooth_change = before[Row.SMOOTH_CHANGE] * SMOOTH_MEMORY + change
    after[Row.SMOOTH_TURN] = smooth_turn = before[Row.SMOOTH_TURN] * SMOOTH_MEMORY + turn
    is_odd |= (smooth_turn < limits.smooth_ratio * smooth_change) & (blocks > 4)
    is_odd |= least == SAME
    none = np.flatnonzero(least < SAME)
    if len(none):
        least = least.copy()
        least[none] = np.where(sizes[:, none] > SAME, sizes[:, none], np.inf).min(axis=0)
    resolution = before[Row.RESOLUTION]
    is_new = resolution == 0.0
    is_coarse = ~(least < COARSE * resolution) & ~is_new
    follows = resolution + (least - resolution) * np.where(least < resolution, 0.5, 1 / 64)
    after[Row.RESOLUTION] = np.where(is_new, least, follows)
    _epoch(before, after, (level, mean, change / width))
    loud = np.flatnonzero(is_loud)
    if len(loud):
        # One block alone is a motion artefact: a state.
        after[Row.LOUD, loud] = times = np.minimum(before[Row.LOUD, loud] + 1, RANGED)
        is_odd[loud] |= (mean[loud] > limits.ratio_once[loud] * usual[loud]) | (times > 1)
    flat = np.flatnonzero(is_flat)
    if len(flat):
        _keep(before, after, flat, len(sizes))
    is_odd &= ~is_flat
    coarse = np.flatnonzero(is_coarse & ~(is_flat | is_odd | is_rare))
    if len(coarse):
        after[Row.RESOLUTION, coarse] = resolution[coarse]
        after[Row.EVEN : Row.GRID + 1, coarse] = found = _on_grid(
            before[Row.RESOLUTION : Row.GRID + 1, coarse], sizes[:, coarse], least[coarse]
        )
        is_odd[coarse] |= (found[1] >= 4) & (found[0] >= limits.evidence[coarse])
    odd: Flags = is_odd
    return odd


def _keep(before: Floats, after: Floats, flat: Places, changes: int) -> None:
    """Let blocks without any change leave a course as it was."""
    after[Row.NOISE, flat] = before[Row.NOISE, flat]
    after[Row.SMOOTH_CHANGE : Row.GRID + 1, flat] = before[Row.SMOOTH_CHANGE : Row.GRID + 1, flat]
    after[Row.EPOCH_LOW : Row.EPOCH_FILL + 1, flat] = before[Row.EPOCH_LOW : Row.EPOCH_FILL + 1, flat]
    even = before[Row.EVEN, flat] + changes
    after[Row.EVEN, flat] = np.where(before[Row.EVEN, flat] != 0, np.where(even < RANGED, even, RANGED), 0.0)
    after[Row.EPOCH_N, flat] = 0.0


def _epoch(before: Floats, after: Floats, block: tuple[Floats, Floats, Floats]) -> None:
    """Go on with the epochs, and begin a new grid."""
    level, mean, fill = block
    is_first = before[Row.EPOCH_N] == 0.0
    low, high = before[Row.EPOCH_LOW], before[Row.EPOCH_HIGH]
    is_lower = level < low
    after[Row.EVEN] = after[Row.MOVES] = after[Row.LOUD] = 0.0
    after[Row.EPOCH_N] = before[Row.EPOCH_N] + 1.0
    after[Row.EPOCH_LOW] = np.where(is_first | is_lower, level, low)
    after[Row.EPOCH_HIGH] = np.where(is_first | (~is_lower & (level > high)), level, high)
    after[Row.EPOCH_CHANGE] = np.where(is_first, mean, before[Row.EPOCH_CHANGE] + mean)
    after[Row.EPOCH_FILL] = np.where(is_first, fill, before[Row.EPOCH_FILL] + fill)


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


def end_epochs(after: Floats, ended: Places, limits: Thresholds) -> Places:
    """End the epochs of these blocks; return which of them are frozen, as `is_frozen` says it."""
    low, high, change, fill = after[Row.EPOCH_LOW : Row.EPOCH_FILL + 1, ended]
    last_low, last_high, last_change, last_fill = after[Row.LAST_LOW :, ended]
    most, least_fill = limits.jitter_range[ended], limits.jitter_fill[ended]
    is_calm = change < limits.jitter_calm[ended] * EPOCH * after[Row.NOISE, ended]
    is_one = is_calm & (high - low < most * (1.5 * change / EPOCH)) & (fill / EPOCH > least_fill)
    both, fills = (change + last_change) / (2 * EPOCH), (fill + last_fill) / (2 * EPOCH)
    wide = np.where(last_high > high, last_high, high) - np.where(last_low < low, last_low, low)
    is_two = (wide < most * both) & (fills > least_fill)
    is_two &= (limits.jitter[ended] != 0.0) & ~(last_change < 0.0)
    after[Row.LAST_LOW :, ended] = after[Row.EPOCH_LOW : Row.EPOCH_FILL + 1, ended]
    after[Row.EPOCH_N : Row.EPOCH_FILL + 1, ended] = 0.0
    frozen: Places = ended[is_one | is_two]
    return frozen
