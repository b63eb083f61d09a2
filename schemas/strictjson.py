"""JSON from outside (RFC 8259), read so that no two readers see two documents in the same bytes.

UTF-8 only, one member of a name in an object, no NaN or Infinity, and one error however it is broken.
"""

import json
from typing import Any


def load_object(data: str | bytes) -> dict[str, Any]:
    """The JSON object in `data`; raises ValueError, which says what is wrong."""
    try:
        text = data if isinstance(data, str) else data.decode()
        found = json.loads(text, object_pairs_hook=_members, parse_constant=_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
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


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
