"""JSON from outside (RFC 8259), read so that no two readers see two documents in the same bytes.

UTF-8 only, one member of a name in an object, no NaN or Infinity, bounded depth and length of whole numbers
(interpreters differ in what they bear), and one error however it is broken.
"""

import json
from collections.abc import Iterable
from typing import Any

MAX_DEPTH = 64
"""No value stands more levels below the document."""
MAX_NUMBER_CHARACTERS = 1_000


def load_object(data: str | bytes) -> dict[str, Any]:
    """The JSON object in `data`; raises ValueError, which says what is wrong."""
    try:
        text = data if isinstance(data, str) else data.decode()
        found = json.loads(text, object_pairs_hook=_members, parse_constant=_constant, parse_int=_whole)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _check_depth(found)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def is_unicode(text: str) -> bool:
    """Whether `text` can be encoded: JSON can escape half of a surrogate pair, which is no character."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has two members of one name")
    return found


def _check_depth(document: Any) -> None:
    level = [document]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for each in level for inner in _children(each)]
        if not level:
            return
    raise ValueError("nested too deeply")


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _whole(digits: str) -> int:
    if len(digits) > MAX_NUMBER_CHARACTERS:
        raise ValueError(f"a whole number of {len(digits)} characters")
    return int(digits)


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
