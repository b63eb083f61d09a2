"""Tessera's fsck takes every published log as it is, and none of which one byte differs."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.demo.tamper import PublishedLog, current_tiles
from tests.conformance.demonstration import Demonstration
from tests.conformance.flips import some_flips
from tests.conformance.processes import Answer
from tests.conformance.tally import Tally
from tests.conformance.trials import Trial, run_all

TOOL = "tessera fsck"
FLIPPED_TILES = 8


def check(program: str, demo: Demonstration, tally: Tally, rng: random.Random) -> None:
    """Run it over every log, and over broken copies of the epoch log and of the largest shard."""
    run_all(TOOL, _trials(program, demo, rng), _accepts, tally)


def _accepts(answer: Answer) -> bool:
    # It ends with 0 on a log that is corrupt, so only its words count.
    return "Successfully fsck'd" in answer.output


def _trials(program: str, demo: Demonstration, rng: random.Random) -> Iterator[Trial]:
    folder = demo.work_folder("tessera")

    def command(log: PublishedLog, place: Path) -> list[str]:
        key = demo.key_of(log.checkpoint.origin)
        file = folder / f"{key.key_id.hex()}.vkey"
        file.write_text(str(key))
        # With one worker it never ends.
        return [program, f"--storage_url=file://{place}/", f"--public_key={file}", "--ui=false", "--N=64"]

    logs = demo.logs()
    for log in logs:
        yield Trial(log.checkpoint.origin, command(log, log.folder), is_good=True)
    largest = max(logs, key=lambda log: log.checkpoint.size)
    number = 0
    for log in (demo.epoch_log(), largest):
        for path, changed in _broken(log, rng):
            copy = folder / f"copy-{number}"
            shutil.copytree(log.folder, copy)
            (copy / path).write_bytes(changed)
            what = f"{log.checkpoint.origin} with a byte of {path} flipped"
            yield Trial(what, command(log, copy), is_good=False)
            number += 1


def _broken(log: PublishedLog, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Files with one byte flipped: the checkpoint, entry bundles, and tiles of every level."""
    for _, changed in some_flips((log.folder / "checkpoint").read_bytes(), 3, rng):
        yield "checkpoint", changed
    tiles = current_tiles(log.checkpoint.size)
    for tile in rng.sample(tiles, min(FLIPPED_TILES, len(tiles))):
        for _, changed in some_flips((log.folder / tile.path).read_bytes(), 1, rng):
            yield tile.path, changed
