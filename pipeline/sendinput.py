"""A user's file of readings or access events, read row by row: CSV with a header line, or NDJSON.

Bounded memory, and one exception for anything that does not fit: InputError with file, line and column.
`docs/demo.md`, "Sending your own data", describes the format.
"""

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.settings import UsageError
from schemas.envelope import PayloadKind
from schemas.events import MAX_READINGS, MAX_TEXT
from schemas.mdc import BY_NAME

MAX_LINE_BYTES = 1 << 20
ABSOLUTE, RELATIVE = "time", "t_s"
OUTCOMES = ("GRANTED", "DENIED", "FAILED")
_ACCESS_REQUIRED = ("subject", "action", "resource", "outcome")
_ACCESS_FIELDS = ("subject", "action", "resource", "purpose", "session", "outcome")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MAX_CODE = 2**31 - 1
_MAX_SECONDS = 2**40  # past the year 30000, and far from where a long of microseconds overflows


class InputError(UsageError):
    """The file does not say what to send; the message names file, line and column."""


@dataclass(frozen=True, slots=True)
class InputRow:
    """One event to send: its line, its time (absolute, or seconds into the record), and its own fields."""

    line: int
    body: Mapping[str, Any]
    time_us: int | None = None
    t_s: float | None = None


@dataclass(frozen=True, slots=True)
class FileSummary:
    """What a whole file holds, from a first pass over it."""

    events: int
    empty_rows: int
    """Rows of readings in which every value is blank: nothing to send."""
    last_t_s: float | None


def scan(path: Path, kind: PayloadKind) -> FileSummary:
    """Read the file to its end; raises InputError at its first fault, so that half a file is never sent."""
    events, empty, last_t_s = 0, 0, None
    for row in read_rows(path, kind):
        if is_empty(row, kind):
            empty += 1
        else:
            events += 1
        if row.t_s is not None:
            last_t_s = row.t_s if last_t_s is None else max(last_t_s, row.t_s)
    return FileSummary(events, empty, last_t_s)


def is_empty(row: InputRow, kind: PayloadKind) -> bool:
    """Tell whether a row of telemetry has no reading."""
    return kind is PayloadKind.TELEMETRY and not row.body["codes"]


def read_rows(path: Path, kind: PayloadKind) -> Iterator[InputRow]:
    """Yield the rows of a file; CSV or NDJSON is told by its first character."""
    try:
        with path.open("rb") as file:
            first = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
            file.seek(0)
            lines = _lines(path, file)
            yield from _ndjson(path, lines, kind) if first == b"{" else _csv(path, lines, kind)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def _lines(path: Path, file: BinaryIO) -> Iterator[str]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise _fault(path, number, f"longer than {MAX_LINE_BYTES} bytes")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _fault(path, number, f"byte {error.start + 1} is not UTF-8 text") from error


def _fault(
    path: Path, line: int, what: str, column: int | None = None, name: str | None = None
) -> InputError:
    where = f"{path} line {line}"
    if column is not None:
        where += f" column {column}"
    if name is None:
        return InputError(f"{where}: {what}")
    printable = name if name.isprintable() else ascii(name)
    return InputError(f"{where} ({printable[:40]}): {what}")


# ---- CSV -----------------------------------------------------------------------------------------------


def _csv(path: Path, lines: Iterator[str], kind: PayloadKind) -> Iterator[InputRow]:
    reader = csv.reader(lines, strict=True)
    names: list[str] = []
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise _fault(path, reader.line_num, f"no readable CSV: {error}") from error
        if not cells or (len(cells) == 1 and not cells[0].strip()):
            continue
        line = reader.line_num
        if not names:
            names = [cell.strip() for cell in cells]
            fields = _Fields(path, line, names, kind)
            continue
        if len(cells) != len(names):
            what = f"{len(cells)} cells, the header has {len(names)} columns"
            if len(names) == 1 and ";" in names[0]:
                what += "; columns are separated by commas, not semicolons"
            raise _fault(path, line, what)
        yield fields.row(line, enumerate(cells, 1))
    if not names:
        raise InputError(f"{path}: empty, expected a header line with column names")


class _Fields:
    """Meaning of each column (CSV) or key (NDJSON), found once and then applied to every row."""

    def __init__(self, path: Path, line: int, names: Sequence[str], kind: PayloadKind) -> None:
        self._path, self._kind, self._names = path, kind, names
        self._targets: list[str | int] = []
        for column, name in enumerate(names, 1):
            target = self._target(line, column, name)
            if target in self._targets:
                raise _fault(path, line, "the same column twice", column, name)
            self._targets.append(target)
        if ABSOLUTE in self._targets and RELATIVE in self._targets:
            raise _fault(path, line, f"has both {ABSOLUTE} and {RELATIVE}, one of them must go")
        if kind is PayloadKind.ACCESS:
            missing = [name for name in _ACCESS_REQUIRED if name not in self._targets]
            if missing:
                raise _fault(path, line, f"access events need {', '.join(missing)} too")
        elif not any(isinstance(target, int) for target in self._targets):
            raise _fault(path, line, f"names no signal: {_known_signals()}")
        elif len(self._targets) > MAX_READINGS:
            raise _fault(path, line, f"more than {MAX_READINGS} columns")

    def _target(self, line: int, column: int, name: str) -> str | int:
        lowered = name.lower()
        if lowered in (ABSOLUTE, RELATIVE):
            return lowered
        if self._kind is PayloadKind.ACCESS:
            if lowered in _ACCESS_FIELDS:
                return lowered
            what = f"unknown column; access events have {', '.join(_ACCESS_FIELDS)} and {ABSOLUTE}"
        else:
            signal = BY_NAME.get(lowered)
            if signal is not None:
                return signal.code
            if name.isascii() and name.isdigit() and len(name) <= 10 and 0 < int(name) <= _MAX_CODE:
                return int(name)
            what = f"unknown signal; {_known_signals()}"
        raise _fault(self._path, line, what, column, name)

    def row(self, line: int, cells: "Iterator[tuple[int, Any]] | enumerate[Any]") -> InputRow:
        """Read one row; cells are numbered from 1 and parallel to the names."""
        time_us = t_s = None
        codes: list[int] = []
        values: list[float] = []
        texts = dict.fromkeys(_ACCESS_FIELDS, "")
        for column, cell in cells:
            target = self._targets[column - 1]
            try:
                if target == ABSOLUTE:
                    time_us = _absolute(cell)
                elif target == RELATIVE:
                    t_s = _number(cell)
                    _check_range(t_s)
                elif isinstance(target, int):
                    if not _is_blank(cell):
                        codes.append(target)
                        values.append(_number(cell))
                else:
                    texts[target] = _text(target, cell)
            except ValueError as error:
                raise _fault(self._path, line, str(error), column, self._names[column - 1]) from error
        telemetry = self._kind is PayloadKind.TELEMETRY
        return InputRow(line, {"codes": codes, "values": values} if telemetry else texts, time_us, t_s)


def _known_signals() -> str:
    names = ", ".join(signal.name for signal in BY_NAME.values())
    return f"signals are {names}, or an MDC code as a number"


def _is_blank(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _number(cell: Any) -> float:
    """Read a finite number; raises ValueError."""
    if isinstance(cell, str) and _NUMBER.fullmatch(cell.strip()):
        value = float(cell)
    elif isinstance(cell, (int, float)) and not isinstance(cell, bool):
        try:
            value = float(cell)
        except OverflowError:
            value = math.inf
    else:
        raise ValueError(f"{_shown(cell)} is not a number")
    if not math.isfinite(value):
        raise ValueError(f"{_shown(cell)} is not a finite number")
    return value


def _absolute(cell: Any) -> int:
    """Read seconds since 1970 or an ISO 8601 time with its offset from UTC; microseconds since 1970."""
    if not isinstance(cell, str) or _NUMBER.fullmatch(cell.strip()):
        seconds = _number(cell)
        _check_range(seconds)
        return round(seconds * 1_000_000)
    try:
        moment = datetime.fromisoformat(cell.strip())
    except ValueError:
        raise ValueError(
            f"{_shown(cell)} is neither seconds since 1970 nor a time such as 2026-05-04T12:30:00Z"
        ) from None
    if moment.tzinfo is None:
        raise ValueError(f"{_shown(cell)} does not say its offset from UTC: add Z or +02:00")
    try:
        return round(moment.timestamp() * 1_000_000)
    except OverflowError:
        raise ValueError(f"{_shown(cell)} is out of range") from None


def _check_range(seconds: float) -> None:
    if abs(seconds) > _MAX_SECONDS:
        raise ValueError(f"{seconds:g} s is out of range")


def _text(name: str, cell: Any) -> str:
    if not isinstance(cell, str):
        raise ValueError(f"{_shown(cell)} is not a text")
    text = cell.strip()
    if name == "outcome":
        if text.upper() not in OUTCOMES:
            raise ValueError(f"{_shown(cell)} is none of {', '.join(OUTCOMES)}")
        return text.upper()
    if not text and name in _ACCESS_REQUIRED:
        raise ValueError("blank, but access events need it")
    if len(text) > MAX_TEXT:
        raise ValueError(f"has {len(text)} characters, allowed are {MAX_TEXT}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{_shown(cell)} has half of a surrogate pair") from None
    return text


def _shown(cell: Any) -> str:
    """Quote a cell for a message, short and printable."""
    text = ascii(cell)
    return text if len(text) <= 40 else text[:37] + "..."


# ---- NDJSON --------------------------------------------------------------------------------------------


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it stands, so that a key given twice is seen."""


def _ndjson(path: Path, lines: Iterator[str], kind: PayloadKind) -> Iterator[InputRow]:
    known: dict[tuple[str, ...], _Fields] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, object_pairs_hook=_Pairs)
        except json.JSONDecodeError as error:
            raise _fault(path, number, f"no JSON: {error.msg}", error.colno) from error
        except (ValueError, RecursionError) as error:
            # A number of thousands of digits, or brackets nested without end.
            raise _fault(path, number, "no readable JSON") from error
        if not isinstance(value, _Pairs):
            raise _fault(path, number, f"expected an object, found {_shown(value)}")
        names = tuple(name for name, _ in value)
        fields = known.get(names)
        if fields is None:
            # Devices use few shapes; a file that invents a new one in every line must not fill our memory.
            if len(known) >= 64:
                known.clear()
            fields = known[names] = _Fields(path, number, names, kind)
        yield fields.row(number, enumerate((cell for _, cell in value), 1))
