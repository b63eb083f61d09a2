"""A log as it is published in a folder (https://c2sp.org/tlog-tiles): how large it is, and its entries."""

from collections.abc import Iterator
from pathlib import Path

from loadtests.errors import LoadTestError
from schemas.checkpoint import parse_checkpoint
from schemas.note import parse_note
from schemas.tile import ENTRIES, TILE_WIDTH, Tile, decode_bundle


def published_size(folder: Path) -> int:
    """Count the leaves under the published checkpoint; 0 before the first.

    Raises FormatError where it is none.
    """
    try:
        data = (folder / "checkpoint").read_bytes()
    except FileNotFoundError:
        return 0
    return parse_checkpoint(parse_note(data).text).size


def bundles(folder: Path) -> Iterator[bytes]:
    """Read the entry bundles under the published checkpoint in their order, each entry behind its length.

    Raises LoadTestError where one is missing, and FormatError where one does not hold what it should.
    """
    size = published_size(folder)
    for index in range(-(-size // TILE_WIDTH)):
        tile = Tile(ENTRIES, index, min(TILE_WIDTH, size - index * TILE_WIDTH))
        try:
            data = (folder / tile.path).read_bytes()
        except FileNotFoundError as error:
            raise LoadTestError(f"{folder / tile.path} is missing, and the checkpoint covers it") from error
        decode_bundle(data, tile.width)
        yield data
