"""How fast a published log is recomputed, and in how much memory.

PYTHONPATH=. .venv/bin/python tests/pipeline/fsck_bench.py [LEAVES] [JOBS]
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

from pipeline.believed import Believed
from pipeline.fsck import fsck
from processors.merkle.tree import TreeBuilder
from tests.kit.parties import LOG, TRUST
from tests.kit.publishedlog import checkpoint, leaves, write

BATCH = 65_536
ORIGIN = f"{LOG}/device.events/0"


def publish(count: int, folder: Path) -> None:
    """Write a log of so many leaves without holding it in memory."""
    builder = TreeBuilder()
    for first in range(0, count, BATCH):
        batch = leaves(min(BATCH, count - first), first_offset=2 * first, seed=first)
        write({each.tile.path: each.data for each in builder.append(batch)}, folder)
    write({each.tile.path: each.data for each in builder.edge()}, folder)
    write({"checkpoint": checkpoint(ORIGIN, builder.size, builder.root())}, folder)


def main(count: int, jobs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="fsck-bench-") as folder:
        publish(count, Path(folder))
        before_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        began_s = time.monotonic()
        report = fsck(folder, Believed.from_trust(TRUST), jobs=jobs)
        took_s = time.monotonic() - began_s
    assert report.holds
    own_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    worker_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{count:,} leaves, {jobs} jobs: {took_s:.1f} s, {1e6 * took_s / count:.1f} us a leaf")
    print(f"memory: {own_mib:.0f} MiB, {before_mib:.0f} before it began; largest worker {worker_mib:.0f} MiB")


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    main(*(arguments + [300_000, 1][len(arguments) :]))
