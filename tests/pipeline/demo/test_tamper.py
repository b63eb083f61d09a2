"""One flipped byte anywhere in a published log is found and its file named."""

import random
from pathlib import Path

import pytest

from pipeline.demo.tamper import TamperError, check, current_tiles, published_logs, tamper_with_copy
from processors.merkle.tree import TreeBuilder
from schemas.checkpoint import Checkpoint, sign_checkpoint
from schemas.note import Ed25519Signer, format_note
from schemas.tile import partial_tiles

ORIGIN = "log.example/device.events/0"
SIGNER = Ed25519Signer.from_seed(ORIGIN, bytes(range(32)))
KEY = SIGNER.public_key


def publish(folder: Path, size: int) -> Path:
    builder = TreeBuilder()
    full = builder.append([b"entry %d" % n for n in range(size)])
    for item in [*full, *builder.edge()]:
        path = folder / item.tile.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(item.data)
    checkpoint = Checkpoint(ORIGIN, size, builder.root())
    (folder / "checkpoint").write_bytes(format_note(sign_checkpoint(checkpoint, [SIGNER])))
    return folder


@pytest.mark.parametrize("size", [1, 255, 256, 257, 700])
def test_current_tiles_are_those_on_disk(tmp_path: Path, size: int) -> None:
    folder = publish(tmp_path / "log", size)
    on_disk = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {"checkpoint"}
    wanted = {tile.path for tile in current_tiles(size)}
    assert wanted <= on_disk
    assert {tile.path for tile in partial_tiles(size)} <= wanted
    assert check(folder, KEY) == size


def test_every_flipped_byte_of_a_small_log_is_found_and_named(tmp_path: Path) -> None:
    folder = publish(tmp_path / "log", 3)
    flipped = 0
    for tile in current_tiles(3):
        file = folder / tile.path
        data = file.read_bytes()
        for position in range(len(data)):
            file.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
            with pytest.raises(ValueError, match=tile.path):
                check(folder, KEY)
            flipped += 1
        file.write_bytes(data)
    assert flipped > 100
    assert check(folder, KEY) == 3


@pytest.mark.parametrize("seed", range(12))
def test_tampering_with_a_copy_leaves_the_log_alone(tmp_path: Path, seed: int) -> None:
    folder = publish(tmp_path / "log", 700)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    (log,) = published_logs(tmp_path)
    tampering = tamper_with_copy(log, tmp_path / "copy", KEY, random.Random(seed))
    assert tampering.found, tampering
    assert tampering.path in tampering.told
    assert tampering.origin == ORIGIN
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_log_under_another_key_is_refused_before_anything_is_shown(tmp_path: Path) -> None:
    publish(tmp_path / "log", 3)
    (log,) = published_logs(tmp_path)
    with pytest.raises(TamperError, match="does not verify as it was published"):
        tamper_with_copy(log, tmp_path / "copy", bytes(32), random.Random(1))
