"""What eight or so samples of one signal say together: level, noise, smoothness, grid.

A sample alone is judged where it comes in; everything slower is judged here, once a block, so that a
sample costs little. All scales are robust: a level is a median, and what is learned from one block is
clipped, so that an anomaly does not become the norm at once.

CUSUM: Page, "Continuous inspection schemes", Biometrika 41 (1954); learned scales as EWMA: Roberts,
Technometrics 1 (1959).
"""

import math
from array import array
from bisect import bisect
from collections.abc import Iterable, Sequence
from operator import sub
from struct import Struct
from typing import NamedTuple

from processors.detect.grid import judge_grid
from processors.detect.rules import DRIFT, JITTER, NOISE, QUANTISED, RATE, SMOOTH, STEP

BLOCK = 8
"""Events of a device in a block. A signal's block begins with the last sample of the one before."""
LEAST = 7
"""A signal that was blank or off in part of a block waits until it has so many samples."""
MEMORY = 1 / 32
"""Weight of a block in a learned scale; the first blocks are averaged evenly."""
BASE_MEMORY = 1 / 48
CLIP, FAR = 4.0, 8.0
"""So many usual moves a level's own move counts at most, for what is learned and for what is judged."""
TINY = 1e-12
LEARNED = 48
SMOOTH_MEMORY = 0.75
EPOCH = 8
FEW_TURNS = 2.1
COARSE = 3.5
RANGED = 60000.0
SAME = 1e-9
_NAN = math.nan


class RareLimits(NamedTuple):
    """Thresholds that few blocks come near."""

    ratio_once: float
    smooth_ratio: float
    jitter_range: float
    jitter_fill: float
    jitter_calm: float
    grid_evidence: float


class BlockLimits(NamedTuple):
    """Thresholds of one signal, in its unit where they have one; infinite where a rule is off."""

    noise: float
    """Usual mean change between two samples: the least that is taken for usual. Above 0, as `spread`."""
    spread: float
    """Usual change of the level from block to block, likewise."""
    step: float
    """0: so many usual moves as are far."""
    max_change: float
    warm_blocks: float
    drift_slack: float
    drift_limit: float
    ratio_twice: float
    jitter: bool
    rare: RareLimits
    packed: bytes
    """Those that every block is held against, as `THRESHOLDS` packs them."""


THRESHOLDS = Struct("<15d")
"""noise, spread, step, max_change, warm_blocks, ratio_twice, smooth_ratio, grid_evidence, drift_slack,
drift_limit, jitter (not 0: true), jitter_range, jitter_fill, jitter_calm, ratio_once"""
Track = bytes
"""What is remembered of a signal from block to block, as `judge` unpacks it: doubles, little-endian. So a
state is written and read by joining and cutting, many blocks are judged at once without a copy of each
number (`manyblocks.py`), and memory holds 8 bytes for a number where a list of floats takes 32."""
TRACKED = 25
TRACK = Struct(f"<{TRACKED}d")
LEVEL = 6
_EVEN, _EPOCH_N, _LAST_CHANGE = 12, 16, 23
_LEVEL_OF = Struct("<d")
Epoch = tuple[float, float, float, float]
"""Lowest and highest level of blocks, the sum of their mean changes, and that of their paths by width."""
Broken = Sequence[tuple[int, float]]
"""Rules that are broken, with scores from 1.0."""


class Block(NamedTuple):
    """What `judge` takes."""

    track: Track
    samples: "array[float]"
    limits: BlockLimits


def new_track() -> Track:
    """Return what is known of a signal before its first block."""
    return interrupted(bytes(TRACK.size))


def interrupted(track: Track) -> Track:
    """Forget what only an unbroken course can show: the sensor was off."""
    known = list(TRACK.unpack(track))
    known[LEVEL : LEVEL + 3] = (_NAN, _NAN, _NAN)
    known[_EVEN : _EPOCH_N + 1] = (0.0, 0.0, 0.0, 0.0, 0.0)
    known[_LAST_CHANGE] = -1.0
    return TRACK.pack(*known)


def level_of(track: Track) -> float:
    """Return the level of the last block."""
    level: float = _LEVEL_OF.unpack_from(track, 8 * LEVEL)[0]
    return level


def judge(  # noqa: C901, PLR0912, PLR0915 - in one piece: calls would cost more than what they do
    track: Track, samples: Sequence[float], limits: BlockLimits
) -> tuple[Track, Broken]:
    """Take a block's samples (at least 3, finite); return what is known now, and the rules they break.

    `manyblocks.judge_many` does the same for many blocks, bit for bit: what is changed here is changed there.
    """
    # One unpacking of both costs less than reading them one by one: this is the hot half of the detectors.
    usual, unit, step, max_change, warm, slack, limit, ratio_twice, jitter, rare, _ = limits
    (
        blocks, base, scale, noise, up, down, level1, level2, level3, smooth_change, smooth_turn, resolution,
        even, moves, grid, loud, epoch_n, epoch_low, epoch_high, epoch_change, epoch_fill,
        last_low, last_high, last_change, last_fill,
    ) = TRACK.unpack(track)  # fmt: skip
    ordered = sorted(samples)
    level = ordered[len(ordered) >> 1] + 0.0  # never -0.0, which equals 0.0 and sorts as it pleases
    if len(samples) == BLOCK + 1:
        a, b, c, d, e, f, g, h, i = samples
        sizes = sorted(
            (abs(b - a), abs(c - b), abs(d - c), abs(e - d), abs(f - e), abs(g - f), abs(h - g), abs(i - h))
        )
    else:
        sizes = sorted(map(abs, map(sub, samples[1:], samples)))
    broken: list[tuple[int, float]] = []
    if blocks == 0.0:
        base, noise, scale = level, usual, unit
    memory = 1 / (blocks + 1) if blocks < LEARNED else BASE_MEMORY
    # Level: drift and step.
    unit = max(unit, scale)
    off = level - base
    if -CLIP * unit < off < CLIP * unit and not up and not down:
        base += memory * off
    else:
        off = max(-FAR, min(FAR, off / unit))
        if blocks >= warm:
            up, down = (
                min(max(0.0, up + off - slack), 3 * limit),
                min(max(0.0, down - off - slack), 3 * limit),
            )
            if up > limit or down > limit:
                broken.append((DRIFT, max(up, down) / limit))
        base += memory * unit * max(-CLIP, min(CLIP, off))
    if blocks < RANGED:
        blocks += 1.0
    memory = max(memory, MEMORY)
    moved = level - level3
    if step == 0.0:
        step = FAR * unit
    if (
        not -step <= moved <= step
        and blocks > warm
        and _has_stepped(moved, level1 - level3, level - level1, step)
    ):
        broken.append((STEP, abs(moved) / step))
        base, up, down = level, 0.0, 0.0
    moved = abs(level - level1)
    if not math.isnan(moved):  # NaN: there is no level before
        scale += memory * ((min(CLIP * unit, moved)) - scale)
    # Course: rate, noise, smoothness, grid. A flat block shows none of them; `stuck` judges it.
    largest = sizes[-1]
    if largest == 0.0:
        epoch_n = loud = 0.0
        if even:
            even = min(RANGED, even + len(sizes))
    else:
        if largest > max_change:
            broken.append((RATE, largest / max_change))
        change = _sum(sizes)
        mean = change / len(sizes)
        usual = max(usual, noise)
        if mean > ratio_twice * usual and blocks > warm:
            loud = min(RANGED, loud + 1)
            if mean > rare.ratio_once * usual or loud > 1:
                broken.append((NOISE, max(1.0, mean / (rare.ratio_once * usual))))
        else:
            loud = 0.0
        noise += memory * ((mean if mean < 2 * usual or blocks < 3 else 2 * usual) - noise)
        width = ordered[-1] - ordered[0]
        # Second differences matter only where turns are few: a path of white noise is 3 times its width long.
        turn = change if change > FEW_TURNS * width else _turn(samples)
        smooth_change = smooth_change * SMOOTH_MEMORY + change
        smooth_turn = smooth_turn * SMOOTH_MEMORY + turn
        if smooth_turn < rare.smooth_ratio * smooth_change and blocks > 4:
            broken.append((SMOOTH, 2.0 - smooth_turn / (rare.smooth_ratio * smooth_change)))
        least = sizes[0]
        if least < SAME:
            least = sizes[min(bisect(sizes, SAME), len(sizes) - 1)]
        if least < COARSE * resolution:
            even = moves = 0.0
            # By half only: one odd value must not make every grid look coarse for good.
            resolution += (least - resolution) * (0.5 if least < resolution else 1 / 64)
        else:
            resolution, even, moves, grid = judge_grid(resolution, even, moves, grid, sizes)
            if moves >= 4 and even >= rare.grid_evidence:
                broken.append((QUANTISED, even / rare.grid_evidence))
        epoch_n += 1.0
        if epoch_n == 1.0:
            epoch_low, epoch_high, epoch_change, epoch_fill = level, level, mean, change / width
        else:
            epoch_change += mean
            epoch_fill += change / width
            if level < epoch_low:
                epoch_low = level
            elif level > epoch_high:
                epoch_high = level
    level3, level2, level1 = level2, level1, level
    if epoch_n == EPOCH:
        epoch = (epoch_low, epoch_high, epoch_change, epoch_fill)
        if is_frozen(epoch, (last_low, last_high, last_change, last_fill), noise, jitter, rare):
            broken.append((JITTER, 1.0))
        last_low, last_high, last_change, last_fill = epoch
        epoch_n = epoch_low = epoch_high = epoch_change = epoch_fill = 0.0
    return TRACK.pack(
        blocks, base, scale, noise, up, down, level1, level2, level3, smooth_change, smooth_turn, resolution,
        even, moves, grid, loud, epoch_n, epoch_low, epoch_high, epoch_change, epoch_fill,
        last_low, last_high, last_change, last_fill,
    ), broken  # fmt: skip


def _sum(numbers: Iterable[float]) -> float:
    """Add from left to right: the built-in `sum` rounds otherwise from Python 3.12 on."""
    total = 0.0
    for each in numbers:
        total += each
    return total


def _turn(samples: Sequence[float]) -> float:
    changes: list[float] = list(map(sub, samples[1:], samples))
    return _sum(map(abs, map(sub, changes[1:], changes)))


def _has_stepped(moved: float, before: float, since: float, step: float) -> bool:
    """Whether this level and the last are both far from the one three blocks ago, and near each other."""
    if not ((moved > step and before > step) or (moved < -step and before < -step)):
        return False
    return -step / 2 < since < step / 2


def is_frozen(epoch: Epoch, last: Epoch, noise: float, moves: bool, limits: RareLimits) -> bool:
    """Jitter around one level: levels of an epoch differ no more than chance makes medians of white noise.

    Two ways to be found: an epoch whose noise is far below the usual as well, or two epochs in a row of a
    signal whose level else `moves`. A variance
    ratio in the sense of Lo and MacKinlay, Review of Financial Studies 1 (1988), with ranges for variances;
    that the noise is white shows in how often a block's path fills its width.
    """
    low, high, change, fill = epoch
    last_low, last_high, last_change, last_fill = last
    calm = change < limits.jitter_calm * EPOCH * noise
    # Noise that is far below the usual says much by itself, so its levels may differ more.
    if calm and _is_white(low, high, 1.5 * change / EPOCH, fill / EPOCH, limits):
        return True
    if not moves or last_change < 0.0:
        return False
    both, fills = (change + last_change) / (2 * EPOCH), (fill + last_fill) / (2 * EPOCH)
    return _is_white(min(low, last_low), max(high, last_high), both, fills, limits)


def _is_white(low: float, high: float, room: float, fill: float, limits: RareLimits) -> bool:
    return high - low < limits.jitter_range * room and fill > limits.jitter_fill
