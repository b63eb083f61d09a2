"""Signals that measure one thing twice: pulse and heart rate, mean pressure and its two ends.

What one sensor shows alone can be true; that two of them contradict each other cannot. The difference is
far steadier than either signal, so a slow drift shows in it early.
"""

from dataclasses import dataclass

from processors.detect.blocks import TINY

_MEMORY = 1 / 48
_CLIP, _FAR = 4.0, 8.0
_MANY = 0xFFFF


@dataclass(frozen=True, slots=True)
class RelationLimits:
    """One relation. `equal`: codes (a, b); `mean`: codes (mean, systolic, diastolic), in one unit.

    `tolerance` bounds the difference's median over a block, `spread` is its usual change between blocks;
    a mean is expected a third of the way up from diastolic (the usual estimate; Gauer 1960), and never
    outside the two.
    """

    codes: tuple[int, ...]
    kind: str
    tolerance: float
    spread: float
    slack: float
    limit: float
    warm_blocks: int


class RelationTrack:
    """What is remembered of a relation: the usual difference, its scale, and the two CUSUMs."""

    __slots__ = ("base", "blocks", "down", "scale", "up")

    def __init__(self) -> None:
        self.blocks = 0
        self.base = self.scale = self.up = self.down = 0.0


def differences(kind: str, parts: list[list[float]]) -> list[float]:
    """Return how far each sample of the first signal is from what the others say."""
    if kind == "equal":
        return [one - other for one, other in zip(*parts, strict=True)]
    return [mean - (high + 2 * low) / 3 for mean, high, low in zip(*parts, strict=True)]


def judge_relation(track: RelationTrack, found: list[float], limits: RelationLimits) -> float:
    """Take a block's differences; return the score of a contradiction, below 1.0 where there is none."""
    level = sorted(found)[len(found) >> 1]
    blocks = track.blocks
    if blocks == 0:
        # Two sensors of one thing agree from the start: no learning may make a contradiction the norm.
        track.scale = limits.spread
    track.blocks = blocks + 1 if blocks < _MANY else _MANY
    size = level if level > 0 else -level
    score = size / limits.tolerance
    unit = max(track.scale, limits.spread, TINY)
    off = (level - track.base) / unit
    off = off if -_FAR < off < _FAR else (_FAR if off > 0 else -_FAR)
    if blocks >= limits.warm_blocks:
        track.up = min(max(0.0, track.up + off - limits.slack), 3 * limits.limit)
        track.down = min(max(0.0, track.down - off - limits.slack), 3 * limits.limit)
        score = max(score, max(track.up, track.down) / limits.limit)
    memory = 1 / (blocks + 1) if blocks < 48 else _MEMORY
    clipped = off if -_CLIP < off < _CLIP else (_CLIP if off > 0 else -_CLIP)
    track.base += memory * unit * clipped
    away = clipped if clipped > 0 else -clipped
    track.scale += memory * (away * unit - track.scale)
    return score
