"""Writes a known history into a working copy, in a process of its own that can be killed at the end."""

import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

from pipeline.workingcopy import WorkingCopy, empty_batch

KEYS, KEYS_IN_BATCH, VALUE_BYTES = 150, 25, 900
BATCHES_IN_BUFFER = 12
Batch = list[tuple[bytes, bytes]]


def history(batches: int) -> Iterator[Batch]:
    """The same batches each time: keys come again, values never do."""
    chance = random.Random(1)
    for number in range(batches):
        keys = [b"s/%03d" % chance.randrange(KEYS) for _ in range(KEYS_IN_BATCH)]
        yield [(key, b"%04d" % number + chance.randbytes(VALUE_BYTES)) for key in keys]


def states(batches: int) -> list[dict[bytes, bytes]]:
    """The content before the first batch and after each."""
    found: list[dict[bytes, bytes]] = [{}]
    for batch in history(batches):
        found.append({**found[-1], **dict(batch)})
    return found


def written(path: Path, batches: int, how: str) -> None:
    """Have a process write `batches` and end: `closed` in order, `killed` by SIGKILL.

    `bulk`: killed within one that began at two thirds; `after bulk`: killed after one in the middle third.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.kit.copywriter", str(path), str(batches), how], check=False
    )
    assert done.returncode == (0 if how == "closed" else -signal.SIGKILL)


def main(path: Path, batches: int, how: str) -> None:
    copy = WorkingCopy(path, buffer_bytes=BATCHES_IN_BUFFER * KEYS_IN_BATCH * VALUE_BYTES)
    pending = history(batches)
    put(copy, itertools.islice(pending, batches // 3))
    with copy.bulk() if how == "after bulk" else nullcontext():
        put(copy, itertools.islice(pending, batches // 3))
    with copy.bulk() if how == "bulk" else nullcontext():
        put(copy, pending)
        if how != "closed":
            os.kill(os.getpid(), signal.SIGKILL)
    copy.close()


def put(copy: WorkingCopy, batches: Iterator[Batch]) -> None:
    for pairs in batches:
        batch = empty_batch()
        for key, value in pairs:
            batch.put(key, value)
        copy.write(batch)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
