"""How long finding an event takes, and how fast the index is written, at so many leaves.

`python -m tests.pipeline.recordindex_bench --leaves 10000000`: writes that many names and digests (made up,
no Kafka), then opens the index anew and looks random ones up; the same for the leaf's search in a published
tree of `--tree` leaves. Prints milliseconds; a short run is a test.
"""

import argparse
import random
import statistics
import struct
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from blake3 import blake3
from rocksdict import WriteBatch

from pipeline.evidence import find_leaf
from pipeline.recordindex import EventName, Positions, RecordIndex
from pipeline.tilestore import LocalTileStore
from processors.merkle.reader import TiledTree
from processors.merkle.tree import TreeBuilder
from schemas.envelope import PayloadKind
from schemas.records import encode_leaf

BATCH = 20_000
PARTITIONS = 8
DEVICES = 10_000
LOOKS = 1_000
MARKER_EVERY = 2_000
"""A transaction's marker takes an offset, and ingest commits about so many records at once."""


def name(number: int) -> EventName:
    return EventName(f"did:key:z6Mk{number % DEVICES:043d}", PayloadKind.TELEMETRY, 1, number // DEVICES + 1)


def fill(path: Path, leaves: int) -> float:
    """Write the index; returns seconds."""
    began = time.perf_counter()
    with closing(RecordIndex(path)) as index:
        for start in range(0, leaves, BATCH):
            batch: Any = WriteBatch(raw_mode=True)
            for number in range(start, min(start + BATCH, leaves)):
                digest = blake3(struct.pack(">Q", number)).digest()
                index._put(batch, name(number).key, digest, number % PARTITIONS, number // PARTITIONS)
            index._commit(batch, Positions("bench", {0: start}))
    return time.perf_counter() - began


def look(path: Path, leaves: int) -> tuple[float, list[float]]:
    """Open the index and look names up: seconds to open with one look, and of each further one."""
    numbers = random.Random(7).choices(range(leaves), k=LOOKS)
    began = time.perf_counter()
    with closing(RecordIndex(path)) as index:
        assert index.by_name(name(0)) == (0, 0)
        first = time.perf_counter() - began
        times = []
        for number in numbers:
            at = time.perf_counter()
            found = index.by_name(name(number))
            times.append(time.perf_counter() - at)
            assert found == (number % PARTITIONS, number // PARTITIONS)
        assert index.by_name(name(leaves)) is None
        assert index.by_digest(blake3(struct.pack(">Q", leaves - 1)).digest()) is not None
    return first, times


def search(path: Path, leaves: int) -> list[float]:
    """Publish a tree of that many leaves and search records by offset: seconds of each search."""
    store, builder = LocalTileStore(path), TreeBuilder()

    def offset_of(index: int) -> int:
        return index + index // MARKER_EVERY

    for start in range(0, leaves, BATCH):
        entries = [encode_leaf(offset_of(i), i, bytes(32)) for i in range(start, min(start + BATCH, leaves))]
        store.put_many((item.tile.path, item.data) for item in builder.append(entries))
    store.put_many((item.tile.path, item.data) for item in builder.edge())
    times = []
    for index in random.Random(7).choices(range(leaves), k=50):
        at = time.perf_counter()
        found = find_leaf(TiledTree(store, leaves, builder.root()), offset_of(index))
        times.append(time.perf_counter() - at)
        assert found == index
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leaves", type=int, default=10_000_000)
    parser.add_argument("--tree", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="attestream-bench-") as folder:
        index, tree = Path(folder) / "index", Path(folder) / "tree"
        filled_s = fill(index, arguments.leaves)
        size = sum(file.stat().st_size for file in index.iterdir())
        print(f"{arguments.leaves:,} events indexed in {filled_s:.0f} s, {size / 1e6:,.0f} MB")
        first, times = look(index, arguments.leaves)
        print(f"open and find one: {first * 1e3:.1f} ms; then {_spread(times)}")
        print(f"leaf in a published tree of {arguments.tree:,}: {_spread(search(tree, arguments.tree))}")


def _spread(times: list[float]) -> str:
    return f"median {statistics.median(times) * 1e3:.2f} ms, most {max(times) * 1e3:.2f} ms"


if __name__ == "__main__":
    main()
