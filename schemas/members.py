"""Typed access to the members of a JSON object from outside; every failure names the member.

Each member that is asked for must be there: null is said, not left out. Bytes are standard base64 (RFC 4648,
section 4), canonical only; numbers are whole and fit 63 bits.
"""

from collections.abc import Collection, Mapping
from typing import Any

from schemas.errors import FormatError
from schemas.note import NoteError, decode_base64
from schemas.strictjson import is_unicode

MAX_NUMBER = 2**63 - 1


class Members:
    """The members of one JSON object; `where` names the object, `error` is what a bad member raises."""

    def __init__(self, found: object, where: str, error: type[FormatError]) -> None:
        if not isinstance(found, dict):
            raise error(f"{where} is not a JSON object")
        self._found: Mapping[str, Any] = found
        self._where, self._error = where, error

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def fault(self, name: str, what: str) -> FormatError:
        """Make the error that says what is wrong with a member."""
        return self._error(f"{self._where}.{name} {what}")

    def text(self, name: str) -> str:
        """Return a text that is Unicode."""
        value = self._member(name)
        if not isinstance(value, str):
            raise self.fault(name, "is not a text")
        if not is_unicode(value):
            raise self.fault(name, "is not Unicode text")
        return value

    def number(self, name: str) -> int:
        """Return a whole number from 0 to 2^63 - 1."""
        value = self._member(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_NUMBER:
            raise self.fault(name, "is not a whole number from 0 to 2^63 - 1")
        return value

    def data(self, name: str) -> bytes:
        """Return bytes."""
        found = self.data_or_null(name)
        if found is None:
            raise self.fault(name, "is null")
        return found

    def data_or_null(self, name: str) -> bytes | None:
        """Return bytes, or None for null."""
        return self._decode(self._member(name), name)

    def only(self, names: Collection[str]) -> None:
        """Raise for a member that is none of `names`: one that is spelled wrongly is never passed over."""
        unknown = sorted(self._found.keys() - set(names))
        if unknown:
            shown = ", ".join(names)
            raise self._error(f"{self._where} has the member {unknown[0][:64]!a}, which is none of {shown}")

    def numbers(self, name: str, most: int) -> list[int]:
        """Return a list of at most `most` whole numbers from 0 to 2^63 - 1."""
        found = self._list(name, most)
        if not all(isinstance(each, int) and not isinstance(each, bool) for each in found):
            raise self.fault(name, "is not a list of whole numbers")
        if not all(0 <= each <= MAX_NUMBER for each in found):
            raise self.fault(name, "has a number that is not from 0 to 2^63 - 1")
        return found

    def texts(self, name: str, most: int) -> list[str]:
        """Return a list of at most `most` texts that are Unicode."""
        found = self._list(name, most)
        if not all(isinstance(each, str) and is_unicode(each) for each in found):
            raise self.fault(name, "is not a list of texts")
        return found

    def child(self, name: str) -> "Members":
        """Return an object within this one."""
        return Members(self._member(name), f"{self._where}.{name}", self._error)

    def child_or_null(self, name: str) -> "Members | None":
        """Return an object within this one, or None for null."""
        return None if self._member(name) is None else self.child(name)

    def children(self, name: str, most: int) -> list["Members"]:
        """Return a list of at most `most` objects."""
        return [
            Members(each, f"{self._where}.{name}[{number}]", self._error)
            for number, each in enumerate(self._list(name, most))
        ]

    def pairs(self, name: str, most: int) -> list[tuple[str, bytes | None]]:
        """Return a list of at most `most` pairs [text, bytes or null]."""
        pairs = []
        for number, pair in enumerate(self._list(name, most)):
            where = f"{name}[{number}]"
            if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
                raise self.fault(where, "is not [name, base64 or null]")
            if not is_unicode(pair[0]):
                raise self.fault(where, "has a name that is not Unicode text")
            pairs.append((pair[0], self._decode(pair[1], where)))
        return pairs

    def _member(self, name: str) -> Any:
        if name not in self._found:
            raise self.fault(name, "is missing")
        return self._found[name]

    def _list(self, name: str, most: int) -> list[Any]:
        found = self._member(name)
        if not isinstance(found, list) or len(found) > most:
            raise self.fault(name, f"is not a list of at most {most}")
        return found

    def _decode(self, value: object, name: str) -> bytes | None:
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.fault(name, "is not base64 text")
        try:
            return decode_base64(value, f"{self._where}.{name}")
        except NoteError as error:
            raise self._error(str(error)) from error
