"""Tiles (https://c2sp.org/tlog-tiles): a log's tree and entries as a finite set of files.

A tile at level L holds up to 256 hashes, each of a leaf at level 0 and of a full tile of the level below
elsewhere; an entry bundle holds the leaves themselves, each behind its 16-bit big-endian length. Paths are
`tile/<L>/<N>[.p/<W>]` and `tile/entries/<N>[.p/<W>]`, with N as `x001/x234/067`. Only the last tile of a
level may be partial; then it is W wide, 1 to 255.
"""

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from schemas.errors import FormatError

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
HASH_BYTES = 32
MAX_ENTRY_BYTES = 0xFFFF
MAX_LEVEL = 63
MAX_INDEX = 2**63 - 1

ENTRIES = -1
"""The `level` of an entry bundle."""

_PATH = re.compile(r"tile/(entries|[0-9]{1,2})/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([0-9]{1,3}))?", re.ASCII)
_LENGTH = struct.Struct(">H")


class TileError(FormatError):
    """A tile path or an entry bundle is not in its only permitted form."""


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """Which tile: `level` (or `ENTRIES`), `index` within the level, and `width` in hashes or entries."""

    level: int
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        if not ENTRIES <= self.level <= MAX_LEVEL:
            raise TileError(f"tile level {self.level} is not between 0 and {MAX_LEVEL}")
        if not 0 <= self.index <= MAX_INDEX:
            raise TileError(f"tile index {self.index} is not between 0 and 2^63 - 1")
        if not 1 <= self.width <= TILE_WIDTH:
            raise TileError(f"tile width {self.width} is not between 1 and {TILE_WIDTH}")

    @property
    def is_full(self) -> bool:
        """Whether the tile will never change again."""
        return self.width == TILE_WIDTH

    @property
    def full(self) -> "Tile":
        """The full tile that this one is, or will grow into."""
        return Tile(self.level, self.index)

    @property
    def path(self) -> str:
        """The tile's path below the log's prefix."""
        level = "entries" if self.level == ENTRIES else str(self.level)
        partial = "" if self.is_full else f".p/{self.width}"
        return f"tile/{level}/{_format_index(self.index)}{partial}"


def parse_path(path: str) -> Tile:
    """The tile at `path`. Any spelling other than the one `Tile.path` gives raises `TileError`."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise TileError(f"{path[:128]!r} is not a tile path")
    level, index, width = match.groups()
    tile = Tile(
        ENTRIES if level == "entries" else int(level),
        int(index.replace("x", "").replace("/", "")),
        TILE_WIDTH if width is None else int(width),
    )
    # Leading zeros, a superfluous x000 and a ".p/256" all parse to a number, yet are not its spelling.
    if tile.path != path:
        raise TileError(f"{path[:128]!r} is not the spelling of a tile path, which is {tile.path!r}")
    return tile


def partial_tiles(size: int) -> Iterator[Tile]:
    """The partial tiles of a tree of `size` leaves: the entry bundle first, then upwards by level."""
    if size % TILE_WIDTH:
        yield Tile(ENTRIES, size // TILE_WIDTH, size % TILE_WIDTH)
    level, width = 0, size
    while width:
        if width % TILE_WIDTH:
            yield Tile(level, width // TILE_WIDTH, width % TILE_WIDTH)
        level, width = level + 1, width // TILE_WIDTH


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """Each entry behind its 16-bit big-endian length; an entry above 65,535 bytes raises `TileError`."""
    entries = list(entries)
    longest = max(map(len, entries), default=0)
    if longest > MAX_ENTRY_BYTES:
        raise TileError(f"an entry has {longest} bytes, more than {MAX_ENTRY_BYTES}")
    length = _LENGTH.pack
    return b"".join([part for entry in entries for part in (length(len(entry)), entry)])


def decode_bundle(data: bytes, width: int) -> Sequence[bytes]:
    """Exactly `width` entries and not a byte more, else `TileError` names the entry that is cut off."""
    entries: list[bytes] = []
    position = 0
    for number in range(width):
        body = position + _LENGTH.size
        if body > len(data):
            raise TileError(f"entry bundle ends before entry {number} of {width}")
        position = body + _LENGTH.unpack_from(data, position)[0]
        if position > len(data):
            raise TileError(f"entry bundle ends within entry {number} of {width}")
        entries.append(data[body:position])
    if position != len(data):
        raise TileError(f"entry bundle has {len(data) - position} bytes after its {width} entries")
    return entries


def _format_index(index: int) -> str:
    text = f"{index % 1000:03d}"
    while index := index // 1000:
        text = f"x{index % 1000:03d}/{text}"
    return text
