"""A changed byte in published tiles is found, and named by its file: shown on a copy, as an auditor has it.

The check trusts the log's public key alone: the checkpoint's signature, then every tile down from the root
and every entry beside its tile (`processors.merkle.reader`).
"""

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.settings import PipelineError
from processors.merkle.errors import MerkleError
from processors.merkle.reader import TiledTree
from schemas.checkpoint import Checkpoint, log_key, open_checkpoint, parse_checkpoint
from schemas.errors import FormatError
from schemas.note import parse_note
from schemas.tile import ENTRIES, TILE_HEIGHT, TILE_WIDTH, Tile

CHECKPOINT = "checkpoint"


class TamperError(PipelineError):
    """There is nothing published to tamper with, or it does not verify as it stands."""


@dataclass(frozen=True, slots=True)
class PublishedLog:
    """One published log: its folder, and what its checkpoint says (not verified)."""

    folder: Path
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Tampering:
    """One flipped byte, and whether the check failed and named its file; `told` is the check's message."""

    origin: str
    path: str
    position: int
    found: bool
    told: str


class _Folder:
    """A `TileReader` over a plain copy."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, path: str) -> bytes | None:
        """The bytes at a tile path, or None."""
        file = self._folder / path
        return file.read_bytes() if file.is_file() else None


def published_logs(root: Path) -> list[PublishedLog]:
    """Every log published below a folder, in the order of their origins."""
    found = []
    for file in root.rglob(CHECKPOINT):
        try:
            found.append(PublishedLog(file.parent, parse_checkpoint(parse_note(file.read_bytes()).text)))
        except FormatError as error:
            raise TamperError(f"{file}: {error}") from error
        except FileNotFoundError:
            continue  # replaced at this very moment; the next look finds it
    return sorted(found, key=lambda log: log.checkpoint.origin)


def check(folder: Path, log_public_key: bytes) -> int:
    """Verify a copy of a published log, whole; returns its leaf count.

    Raises FormatError for the checkpoint and MerkleError for a tile; the message names the file.
    """
    data = (folder / CHECKPOINT).read_bytes()
    origin = parse_checkpoint(parse_note(data).text).origin
    checkpoint = open_checkpoint(data, log_key(origin, log_public_key)).checkpoint
    tree = TiledTree(_Folder(folder), checkpoint.size, checkpoint.root)
    for index in range(-(-checkpoint.size // TILE_WIDTH)):
        tree.bundle(index)
    return checkpoint.size


def current_tiles(size: int) -> list[Tile]:
    """Every tile and bundle that a tree of `size` leaves needs."""
    tiles: list[Tile] = []
    level, count = ENTRIES, size
    while count:
        tiles += [
            Tile(level, index, min(TILE_WIDTH, count - index * TILE_WIDTH))
            for index in range(-(-count // TILE_WIDTH))
        ]
        level += 1
        count = size >> (TILE_HEIGHT * level)
    return tiles


def tamper_with_copy(log: PublishedLog, copy: Path, log_public_key: bytes, rng: random.Random) -> Tampering:
    """Copy a log, show that the copy verifies, flip one byte of one of its tiles, and check again."""
    shutil.copytree(log.folder, copy)
    try:
        size = check(copy, log_public_key)
    except (MerkleError, FormatError) as error:
        raise TamperError(f"{log.folder} does not verify as it was published: {error}") from error
    present = [tile for tile in current_tiles(size) if (copy / tile.path).is_file()]
    if not present:
        raise TamperError(f"{log.folder} has no tile to tamper with")
    tile = rng.choice(present)
    file = copy / tile.path
    data = bytearray(file.read_bytes())
    position = rng.randrange(len(data))
    data[position] ^= 1 << rng.randrange(8)
    file.write_bytes(data)
    try:
        check(copy, log_public_key)
    except (MerkleError, FormatError) as error:
        named = tile.path in str(error)
        return Tampering(log.checkpoint.origin, tile.path, position, found=named, told=str(error))
    return Tampering(log.checkpoint.origin, tile.path, position, found=False, told="it still verifies")
