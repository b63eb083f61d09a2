"""One real intensive-care record: 1,936 minutes of a bedside monitor's numerics.

Origin, licence and file format: `loadtests/data/ORIGIN.md`. Zeros stand as the monitor reported them
(a sensor that is off); a blank cell, a value that was not measured in that minute, is left out of its row.
"""

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from schemas.mdc import BY_NAME

FILE = "icu-vitals.deltas.csv.gz"
ROW_INTERVAL_S = 60
"""Time between two rows of the record."""


@dataclass(frozen=True, slots=True)
class Row:
    """The readings of one minute: MDC codes, and values in each code's unit, parallel to them."""

    codes: tuple[int, ...]
    values: tuple[float, ...]


@cache
def rows() -> Sequence[Row]:
    """Return the record's rows in order of time, one a minute."""
    return tuple(
        Row(
            tuple(BY_NAME[name.lower()].code for name, cell in cells if cell is not None),
            tuple(cell / 10 for _, cell in cells if cell is not None),
        )
        for cells in _tenths()
    )


def as_csv() -> str:
    """Return the record as it was published: seconds and signals, one decimal, blanks kept."""
    lines = []
    names: list[str] = []
    for minute, cells in enumerate(_tenths()):
        names = names or [name for name, _ in cells]
        texts = ["" if cell is None else f"{cell / 10:.1f}" for _, cell in cells]
        lines.append(",".join([f"{minute * ROW_INTERVAL_S:.1f}", *texts]))
    return "\n".join([",".join(["t_s", *names]), *lines, ""])


def _tenths() -> Iterator[list[tuple[str, int | None]]]:
    """Undo the deltas: the cells of each row as (column, tenths of its unit)."""
    packed = resources.files("loadtests").joinpath("data", FILE).read_bytes()
    header, *lines = gzip.decompress(packed).decode("ascii").splitlines()
    names = header.split(",")
    last = [0] * len(names)
    for line in lines:
        cells: list[tuple[str, int | None]] = []
        for column, text in enumerate(line.split(",")):
            if text:
                last[column] += int(text)
            cells.append((names[column], last[column] if text else None))
        yield cells
