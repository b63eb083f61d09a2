"""What a power cut may leave: a model of a file system that keeps only what it was told to keep.

Built from a trace of all calls (shim.c). POSIX promises little, and the model gives no more: bytes are
durable after fsync of their file or syncfs, a name after fsync of its folder or syncfs. Bytes whose sync
*failed* are readable and never become durable: the kernel marks such pages clean, and the next fsync says
nothing of them.
"""

import copy
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from random import Random

from tests.faults.machine.syscalls.shim import Kind

MARK = 99
_ENTRY = struct.Struct("<qqqiiii")
_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Call:
    """One entry of a trace."""

    kind: int
    result: int
    path: str
    other: str
    offset: int
    data: bytes

    @property
    def name(self) -> str:
        """For people."""
        return "mark" if self.kind == MARK else Kind(self.kind).name.lower()


def read_trace(path: Path) -> list[Call]:
    """Read what the shim wrote; a call that ended in death is not in it."""
    data, at, calls = path.read_bytes(), 0, []
    while at + _ENTRY.size <= len(data):
        _number, offset, length, kind, result, path_length, other_length = _ENTRY.unpack_from(data, at)
        at += _ENTRY.size
        ends = (at + path_length, at + path_length + other_length, at + path_length + other_length + length)
        name, other = data[at : ends[0]].decode(), data[ends[0] : ends[1]].decode()
        calls.append(Call(kind, result, name, other, offset, data[ends[1] : ends[2]]))
        at = ends[2]
    return calls


Image = dict[str, bytes | None]
"""What a disk holds: files by path, None for folders."""


@dataclass(slots=True)
class _File:
    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    lost: set[int] = field(default_factory=set)
    """Pages whose sync failed and that were not written since."""
    dirty: set[int] = field(default_factory=set)

    def write(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        if len(self.data) < end:
            self.data.extend(bytes(end - len(self.data)))
        self.data[offset:end] = data
        touched = set(range(offset // _PAGE, (end - 1) // _PAGE + 1)) if data else set()
        self.dirty |= touched
        self.lost -= touched

    def truncate(self, length: int) -> None:
        self.data = self.data[:length] if length < len(self.data) else self.data.ljust(length, b"\0")
        self.dirty.add(-1)

    def sync(self, succeeds: bool) -> None:
        if succeeds:
            self.durable = self.survivors(self.dirty)
        else:
            self.lost |= self.dirty
        self.dirty.clear()

    def survivors(self, pages: set[int]) -> bytes:
        """What is on disk when these pages reached it besides what is durable."""
        if not self.lost and pages >= self.dirty:
            return bytes(self.data)
        length = len(self.data) if pages or not self.dirty else len(self.durable)
        out = bytearray(self.durable[:length].ljust(length, b"\0"))
        for page in pages - {-1} - self.lost:
            begin, end = page * _PAGE, min((page + 1) * _PAGE, length)
            out[begin:end] = self.data[begin:end]
        return bytes(out)


class Variant(StrEnum):
    """Which of the permitted ends of a power cut."""

    STRICT = "strict"
    """Nothing survives that was not synced."""
    NAMES = "names"
    """Every creation, renaming and removal survives, but no byte that was not synced."""
    RANDOM = "random"
    """Any of the unsynced names and pages, each by itself."""


class Disk:
    """The state of one folder after the calls of a trace so far."""

    def __init__(self) -> None:
        self._names: dict[str, _File | None] = {}
        """Files, and None for folders."""
        self._durable: dict[str, _File | None] = {}
        self._changed: dict[str, set[str]] = {}
        """By folder: names in it that changed since its sync."""
        self.marks: list[str] = []

    def copy(self) -> "Disk":
        """A state of its own, from which another trace may go on."""
        return copy.deepcopy(self)

    # ---- calls -----------------------------------------------------------------------------------------

    def apply(self, call: Call) -> None:
        """Go on by one call."""
        if call.kind == MARK:
            self.marks.append(call.path)
        elif call.kind in (Kind.FSYNC, Kind.FDATASYNC):
            self._sync(call.path, call.result == 0)
        elif call.kind == Kind.SYNCFS:
            self._sync_all(call.result == 0)
        elif call.result >= 0:
            self._change(call)

    def _change(self, call: Call) -> None:
        match call.kind:
            case Kind.CREATE:
                known = self._names.get(call.path)
                if known is None:
                    self._set(call.path, _File())
                else:
                    known.truncate(0)
            case Kind.WRITE:
                self._file(call.path).write(call.offset, call.data)
            case Kind.TRUNCATE:
                self._file(call.path).truncate(call.offset)
            case Kind.RENAME:
                self._rename(call.path, call.other)
            case Kind.LINK:
                self._set(call.other, self._file(call.path))
            case Kind.UNLINK | Kind.RMDIR:
                self._remove(call.path)
            case Kind.MKDIR:
                self._set(call.path, None)
            case _:
                pass  # room that is reserved holds nothing

    def _file(self, path: str) -> _File:
        found = self._names.get(path)
        if found is None:
            raise ValueError(f"{path} is written, and no call has made it")
        return found

    def _set(self, path: str, what: _File | None) -> None:
        self._note(path)
        self._names[path] = what

    def _remove(self, path: str) -> None:
        self._note(path)
        self._names.pop(path, None)

    def _note(self, path: str) -> None:
        self._changed.setdefault(str(PurePosixPath(path).parent), set()).add(path)

    def _rename(self, path: str, other: str) -> None:
        inside = [name for name in self._names if name.startswith(path + "/")]
        moved = self._names.get(path) if path in self._names else _File()
        self._remove(path)
        self._set(other, moved)
        for name in inside:  # a folder goes as a whole; what was durable in it stays so
            what = self._names.pop(name)
            target = other + name[len(path) :]
            self._names[target] = what
            if name in self._durable:
                self._durable[target] = self._durable.pop(name)
        for folder in [f for f in self._changed if f == path or f.startswith(path + "/")]:
            names = self._changed.pop(folder)
            self._changed[other + folder[len(path) :]] = {other + name[len(path) :] for name in names}

    # ---- syncs -----------------------------------------------------------------------------------------

    def _sync(self, path: str, succeeds: bool) -> None:
        found = self._names.get(path)
        if found is not None:
            found.sync(succeeds)
        elif succeeds:
            for name in self._changed.pop(path, set()):
                self._settle(name)

    def _settle(self, name: str) -> None:
        if name in self._names:
            self._durable[name] = self._names[name]
        else:
            self._durable.pop(name, None)

    def _sync_all(self, succeeds: bool) -> None:
        for found in self._names.values():
            if found is not None:
                found.sync(succeeds)
        if succeeds:
            self._durable = dict(self._names)
            self._changed.clear()

    # ---- the cut ---------------------------------------------------------------------------------------

    def image(self, variant: Variant, rng: Random) -> Image:
        """What the disk holds after a cut now."""
        if variant is Variant.STRICT:
            names = self._durable
        elif variant is Variant.NAMES:
            names = self._names
        else:
            names = dict(self._durable)
            for changed in self._changed.values():
                for name in sorted(changed):
                    if rng.random() < 0.5:
                        if name in self._names:
                            names[name] = self._names[name]
                        else:
                            names.pop(name, None)
        contents: dict[int, bytes] = {}
        image: Image = {}
        for name, found in names.items():
            if not self._is_reachable(name, names):
                continue
            if found is None:
                image[name] = None
            elif variant is Variant.RANDOM:
                if id(found) not in contents:
                    pages = {page for page in sorted(found.dirty) if rng.random() < 0.5}
                    contents[id(found)] = found.survivors(pages)
                image[name] = contents[id(found)]
            else:
                image[name] = found.durable
        return image

    def _is_reachable(self, name: str, names: Mapping[str, _File | None]) -> bool:
        """Nothing is left below a folder that was not kept; folders that no call made were there before."""
        above = str(PurePosixPath(name).parent)
        return above not in self._names or (above in names and self._is_reachable(above, names))


def write_image(image: Image, root: Path, folder: Path) -> None:
    """Make the files of an image that lie below `root` in an empty `folder`."""
    for name, data in sorted(image.items()):
        path = folder / PurePosixPath(name).relative_to(root)
        if data is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def cuts(calls: Sequence[Call], disk: Disk) -> Iterator[tuple[int, Disk]]:
    """The disk before each call of a trace and after the last; it is the same object, going on."""
    for number, call in enumerate(calls):
        yield number, disk
        disk.apply(call)
    yield len(calls), disk
