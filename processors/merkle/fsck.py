"""Recomputing a published tree from its entry bundles (RFC 6962, https://c2sp.org/tlog-tiles), span by span.

A span is what one tile of level 1 covers, 65,536 leaves: spans are checked apart, in any process, and joined
in order, so a log of any size takes the memory of a few tiles. The entries alone say what the tree is, and
every stored tile is compared with it. Only where that tree is not the signed one are the tiles asked,
authenticated from the root downwards, who is at fault: an entry, a tile, or the checkpoint.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from processors.merkle.errors import MerkleError, TileMissingError, TileTamperedError
from processors.merkle.hashing import (
    EMPTY_ROOT,
    HASH_BYTES,
    fold_right,
    leaf_hashes,
    perfect_pieces,
    perfect_root,
)
from processors.merkle.reader import TiledTree, TileReader
from schemas.errors import FormatError
from schemas.tile import ENTRIES, TILE_HEIGHT, TILE_WIDTH, Tile, decode_bundle

SPAN_LEAVES = TILE_WIDTH * TILE_WIDTH
MAX_FAULTS = 100
"""So many faults of one span are enough: whoever looks has to begin anew anyway."""

_TILE_BYTES = TILE_WIDTH * HASH_BYTES
_UNKNOWN = bytes(HASH_BYTES)


class FaultKind(StrEnum):
    """What is wrong."""

    CHECKPOINT = "checkpoint"
    """Missing, not signed, or of another tree than the published one."""
    MISSING = "missing"
    """A tile or bundle that a tree of this size must have."""
    TILE = "tile"
    """A tile that is not what the entries hash to, or that cannot be read."""
    ENTRY = "entry"
    """An entry that the tree does not hold, or a bundle that cannot be read."""
    ORDER = "order"
    """Entries that are what the tree holds, and yet not what a log may hold."""
    TOPIC = "topic"
    """A record that is not the one that was sealed, is gone, or was left out."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault: the first leaf that it touches, the file at fault, and why."""

    index: int
    path: str
    kind: FaultKind
    reason: str


@dataclass(frozen=True, slots=True)
class Suspect:
    """A stored tile that differs from the entries at these positions: one of the two is at fault."""

    tile: Tile
    positions: tuple[int, ...]

    @property
    def first_leaf(self) -> int:
        """The first leaf under the first differing hash."""
        first = self.tile.index * TILE_WIDTH + self.positions[0]
        return first << (TILE_HEIGHT * self.tile.level)


class EntryCheck(Protocol):
    """Looks at the entries of a span, in order, beyond their hashes."""

    def take(self, first_index: int, entries: Sequence[bytes]) -> Iterable[tuple[int, str]]:
        """The (index, reason) of each entry that does not belong in the log."""


@dataclass(slots=True)
class Span:
    """One recomputed span: hashes of level 1, those of the bundle that is not full, and what was found."""

    number: int
    leaves: int
    level1: bytearray = field(default_factory=bytearray)
    tail: bytes = b""
    faults: list[Fault] = field(default_factory=list)
    suspects: list[Suspect] = field(default_factory=list)

    @property
    def gave_up(self) -> bool:
        """Whether there were too many faults to go on."""
        return len(self.faults) + len(self.suspects) >= MAX_FAULTS


def span_count(size: int) -> int:
    """How many spans a tree of `size` leaves has."""
    return -(-size // SPAN_LEAVES)


def check_span(reader: TileReader, size: int, number: int, check: EntryCheck) -> Span:
    """Recompute span `number` of a tree of `size` leaves from its entries, one bundle in memory at a time."""
    first = number * SPAN_LEAVES
    span = Span(number, min(SPAN_LEAVES, size - first))
    for index in range(first // TILE_WIDTH, -(-(first + span.leaves) // TILE_WIDTH)):
        width = min(TILE_WIDTH, size - index * TILE_WIDTH)
        hashes = _check_bundle(reader, span, index, width, check)
        if width < TILE_WIDTH:
            span.tail = hashes
        else:
            # A bundle that cannot be read and has no tile either leaves a gap, named already.
            span.level1 += perfect_root(hashes) if hashes else _UNKNOWN
        if span.gave_up:
            return span
    if span.level1:
        _compare(reader, Tile(1, number, len(span.level1) // HASH_BYTES), span.level1, span)
    return span


class Rebuild:
    """Joins spans, in order, into the whole tree, and compares the tiles above level 1."""

    def __init__(self, reader: TileReader, size: int) -> None:
        self._reader, self._size = reader, size
        self._levels: list[bytearray] = []
        self._found = Span(0, 0)
        self._is_whole = True

    def add(self, span: Span) -> None:
        """Take the next span; after one that gave up there is no tree to be joined."""
        self._found.faults += span.faults
        self._found.suspects += span.suspects
        self._is_whole = self._is_whole and not span.gave_up
        if not self._is_whole:
            return
        self._level(0).extend(span.tail)
        self._level(1).extend(span.level1)
        level = 1
        while len(self._level(level)) == _TILE_BYTES:
            self._carry(level)
            level += 1

    def finish(self, root: bytes, more: Iterable[Fault] = ()) -> list[Fault]:
        """Every fault of the tree that the checkpoint says has this root, by leaf, with `more` among them."""
        if self._is_whole:
            for level, hashes in enumerate(self._levels[2:], start=2):
                if hashes:
                    self._compare(level, self._size >> (TILE_HEIGHT * (level + 1)))
        if self._is_whole and self._root() == root:
            wrong = [_tile_fault(each, "not what the entries hash to") for each in self._found.suspects]
            faults = [*self._found.faults, *wrong]
        else:
            faults = self._judge(root)
        # What a forged entry says is no second fault.
        forged = {fault.path for fault in faults if fault.kind is FaultKind.ENTRY}
        return sorted({f for f in (*faults, *more) if f.kind is not FaultKind.ORDER or f.path not in forged})

    def _carry(self, level: int) -> None:
        """A full tile becomes one hash of the level above."""
        above = self._level(level + 1)
        if level > 1:  # that of level 1 was compared with its span
            self._compare(level, self._size_at(level + 1))
        above.extend(perfect_root(bytes(self._levels[level])))
        self._levels[level].clear()

    def _size_at(self, level: int) -> int:
        """How many hashes of a level are joined so far."""
        total = 0
        for higher in range(len(self._levels) - 1, level - 1, -1):
            total = total * TILE_WIDTH + len(self._levels[higher]) // HASH_BYTES
        return total

    def _compare(self, level: int, index: int) -> None:
        hashes = self._levels[level]
        _compare(self._reader, Tile(level, index, len(hashes) // HASH_BYTES), hashes, self._found)

    def _level(self, level: int) -> bytearray:
        while len(self._levels) <= level:
            self._levels.append(bytearray())
        return self._levels[level]

    def _root(self) -> bytes:
        pieces = [piece for level in reversed(self._levels) for piece in perfect_pieces(bytes(level))]
        return fold_right(pieces) if pieces else EMPTY_ROOT

    def _judge(self, root: bytes) -> list[Fault]:
        """The entries do not give the root: the tiles say why, as far as they hang together with it."""
        faults = list(self._found.faults)
        try:
            tree = TiledTree(self._reader, self._size, root)
        except MerkleError:
            why = "and the entries disagree, and neither leads to the signed root"
            faults += [_tile_fault(suspect, why) for suspect in self._found.suspects]
        else:
            first_leaves = {each.tile.path: each.first_leaf for each in self._found.suspects}
            for suspect in self._found.suspects:
                # A tile that is met on the way to another is still one fault, where it begins to differ.
                faults += [
                    replace(fault, index=first_leaves.get(fault.path, fault.index))
                    for fault in _accuse(tree, suspect)
                ]
        if not faults:
            reason = f"its root is not that of the {self._size} published entries"
            faults.append(Fault(0, "checkpoint", FaultKind.CHECKPOINT, reason))
        return faults


def _check_bundle(reader: TileReader, span: Span, index: int, width: int, check: EntryCheck) -> bytes:
    """The hashes of a bundle's entries; where it cannot be read, those of its tile."""
    tile = Tile(0, index, width)
    entries = _read_entries(reader, Tile(ENTRIES, index, width), span)
    if entries is None:
        return _read_hashes(reader, tile, span) or b""
    hashes = b"".join(leaf_hashes(entries))
    _compare(reader, tile, hashes, span)
    for position, reason in check.take(index * TILE_WIDTH, entries):
        span.faults.append(Fault(position, Tile(ENTRIES, index, width).path, FaultKind.ORDER, reason))
    return hashes


def _compare(reader: TileReader, tile: Tile, hashes: bytes | bytearray, span: Span) -> None:
    stored = _read_hashes(reader, tile, span)
    if stored is None or stored == hashes:
        return
    positions = range(0, len(hashes), HASH_BYTES)
    differing = [
        p // HASH_BYTES for p in positions if stored[p : p + HASH_BYTES] != hashes[p : p + HASH_BYTES]
    ]
    span.suspects.append(Suspect(tile, tuple(differing)))


def _read_entries(reader: TileReader, tile: Tile, span: Span) -> Sequence[bytes] | None:
    found = _read(reader, tile, span)
    if found is None:
        return None
    stored, data = found
    try:
        return decode_bundle(data, stored.width)[: tile.width]
    except FormatError as error:
        first = tile.index * TILE_WIDTH
        span.faults.append(Fault(first, stored.path, FaultKind.ENTRY, f"cannot be read: {error}"))
        return None


def _read_hashes(reader: TileReader, tile: Tile, span: Span) -> bytes | None:
    found = _read(reader, tile, span)
    if found is None:
        return None
    stored, data = found
    if len(data) != stored.width * HASH_BYTES:
        reason = f"has {len(data)} bytes, not {stored.width} hashes of {HASH_BYTES}"
        span.faults.append(Fault(_first_leaf(tile), stored.path, FaultKind.TILE, reason))
        return None
    return data[: tile.width * HASH_BYTES]


def _read(reader: TileReader, tile: Tile, span: Span) -> tuple[Tile, bytes] | None:
    # A partial tile may be gone once the full one is there (tlog-tiles, "Partial Tiles").
    for stored in (tile,) if tile.is_full else (tile, tile.full):
        data = reader.read(stored.path)
        if data is not None:
            return stored, data
    span.faults.append(Fault(_first_leaf(tile), tile.path, FaultKind.MISSING, "is missing"))
    return None


def _first_leaf(tile: Tile) -> int:
    return tile.index << (TILE_HEIGHT * (max(tile.level, 0) + 1))


def _tile_fault(suspect: Suspect, why: str) -> Fault:
    tile, position = suspect.tile, suspect.positions[0]
    return Fault(suspect.first_leaf, tile.path, FaultKind.TILE, f"hash {position} of {tile.width} is {why}")


def _accuse(tree: TiledTree, suspect: Suspect) -> Iterator[Fault]:
    """Who does not hang together with the root: the suspect itself, or what lies right below it."""
    tile = suspect.tile
    if tile.level == 0:
        # Reading a bundle authenticates its tile first.
        yield from _accusation(lambda: tree.bundle(tile.index), suspect.first_leaf)
        return
    found = list(
        _accusation(lambda: tree.node(TILE_HEIGHT * tile.level, tile.index * TILE_WIDTH), suspect.first_leaf)
    )
    yield from found
    for position in () if found else suspect.positions:
        child = Tile(tile.level - 1, tile.index * TILE_WIDTH + position)
        height, node = TILE_HEIGHT * child.level, child.index * TILE_WIDTH
        yield from _accusation(functools.partial(tree.node, height, node), _first_leaf(child))


def _accusation(read: Callable[[], object], first_leaf: int) -> Iterator[Fault]:
    try:
        read()
    except TileTamperedError as error:
        kind = FaultKind.ENTRY if error.path.startswith("tile/entries/") else FaultKind.TILE
        yield Fault(first_leaf, error.path, kind, str(error).removeprefix(f"{error.path}: "))
    except TileMissingError:
        pass  # named already
