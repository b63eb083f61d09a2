"""Signals that measure one thing twice: pulse and heart rate, mean pressure and its two ends.

What one sensor shows alone can be true; that two of them contradict each other cannot. The difference is
far steadier than either signal, so a slow drift shows in it early.
"""

from dataclasses import dataclass

from processors.detect.blocks import BASE_MEMORY, CLIP, FAR, LEARNED, RANGED

_TWICE, _PLAIN = 2, 3.0


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


RelationTrack = list[float]
"""What is remembered of a relation: blocks, the usual difference, its scale, the two CUSUMs,
and for how many blocks in a row the difference was beyond tolerance."""
RELATED = 6


def new_relation() -> RelationTrack:
    """Return what is known before the first block: two sensors of one thing are expected to agree."""
    return [0.0] * RELATED


def judge_relation(track: RelationTrack, levels: list[float], limits: RelationLimits) -> float:
    """Take the levels of a block; return the score of a contradiction, at most 1.0 where there is none."""
    blocks, base, scale, up, down, beyond = track
    level = difference(limits.kind, levels)
    score = abs(level) / limits.tolerance
    beyond = min(RANGED, beyond + 1) if score > 1 else 0.0
    if 1 < score < _PLAIN and beyond < _TWICE:
        score = 1.0  # one sensor may be moved or pressed for some minutes: a state
    unit = max(limits.spread, scale)
    off = (level - base) / unit
    if off > FAR:
        off = FAR
    elif off < -FAR:
        off = -FAR
    if blocks >= limits.warm_blocks:
        up = min(max(0.0, up + off - limits.slack), 3 * limits.limit)
        down = min(max(0.0, down - off - limits.slack), 3 * limits.limit)
        score = max(score, up / limits.limit, down / limits.limit)
    memory = 1 / (blocks + 1) if blocks < LEARNED else BASE_MEMORY
    off = off if -CLIP < off < CLIP else (CLIP if off > 0 else -CLIP)
    base += memory * unit * off
    scale += memory * (abs(off) * unit - scale)
    track[:] = (min(blocks + 1, RANGED), base, scale, up, down, beyond)
    return score


def difference(kind: str, levels: list[float]) -> float:
    """Return how far the first level is from what the others say."""
    if kind == "equal":
        return levels[0] - levels[1]
    mean, high, low = levels
    return mean - (high + 2 * low) / 3
