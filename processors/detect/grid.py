"""Values on a grid that is coarser than before: their changes are multiples of one, many times in a row."""

_MANY = 60000.0
_WIDE = 8.0  # times the finest change: so wide that values are rounded once more on their way


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
    if not even or least < grid:
        if even and abs(grid / least - round(grid / least)) > 0.02:
            return finest, 0.0, 0.0, 0.0
        grid = least
    slip = finest * (1.01 if grid > _WIDE * finest else 0.25)
    for each in moved:
        if abs(each / grid - round(each / grid)) * grid > max(slip, 0.02 * each):
            return finest, 0.0, 0.0, 0.0
    return finest, min(_MANY, even + len(sizes)), min(_MANY, moves + len(moved)), grid
