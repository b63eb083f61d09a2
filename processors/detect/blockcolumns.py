"""What the columns of many blocks are called: rows of a table that has a block in each of its columns."""

from typing import Any, NamedTuple

import numpy as np

from processors.detect.blocks import TRACKED

Floats = np.ndarray[Any, np.dtype[np.float64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]
Places = np.ndarray[Any, np.dtype[np.intp]]
_LINE, _PAGE = 8, 512 // 4
"""Numbers of a line of the cache; numbers after which rows may fall on each other's lines."""


class Row:
    """Rows of a track, in the order in which `blocks.judge` unpacks it."""

    (
        BLOCKS, BASE, SCALE, NOISE, UP, DOWN, LEVEL1, LEVEL2, LEVEL3,
        SMOOTH_CHANGE, SMOOTH_TURN, RESOLUTION, EVEN, MOVES, GRID, LOUD, EPOCH_N,
        EPOCH_LOW, EPOCH_HIGH, EPOCH_CHANGE, EPOCH_FILL, LAST_LOW, LAST_HIGH, LAST_CHANGE, LAST_FILL,
    ) = range(TRACKED)  # fmt: skip


class Thresholds(NamedTuple):
    """Rows of `blocks.THRESHOLDS`; one number where it is the same for all blocks."""

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


def thresholds_of(rows: Floats) -> Thresholds:
    """Name the columns of a table that has the thresholds of a block in each row; there may be none."""
    columns = np.ascontiguousarray(rows.T)
    return Thresholds(
        *(np.array(each[0]) if len(each) and (each == each[0]).all() else each for each in columns)
    )


def of(threshold: Floats, which: Places) -> Floats:
    """Return a threshold for some of the blocks."""
    return threshold[which] if threshold.ndim else threshold


def of_some(limits: Thresholds, which: Places) -> Thresholds:
    """Return all thresholds for some of the blocks."""
    return Thresholds(*(of(each, which) for each in limits))


def columns_of(rows: Floats) -> Floats:
    """Return a copy of a table of rows, or of a table of such tables, with each row as a column.

    Its rows do not all begin at the same place of a page: else what is written column by column falls on few
    lines of the cache, and takes four times as long.
    """
    width, count = rows.shape[-1], rows[..., 0].size
    table: Floats = np.empty((width, count + _LINE if count % _PAGE == 0 else count))[:, :count]
    table.reshape(width, *rows.shape[:-1])[:] = np.moveaxis(rows, -1, 0)
    return table


def rows_of(columns: Floats, shape: tuple[int, ...]) -> Floats:
    """Return the table of this shape of which `columns_of` made these columns."""
    rows: Floats = np.moveaxis(columns.reshape(shape[-1], *shape[:-1]), 0, -1)
    return rows
