"""What eight or so samples of one signal say together: level, noise, smoothness, grid.

A sample alone is judged where it comes in; everything slower is judged here, once a block, so that a
sample costs little. All scales are robust: a level is a median, and what is learned from one block is
clipped, so that an anomaly does not become the norm at once.

CUSUM: Page, "Continuous inspection schemes", Biometrika 41 (1954); learned scales as EWMA: Roberts,
Technometrics 1 (1959).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import sub

from processors.detect.rules import DRIFT, JITTER, NOISE, QUANTISED, SMOOTH, STEP

BLOCK = 8
"""Events of a device in a block."""
LEAST = 6
"""A signal that was blank or off in part of a block waits until it has so many samples."""
_NONE: tuple[tuple[int, float], ...] = ()
_MEMORY = 1 / 32  # weight of a block in a learned scale; the first blocks are averaged evenly
_BASE_MEMORY = 1 / 48
_CLIP = 4.0
_FAR = 8.0
_SMOOTH_MEMORY = 0.75
_MANY = 0xFFFF
_GRID_RATIO = 3.5
_EPOCH = 8
TINY = 1e-12


@dataclass(frozen=True, slots=True)
class BlockLimits:
    """Thresholds of one signal, in its unit where they have one; infinite where a rule is off."""

    noise: float
    """Usual mean change between two samples: the least that is taken for usual."""
    spread: float
    """Usual change of the level from block to block, likewise."""
    step: float
    warm_blocks: int
    drift_slack: float
    drift_limit: float
    noise_ratio: float
    noise_ratio_twice: float
    smooth_ratio: float
    jitter: bool
    jitter_range: float
    jitter_roughness: float
    jitter_calm: float
    grid_evidence: int


class Track:
    """What is remembered of a signal from block to block, in its unit."""

    __slots__ = (
        "base", "blocks", "down", "epoch_change", "epoch_high", "epoch_low", "epoch_n", "epoch_turn",
        "even", "grid", "last_change", "last_high", "last_low", "last_turn", "level1", "level2",
        "level3", "loud", "moves", "noise", "resolution", "scale", "smooth_change", "smooth_turn", "up",
    )  # fmt: skip

    def __init__(self) -> None:
        self.blocks = self.epoch_n = self.loud = self.even = self.moves = 0
        self.base = self.scale = self.noise = self.up = self.down = 0.0
        self.level1 = self.level2 = self.level3 = float("nan")
        self.smooth_change = self.smooth_turn = self.resolution = self.grid = 0.0
        self.epoch_low = self.epoch_high = self.epoch_change = self.epoch_turn = 0.0
        self.last_low = self.last_high = self.last_turn = 0.0
        self.last_change = -1.0

    def interrupted(self) -> None:
        """Forget what only an unbroken course can show: the sensor was off."""
        self.level1 = self.level2 = self.level3 = float("nan")
        self.last_change = -1.0
        self.epoch_n = self.even = self.moves = self.loud = 0


def judge(track: Track, samples: list[float], limits: BlockLimits) -> Sequence[tuple[int, float]]:
    """Take a block's samples (at least 2, finite); return the rules they break, with scores from 1.0."""
    ordered = sorted(samples)
    count = len(samples)
    level = ordered[count >> 1]
    changes = list(map(sub, samples[1:], samples))
    change = sum(map(abs, changes))
    blocks = track.blocks
    if blocks == 0:
        track.base, track.level1 = level, level
        track.noise, track.scale = max(limits.noise, TINY), max(limits.spread, TINY)
    track.blocks = blocks + 1 if blocks < _MANY else _MANY
    broken = _NONE
    # Level: drift and step.
    base, scale = track.base, track.scale
    floor = limits.spread
    unit = scale if scale > floor else floor
    if unit < TINY:
        unit = TINY
    off = (level - base) / unit
    near = off if -_FAR < off < _FAR else (_FAR if off > 0 else -_FAR)
    moved = level - track.level1
    if blocks >= limits.warm_blocks:
        slack, limit = limits.drift_slack, limits.drift_limit
        up, down = track.up + near - slack, track.down - near - slack
        track.up = up = 0.0 if up < 0.0 else (up if up < 3 * limit else 3 * limit)
        track.down = down = 0.0 if down < 0.0 else (down if down < 3 * limit else 3 * limit)
        if up > limit or down > limit:
            broken = (*broken, (DRIFT, (up if up > down else down) / limit))
        step = limits.step if limits.step > 0.0 else _FAR * unit
        older = track.level3
        if not -step <= level - older <= step:
            broken = _stepped(track, level, step, broken)
    memory = 1 / (blocks + 1) if blocks < 48 else _BASE_MEMORY
    track.base = base + memory * unit * (near if -_CLIP < near < _CLIP else (_CLIP if near > 0 else -_CLIP))
    if moved == moved:  # not NaN: there is a level before
        moved = moved if moved > 0 else -moved
        memory = 1 / (blocks + 1) if blocks < 32 else _MEMORY
        track.scale = scale + memory * ((moved if moved < _CLIP * unit else _CLIP * unit) - scale)
    track.level3, track.level2, track.level1 = track.level2, track.level1, level
    # Course: noise, smoothness, grid. A flat block shows none of them; `stuck` judges it.
    if change == 0.0:
        track.epoch_n = track.loud = 0
        if track.even:
            track.even = min(_MANY, track.even + count)
        return broken
    turn = sum(map(abs, map(sub, changes[1:], changes)))
    mean_change = change / (count - 1)
    usual = track.noise if track.noise > limits.noise else limits.noise
    ratio = mean_change / (usual if usual > TINY else TINY)
    if ratio > limits.noise_ratio_twice and blocks >= limits.warm_blocks:
        track.loud += track.loud < _MANY
        if ratio > limits.noise_ratio or track.loud > 1:
            broken = (*broken, (NOISE, max(1.0, ratio / limits.noise_ratio)))
    else:
        track.loud = 0
    memory = 1 / (blocks + 1) if blocks < 32 else _MEMORY
    track.noise += memory * ((mean_change if mean_change < 2 * usual else 2 * usual) - track.noise)
    track.smooth_change = smooth_change = track.smooth_change * _SMOOTH_MEMORY + change
    track.smooth_turn = smooth_turn = track.smooth_turn * _SMOOTH_MEMORY + turn
    if smooth_turn < limits.smooth_ratio * smooth_change and blocks >= 3:
        broken = (*broken, (SMOOTH, 2.0 - smooth_turn / (limits.smooth_ratio * smooth_change)))
    broken = _grid(track, changes, limits, broken)
    if limits.jitter:
        broken = _frozen(track, level, change / (count - 1), turn / (count - 1), limits, broken)
    return broken


Broken = tuple[tuple[int, float], ...]


def _stepped(track: Track, level: float, step: float, broken: Broken) -> Broken:
    """A step: this level and the last are both far from the one three blocks ago, and near each other."""
    first, before = level - track.level3, track.level1 - track.level3
    if not ((first > step and before > step) or (first < -step and before < -step)):
        return broken
    if not -step / 2 < level - track.level1 < step / 2:
        return broken
    track.base = level
    track.up = track.down = 0.0
    size = first if first > 0 else -first
    return (*broken, (STEP, size / step))


def _grid(track: Track, changes: list[float], limits: BlockLimits, broken: Broken) -> Broken:
    """Values of a grid coarser than before: all changes are multiples of one, many times in a row."""
    sizes = [abs(each) for each in changes if each > 1e-9 or each < -1e-9]
    if not sizes:
        return broken
    least = min(sizes)
    finest = track.resolution
    if finest == 0.0:
        track.resolution = least
        return broken
    if least < _GRID_RATIO * finest:
        track.even = track.moves = 0
        # By half only: one odd value must not make every grid look coarse for good.
        track.resolution = (finest + least) / 2 if least < finest else finest + (least - finest) / 64
        return broken
    grid = track.grid if track.even else least
    if least < grid * 0.999:
        ratio = grid / least
        if abs(ratio - round(ratio)) > 0.02:
            track.even = track.moves = 0
            return broken
        grid = least
    # Values are rounded to `finest` once more on their way, so a multiple of a wide grid may be off by that.
    slip = finest * (1.01 if grid > 8 * finest else 0.25)
    for each in sizes:
        steps = each / grid
        if abs(steps - round(steps)) * grid > max(slip, 0.02 * each):
            track.even = track.moves = 0
            return broken
    track.grid = grid
    track.even = min(_MANY, track.even + len(changes))
    track.moves = min(_MANY, track.moves + len(sizes))
    if track.moves >= 3 and track.even >= limits.grid_evidence:
        return (*broken, (QUANTISED, track.even / limits.grid_evidence))
    return broken


def _frozen(
    track: Track, level: float, change: float, turn: float, limits: BlockLimits, broken: Broken
) -> Broken:
    """Jitter around one level: the levels of an epoch differ no more than chance makes the medians of white noise.

    Two ways to be found: two epochs in a row, or one whose noise is far below the usual as well. A variance
    ratio in the sense of Lo and MacKinlay, Review of Financial Studies 1 (1988), with ranges for variances.
    """
    if track.epoch_n == 0:
        track.epoch_low = track.epoch_high = level
        track.epoch_change, track.epoch_turn = change, turn
    else:
        track.epoch_low = min(track.epoch_low, level)
        track.epoch_high = max(track.epoch_high, level)
        track.epoch_change += change
        track.epoch_turn += turn
    track.epoch_n += 1
    if track.epoch_n < _EPOCH:
        return broken
    low, high, change, turn = track.epoch_low, track.epoch_high, track.epoch_change, track.epoch_turn
    calm = change < limits.jitter_calm * _EPOCH * max(track.noise, limits.noise)
    found = calm and _is_white(low, high, change / _EPOCH, turn / _EPOCH, limits)
    if not found and track.last_change >= 0.0:
        change, turn = change + track.last_change, turn + track.last_turn
        low, high = min(low, track.last_low), max(high, track.last_high)
        found = _is_white(low, high, change / (2 * _EPOCH), turn / (2 * _EPOCH), limits)
    track.last_low, track.last_high = track.epoch_low, track.epoch_high
    track.last_change, track.last_turn = track.epoch_change, track.epoch_turn
    track.epoch_n = 0
    return (*broken, (JITTER, 1.0)) if found else broken


def _is_white(low: float, high: float, change: float, turn: float, limits: BlockLimits) -> bool:
    return high - low < limits.jitter_range * change and turn > limits.jitter_roughness * change
