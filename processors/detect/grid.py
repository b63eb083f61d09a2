"""Values on a grid that is coarser than before: their changes are multiples of one, many times in a row."""

MANY = 60000.0
WIDE = 8.0
"""Times the finest change: so wide that values are rounded once more on their way."""
SLIP, ROUNDED_SLIP, SHARE = 0.25, 1.01, 0.02
"""How far a change may lie from the grid: in finest changes, on a fine or a wide one, or as a share."""


def judge_grid(
    finest: float, even: float, moves: float, grid: float, sizes: list[float]
) -> tuple[float, float, float, float]:
    """Take a block's sizes of change, sorted; return finest change, samples and moves on a grid, the grid.

    `finest` is the usual least change, 0.0 while it is not known; the caller comes only where the least of
    `sizes` is several times that.
    """
    moved = [each for each in sizes if each > 1e-9]
    if not moved:
        return finest, even, moves, grid
    least = moved[0]
    if finest == 0.0:
        return least, 0.0, 0.0, 0.0
    if not even or not grid or least < grid:  # a state that was harmed may have one without the other
        if even and abs(grid / least - round(grid / least)) > SHARE:
            return finest, 0.0, 0.0, 0.0
        grid = least
    slip = finest * (ROUNDED_SLIP if grid > WIDE * finest else SLIP)
    for each in moved:
        if abs(each / grid - round(each / grid)) * grid > max(slip, SHARE * each):
            return finest, 0.0, 0.0, 0.0
    return finest, min(MANY, even + len(sizes)), min(MANY, moves + len(moved)), grid
