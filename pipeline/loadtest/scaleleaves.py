"""Does a leaf cost the same in a tree of a million leaves and in one of fifty millions? Seal, no broker.

Shard, working copy in RocksDB, tile store, signature and conditional checkpoint are those of the stage; only
the records are made here in place of being consumed. The tree really grows, from its first leaf on, and all
of it stays on disk: between the windows in large appends of short records, within them in batches and
publications as a sealer at work has them. What RocksDB does behind the scenes for a window belongs to it: the
clock runs until nothing moves any more.

A machine that is shared has minutes in which everything costs half as much again. So a small tree grows
beside the large one, a part of a window after each of its windows, and says what the same minutes cost.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from loadtests.errors import PlanError
from loadtests.pace import loop_ns, uncollected
from pipeline.seal import BATCH_RECORDS, CLEAN_EVERY_S
from pipeline.sealstore import SealStore
from pipeline.settings import Settings
from pipeline.shard import Shard, origin_of
from pipeline.tilestore import LocalTileStore, sync_stores
from pipeline.topics import EVENTS
from processors.model import RawRecord
from schemas.note import Ed25519Signer

LOG = "scale.example"
WINDOW_LEAVES, WINDOWS = 200_000, 5
"""Medians of so many windows, one after another."""
BESIDE, BESIDE_SHARE = 1_000_000, 2
"""Leaves of the small tree at first, and the part of a window that it grows by: so it hardly changes."""
PACE = 20_000
"""Leaves a second that the shard is taken to grow by."""
BATCHES_A_PUBLICATION = PACE // BATCH_RECORDS
"""So many batches come in a second, the default interval of checkpoints."""
FIRST_MS = 1_700_000_000_000
DID = b"did:key:z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH"
GROW_RECORDS, GROW_PUBLISH = 50_000, 500_000
VALUE_BYTES = 252
"""Of an event of eight readings."""
BYTES_A_LEAF = 300
"""Of disk, with room to spare: tile and bundle, in files that take whole blocks, and once more in RocksDB,
which has parts of it twice while it compacts."""
QUIET_S, QUIET_SHARE, MOST_WAIT_S = 0.25, 0.02, 120.0


@dataclass(frozen=True, slots=True)
class AtLeaves:
    """What a leaf cost from one size of the tree on; times are CPU time in us."""

    leaves: int
    cpu_us: float
    """Median of the windows."""
    beside_us: float
    """What a leaf of the small tree cost between the windows."""
    append_us: float
    publish_us: float
    behind_us: float
    """After the last publication, until nothing moved any more."""
    clean_us: float
    """Of looking for partial tiles once a minute, which walks over all of the tree's files, at `PACE`."""
    tile_bytes: float
    """Of files written that never change again, for a leaf."""
    objects: float
    """Files written at all, partial tiles and checkpoints included, for a leaf."""
    loop_ns: float

    def to_json(self) -> dict[str, Any]:
        """Members by name, rounded."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def at_leaves(
    sizes: Sequence[int],
    folder: Path,
    on_progress: Callable[[str], None] = lambda _text: None,
    window: int = WINDOW_LEAVES,
) -> list[AtLeaves]:
    """Grow one tree through all sizes and measure at each; raises PlanError where the disk is too small."""
    if not sizes or sorted(set(sizes)) != list(sizes) or sizes[0] < 0:
        raise PlanError("sizes of a tree must rise")
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = (sizes[-1] + WINDOWS * window) * BYTES_A_LEAF, shutil.disk_usage(folder).free
    if needed > free:
        raise PlanError(
            f"a tree of {sizes[-1]:,} leaves needs {needed / 1e9:,.0f} GB in {folder}, and "
            f"{free / 1e9:,.0f} are free"
        )
    with TemporaryDirectory(prefix="attestream-scale-", dir=folder) as made:
        tree, small = Tree(Path(made) / "tree"), Tree(Path(made) / "small")
        try:
            small.grow(min(BESIDE, *sizes), on_progress)
            found = []
            for leaves in sizes:
                tree.grow(leaves, on_progress)
                found.append(tree.measure(leaves, window, small))
                at = found[-1]
                on_progress(f"{leaves:,} leaves: {at.cpu_us:.2f} us CPU a leaf, a few: {at.beside_us:.2f}")
            return found
        finally:
            tree.close()
            small.close()


class Tree:
    """One shard that grows."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(data_dir=folder, log_name=LOG)
        self._partition = (EVENTS, 0)
        signer = Ed25519Signer.from_seed(origin_of(LOG, self._partition), bytes(range(32)))
        self._grace_s = settings.partial_tile_grace_s
        self._store = SealStore(folder / "rocksdb")
        self.shard = Shard(settings, self._partition, self._store, signer, "scale")
        self._files = self.shard.published = CountedStore(self.shard.published.root)

    def grow(self, leaves: int, on_progress: Callable[[str], None]) -> None:
        """Append short records until the tree has so many leaves."""
        published = self.shard.size
        with uncollected():
            while self.shard.size < leaves:
                self.shard.append(self._records(min(GROW_RECORDS, leaves - self.shard.size), b""))
                if self.shard.size - published >= GROW_PUBLISH:
                    self._publish()
                    published = self.shard.size
                    on_progress(f"growing: {published:,} of {leaves:,} leaves")
            if self.shard.is_dirty:
                self._publish()

    def measure(self, leaves: int, window: int, small: "Tree") -> AtLeaves:
        """Measure windows of leaves that come as events come; between them `small` grows."""
        found, beside, loops = [], [], []
        self._files.forget()
        for _ in range(WINDOWS):
            _settle()
            loops.append(loop_ns())
            with uncollected():
                found.append(self.grow_as_events_come(window))
                beside.append(small.grow_as_events_come(max(1, window // BESIDE_SHARE)))
        cleaned_s = self._clean()
        appended, published, behind = (median(each) for each in zip(*found, strict=True))
        clean_us = cleaned_s / (PACE * CLEAN_EVERY_S) * 1e6
        return AtLeaves(
            leaves=leaves,
            cpu_us=median(map(sum, found)) + clean_us,
            beside_us=median(map(sum, beside)),
            append_us=appended,
            publish_us=published,
            behind_us=behind,
            clean_us=clean_us,
            tile_bytes=self._files.full_bytes / (window * WINDOWS),
            objects=self._files.written / (window * WINDOWS),
            loop_ns=median(loops),
        )

    def grow_as_events_come(self, leaves: int) -> tuple[float, float, float]:
        """Append and publish as a sealer does; return the CPU time of a leaf for each part of it."""
        appended = published = 0.0
        end, batches = self.shard.size + leaves, 0
        while self.shard.size < end:
            records = self._records(min(BATCH_RECORDS, end - self.shard.size), os.urandom(VALUE_BYTES))
            started = time.process_time()
            self.shard.append(records)
            appended += time.process_time() - started
            batches += 1
            if batches % BATCHES_A_PUBLICATION == 0 or self.shard.size == end:
                started = time.process_time()
                self._publish()
                published += time.process_time() - started
        return appended / leaves * 1e6, published / leaves * 1e6, _settle() / leaves * 1e6

    def _publish(self) -> None:
        self.shard.stage()
        sync_stores([self.shard.published])
        self.shard.sign()

    def _clean(self) -> float:
        """Look for partial tiles as a sealer does once a minute; return the CPU seconds of it."""
        started = time.process_time()
        self.shard.published.delete_partial_tiles(time.time(), self._grace_s)
        return time.process_time() - started

    def _records(self, count: int, value: bytes) -> list[RawRecord]:
        """Make the next records of the topic."""
        first, (topic, number) = self.shard.next_offset, self._partition
        return [
            RawRecord(
                topic,
                number,
                offset,
                FIRST_MS + offset * 1000 // PACE,
                DID,
                value,
                (("registry.offset", b"1000"), ("source", b"device.telemetry.raw/0/%d" % offset)),
            )
            for offset in range(first, first + count)
        ]

    def close(self) -> None:
        """Let the working copy go."""
        self._store.close()


class CountedStore(LocalTileStore):
    """A tile store that counts what is written."""

    written = full_bytes = 0

    def forget(self) -> None:
        """Count from here on."""
        self.written = self.full_bytes = 0

    def put_many(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write files, and count them."""
        super().put_many(self._counted(files))

    def compare_and_set_checkpoint(self, expected: bytes | None, new: bytes) -> None:
        """Replace the checkpoint, and count it."""
        super().compare_and_set_checkpoint(expected, new)
        self.written += 1

    def _counted(self, files: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
        for path, data in files:
            self.written += 1
            if ".p/" not in path:
                self.full_bytes += len(data)
            yield path, data


def _settle() -> float:
    """Wait until this process with all its threads has nothing to do; return the CPU seconds of that."""
    started = time.process_time()
    until_s = time.monotonic() + MOST_WAIT_S
    while time.monotonic() < until_s:
        before = time.process_time()
        time.sleep(QUIET_S)
        if time.process_time() - before < QUIET_SHARE * QUIET_S:
            break
    return time.process_time() - started
