"""Files that almost are what they were: each member of a JSON document changed, left out, swapped, respelled.

What changes is drawn from a seeded generator, so that a failing example is the same in every run.
"""

import base64
import copy
import json
import random
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]

WRONG_KINDS: tuple[Any, ...] = (None, True, 1.0, -1, 2**63, "", "A", [], {}, [["a"]])
"""One of each kind of JSON, of which no member takes all."""


def flipped_bits(data: bytes, count: int, rng: random.Random) -> Iterator[bytes]:
    """`count` copies with one bit changed each."""
    for _ in range(count):
        position = rng.randrange(len(data))
        yield data[:position] + bytes([data[position] ^ 1 << rng.randrange(8)]) + data[position + 1 :]


def changed_members(document: Any, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Each value in the document changed in a few ways of its kind; named by its place."""
    for path, value in list(_walk(document)):
        where = ".".join(map(str, path))
        for changed in _changes(value, rng):
            yield f"{where} = {str(changed)[:40]}", _dump(_replaced(document, path, changed))
        if isinstance(path[-1], str):
            yield f"{where} left out", _dump(_without(document, path))
        elif rng.random() < 0.5:
            yield f"{where} dropped", _dump(_without(document, path))


def exchanged_members(document: Any, other: Any) -> Iterator[tuple[str, bytes]]:
    """Each member of the document as `other` has it."""
    for path, value in list(_walk(document)):
        try:
            theirs = _at(other, path)
        except (KeyError, IndexError, TypeError):
            continue
        if theirs != value:
            yield f"{'.'.join(map(str, path))} of another", _dump(_replaced(document, path, theirs))


def spelled_anew(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The document in other bytes, some of which mean the same and some of which are not JSON."""
    text = data.decode()
    name = next(iter(json.loads(text)))
    yield "minified", json.dumps(json.loads(text), separators=(",", ":")).encode()
    yield "not ASCII", json.dumps(json.loads(text), ensure_ascii=False).encode()
    yield "white space around", b" \r\n\t" + data + b"\n"
    yield "another white space", b"\x0c" + data
    yield "byte order mark", b"\xef\xbb\xbf" + data
    yield "UTF-16", text.encode("utf-16")
    yield "trailing comma", data.rstrip()[:-1] + b",}"
    yield "a remark", data + b"// that was all"
    yield "twice", data + data
    yield "in a list", b"[" + data + b"]"
    yield "no bytes", b""
    yield "cut off", data[:-2]
    for label, member in (
        ("a member twice", json.dumps(name) + ": null"),
        ("a member twice, escaped", f'"\\u{ord(name[0]):04x}{name[1:]}": null'),
        ("a member twice, deep inside", '"more": [{"a": 1, "b": {"c": 1, "c": 1}}]'),
        ("unknown members", '"more": [1e999, -0.5e-3, "\\ud83d\\ude00", {"": null}], "__proto__": {"a": 1}'),
        ("half a surrogate pair in an unknown member", '"more": "\\ud83d"'),
        ("half a surrogate pair in an unknown name", '"\\udc00": 1'),
        ("surrogates in UTF-8", '"more": "\ud800"'),
        ("NaN", '"more": NaN'),
        ("Infinity", '"more": [-Infinity]'),
        ("leading zero", '"more": 01'),
        ("plus", '"more": +1'),
        ("bare point", '"more": 1.'),
        ("hexadecimal", '"more": 0x1'),
        ("apostrophes", "\"more\": 'a'"),
        ("a control character", '"more": "\t"'),
        ("a delete character", '"more": "\x7f"'),
        ("a zero", '"more": "\\u0000"'),
        ("a bad escape", '"more": "\\x41"'),
        ("a short escape", '"more": "\\u00e"'),
        ("nested 64 deep", '"more": ' + "[" * 64 + "]" * 64),
        ("nested 65 deep", '"more": ' + "[" * 65 + "]" * 65),
        ("a number within 64 lists", '"more": ' + "[" * 64 + "1" + "]" * 64),
        ("nested 900 deep", '"more": ' + "[" * 900 + "]" * 900),
        ("a number of 1,000 characters", '"more": -' + "1" * 999),
        ("a number of 1,001 characters", '"more": -' + "1" * 1_000),
        ("a fraction of 5,000 characters", '"more": 0.' + "1" * 5_000),
        ("nested 100,000 deep", '"more": ' + "[" * 100_000 + "]" * 100_000),
        ("never closed", '"more": ' + "[" * 100_000),
    ):
        yield label, ("{" + member + "," + text.lstrip()[1:]).encode("utf-8", "surrogatepass")
    for path, value in _walk(json.loads(text)):
        if isinstance(value, int):
            where = ".".join(map(str, path))
            for spelling in (f"{value}.0", f"{value}e0", f"-{value}", f"0{value}", f'"{value}"', "1" * 5000):
                marked = _dump(_replaced(json.loads(text), path, "HERE")).decode()
                yield f"{where} as {spelling[:30]}", marked.replace('"HERE"', spelling).encode()


def _walk(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if path:
        yield path, value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _walk(inner, (*path, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _walk(inner, (*path, number))


def _changes(value: Any, rng: random.Random) -> Iterator[Any]:
    yield rng.choice(WRONG_KINDS)
    if isinstance(value, list) and value:
        yield [*value, value[-1]]
        yield value[::-1]
    elif isinstance(value, int) and not isinstance(value, bool):
        yield from (value + 1, value - 1, value + 2**32)
    elif isinstance(value, str):
        yield from _changed_texts(value, rng)


def _changed_texts(value: str, rng: random.Random) -> Iterator[str]:
    yield from (value + " ", value[:-1], value + "\n")
    if not value:
        return
    position = rng.randrange(len(value))
    yield value[:position] + chr(ord(value[position]) ^ 1) + value[position + 1 :]
    lines = value.splitlines(keepends=True)
    if len(lines) > 1:
        first, second = rng.sample(range(len(lines)), 2)
        lines[first], lines[second] = lines[second], lines[first]
        yield "".join(lines)
        yield "".join(lines[:first] + lines[first + 1 :])
    try:
        raw = base64.b64decode(value, validate=True)
    except ValueError:
        return
    if raw:
        yield from (base64.b64encode(each).decode() for each in flipped_bits(raw, 2, rng))
        yield base64.b64encode(raw + b"\0").decode()
        yield base64.b64encode(raw[:-1]).decode()
        if value.endswith("="):
            yield value.rstrip("=")
            last = value.rstrip("=")[-1]
            yield value.replace(last + "=", chr(ord(last) + 1) + "=", 1)


def _at(document: Any, path: Path) -> Any:
    for step in path:
        document = document[step]
    return document


def _replaced(document: Any, path: Path, value: Any) -> Any:
    changed = copy.deepcopy(document)
    _at(changed, path[:-1])[path[-1]] = value
    return changed


def _without(document: Any, path: Path) -> Any:
    changed = copy.deepcopy(document)
    del _at(changed, path[:-1])[path[-1]]
    return changed


def _dump(document: Any) -> bytes:
    return json.dumps(document).encode()
