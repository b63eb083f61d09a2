"""The query parameters of the mirror's REST API: limit, order, and filters by sequence number and time."""

import re
from dataclasses import dataclass

from anchors.hedera.ids import INT64_MAX, parse_timestamp

DEFAULT_LIMIT = 25
MAX_LIMIT = 100

_NUMBER = re.compile(r"\d{1,19}", re.ASCII)


class RestError(Exception):
    """An answer other than 200, with the mirror's message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Filters:
    """Which messages, how many and in which order; both ends of a range are included."""

    limit: int
    newest_first: bool
    sequence_range: tuple[int, int] | None
    time_range_ns: tuple[int, int] | None


def parse_filters(parameters: list[tuple[str, str]]) -> Filters:
    """Read a query's parameters; a filter given twice narrows. Raises RestError."""
    limit, newest_first = DEFAULT_LIMIT, False
    bounds: dict[str, tuple[int, int]] = {}
    for name, value in parameters:
        if name == "limit":
            limit = min(parse_integer(value, name), MAX_LIMIT)
            if limit == 0:
                raise RestError(400, "Invalid parameter: limit")
        elif name == "order":
            if value.lower() not in ("asc", "desc"):
                raise RestError(400, "Invalid parameter: order")
            newest_first = value.lower() == "desc"
        elif name in ("sequencenumber", "timestamp"):
            low, high = bounds.get(name, (0, INT64_MAX))
            new_low, new_high = _range(name, value)
            bounds[name] = (max(low, new_low), min(high, new_high))
        elif name == "encoding":
            if value.lower() not in ("base64", "utf-8", "utf8"):
                raise RestError(400, "Invalid parameter: encoding")
        else:
            raise RestError(400, f"Unknown query parameter: {name[:100]}")
    return Filters(limit, newest_first, bounds.get("sequencenumber"), bounds.get("timestamp"))


def _range(name: str, value: str) -> tuple[int, int]:
    """Both ends included, of `gt:5` and its like; a value without an operator means equal."""
    operator, _, number_text = value.rpartition(":")
    if name == "timestamp":
        try:
            number = parse_timestamp(number_text)
        except ValueError as error:
            raise RestError(400, f"Invalid parameter: {name}") from error
    else:
        number = parse_integer(number_text, name)
    ranges = {
        "": (number, number),
        "eq": (number, number),
        "gt": (min(number + 1, INT64_MAX), INT64_MAX if number < INT64_MAX else 0),
        "gte": (number, INT64_MAX),
        "lt": (0, number - 1),
        "lte": (0, number),
    }
    if operator not in ranges:
        raise RestError(400, f"Invalid parameter: {name}")
    return ranges[operator]


def parse_integer(text: str, name: str) -> int:
    """A number of at most 63 bits; raises RestError naming the parameter."""
    if not _NUMBER.fullmatch(text) or int(text) > INT64_MAX:
        raise RestError(400, f"Invalid parameter: {name}")
    return int(text)
