"""What the columns of many blocks are called: rows of a table that has a block in each of its columns."""

from typing import Any, NamedTuple

import numpy as np

from processors.detect.blocks import TRACKED

Floats = np.ndarray[Any, np.dtype[np.float64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]
Places = np.ndarray[Any, np.dtype[np.intp]]


class Row:
    """Rows of a track, in the order in which `blocks.judge` unpacks it."""

    (
        BLOCKS, BASE, SCALE, NOISE, UP, DOWN, LEVEL1, LEVEL2, LEVEL3,
        SMOOTH_CHANGE, SMOOTH_TURN, RESOLUTION, EVEN, MOVES, GRID, LOUD, EPOCH_N,
        EPOCH_LOW, EPOCH_HIGH, EPOCH_CHANGE, EPOCH_FILL, LAST_LOW, LAST_HIGH, LAST_CHANGE, LAST_FILL,
    ) = range(TRACKED)  # fmt: skip


class Thresholds(NamedTuple):
    """Rows of `blocks.THRESHOLDS`."""

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
