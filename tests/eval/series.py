"""Labelled series in the layout of the Numenta Anomaly Benchmark, read without trust.

`DIR/labels/combined_windows.json` (or `DIR/combined_windows.json`) names the series and the windows in
which they are anomalous: `{"group/name.csv": [["2014-04-10 07:15:00", "2014-04-11 16:45:00"], ...]}`. The
series lie under `DIR/data` (or `DIR`) as CSV with the columns `timestamp` and `value`. What does not fit is
one SeriesError with file and line.
"""

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

LABELS = "combined_windows.json"
HEADER = ["timestamp", "value"]
MAX_ROWS = 5_000_000


class SeriesError(ValueError):
    """A series or its labels cannot be used; the message names file and line."""

    def __init__(self, path: Path, line: int, what: str) -> None:
        super().__init__(f"{path} line {line}: {what}")


@dataclass(frozen=True)
class Series:
    """One series: microseconds since 1970 (never falling), values, and windows as first and last row."""

    name: str
    times_us: Sequence[int]
    values: Sequence[float]
    windows: Sequence[tuple[int, int]]


def read(folder: Path) -> Iterator[Series]:
    """Read all labelled series of a folder, in the order of the labels; raises SeriesError."""
    labels = folder / "labels" / LABELS
    if not labels.is_file():
        labels = folder / LABELS
    data = folder / "data"
    for name, line, windows in _labels(labels):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise SeriesError(labels, line, f"{_shown(name)} leads out of the folder")
        times_us, values = _rows((data if data.is_dir() else folder) / path)
        yield Series(name, times_us, values, _as_rows(labels, line, windows, times_us))


def _labels(path: Path) -> Iterator[tuple[str, int, list[tuple[int, int]]]]:
    text = _text(path)
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise SeriesError(path, error.lineno, f"no JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise SeriesError(path, 1, "no readable JSON") from error
    if not isinstance(found, dict) or not found:
        raise SeriesError(path, 1, "expected an object with the windows of at least one series")
    for name, windows in found.items():
        line = _line_of(text, name)
        yield name, line, _windows(path, line, windows)


def _line_of(text: str, name: str) -> int:
    """Where a key stands, for messages; the first line if it is written in an unusual way."""
    at = text.find(json.dumps(name))
    return text.count("\n", 0, max(at, 0)) + 1


def _windows(path: Path, line: int, found: Any) -> list[tuple[int, int]]:
    if not isinstance(found, list):
        raise SeriesError(path, line, "expected a list of windows")
    windows = []
    for each in found:
        if not isinstance(each, list) or len(each) != 2:
            raise SeriesError(path, line, f"a window is a list of its begin and its end, not {_shown(each)}")
        try:
            begin, end = (_time(text) for text in each)
        except ValueError as error:
            raise SeriesError(path, line, str(error)) from error
        if begin > end:
            raise SeriesError(path, line, f"the window {_shown(each)} ends before it begins")
        windows.append((begin, end))
    windows.sort()
    for one, two in pairwise(windows):
        if one[1] >= two[0]:
            raise SeriesError(path, line, "two windows overlap")
    return windows


def _rows(path: Path) -> tuple[list[int], list[float]]:
    times_us: list[int] = []
    values: list[float] = []
    # By lines, so that the number of a line is right where a cell spans two.
    reader = csv.reader(_text(path).splitlines(), strict=True)
    line = 0
    try:
        for cells in reader:
            line = reader.line_num
            if line == 1:
                if [cell.strip().lower() for cell in cells] != HEADER:
                    raise SeriesError(path, 1, f"expected the header {','.join(HEADER)}")
                continue
            if not cells:
                continue
            if len(cells) != 2:
                raise SeriesError(path, line, f"{len(cells)} cells, expected a timestamp and a value")
            time_us, value = _time(cells[0]), _value(cells[1])
            if times_us and time_us < times_us[-1]:
                raise SeriesError(path, line, f"{_shown(cells[0])} is earlier than the line before")
            times_us.append(time_us)
            values.append(value)
            if len(values) > MAX_ROWS:
                raise SeriesError(path, line, f"more than {MAX_ROWS} rows")
    except csv.Error as error:
        raise SeriesError(path, reader.line_num, f"no readable CSV: {error}") from error
    except ValueError as error:
        if isinstance(error, SeriesError):
            raise
        raise SeriesError(path, line, str(error)) from error
    if not values:
        raise SeriesError(path, max(1, line), "has no rows")
    return times_us, values


def _as_rows(
    path: Path, line: int, windows: list[tuple[int, int]], times_us: Sequence[int]
) -> list[tuple[int, int]]:
    rows = []
    for begin, end in windows:
        inside = [row for row, time_us in enumerate(times_us) if begin <= time_us <= end]
        if not inside:
            raise SeriesError(path, line, f"no row lies in the window from {_utc(begin)} to {_utc(end)}")
        rows.append((inside[0], inside[-1]))
    return rows


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SeriesError(path, 1, error.strerror or "cannot be read") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SeriesError(path, data.count(b"\n", 0, error.start) + 1, "not UTF-8 text") from error


def _time(text: object) -> int:
    """Read an ISO 8601 time, UTC unless it says otherwise; raises ValueError."""
    try:
        if not isinstance(text, str):
            raise TypeError
        moment = datetime.fromisoformat(text.strip())
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1_000_000)
    except (ValueError, TypeError, OverflowError):
        message = f"{_shown(text)} is no timestamp such as 2014-04-10 07:15:00"
        raise ValueError(message) from None


def _value(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        message = f"{_shown(text)} is no number"
        raise ValueError(message) from None
    if not math.isfinite(value):
        message = f"{_shown(text)} is not a finite number"
        raise ValueError(message)
    return value


def _utc(time_us: int) -> str:
    return f"{datetime.fromtimestamp(time_us / 1e6, UTC):%Y-%m-%d %H:%M:%S}"


def _shown(found: object) -> str:
    text = ascii(found)
    return text if len(text) <= 60 else text[:57] + "..."
