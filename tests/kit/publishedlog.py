"""A published log in a dictionary or a folder, made without a sealer: tiles, bundles, signed checkpoints."""

import random
from collections.abc import Sequence
from pathlib import Path

from processors.merkle.tree import TileData, TreeBuilder
from schemas.checkpoint import Checkpoint, sign_checkpoint
from schemas.note import Ed25519Signer, format_note
from schemas.records import encode_leaf
from tests.kit.parties import seed_of

Files = dict[str, bytes]
TIME_MS = 1_700_000_000_000


def leaves(count: int, first_offset: int = 0, seed: int = 0) -> list[bytes]:
    """Leaves whose offsets leave a hole after each, as markers do."""
    rng = random.Random(seed)
    return [encode_leaf(first_offset + 2 * n, TIME_MS + n, rng.randbytes(32)) for n in range(count)]


def checkpoint(origin: str, size: int, root: bytes, key: str = "log") -> bytes:
    """A signed checkpoint of whatever is claimed."""
    signer = Ed25519Signer.from_seed(origin, seed_of(key))
    return format_note(sign_checkpoint(Checkpoint(origin, size, root), [signer]))


def published(entries: Sequence[bytes], origin: str, key: str = "log") -> Files:
    """Every file of a published log."""
    builder, files = TreeBuilder(), Files()

    def put(data: Sequence[TileData]) -> None:
        files.update({each.tile.path: each.data for each in data})

    put(builder.append(entries))
    put(list(builder.edge()))
    return {**files, "checkpoint": checkpoint(origin, builder.size, builder.root(), key)}


def write(files: Files, folder: Path) -> Path:
    """Put the files into a folder."""
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder
