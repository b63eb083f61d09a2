"""Seal and anchor as they are, over a Kafka and a ledger that are files: every run makes the same calls.

Runs in a process that has the shim. What stands for other machines lies in `<world>/outside`, which no power
cut of ours touches; the stage's own folder is `<world>/data`. Records of the topics follow from their places.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline import anchor, announce, kafka, seal, shard
from pipeline.settings import Settings
from pipeline.shard import store_of
from pipeline.stage import Health, Stop, configure_logging, state_dir
from pipeline.tilestore import LocalTileStore, sync_stores
from pipeline.topics import ANCHORS, CHECKPOINTS, EVENTS, REJECTED, SEALED_TOPICS
from pipeline.trust import init_local, log_signers
from processors.merkle.tree import TreeBuilder
from processors.model import RawRecord
from schemas.checkpoint import Checkpoint, sign_checkpoint
from schemas.note import format_note
from tests.faults.machine.syscalls.outside import (
    FIRST_MS,
    PUBLISHED,
    FileProducer,
    LedgerFile,
    TopicFile,
    add_line,
)
from tests.faults.machine.syscalls.shim import suspended

LOG_NAME = "syscalls.example"
EVENT, REJECT, EPOCH = (EVENTS, 0), (REJECTED, 0), (CHECKPOINTS, 0)
PLAN = ((3, 0), (255, 1), (256, 1), (256, 1), (520, 4), (521, 4))
"""How far the two topics reach at each step: across a tile's edge, with a step in which nothing comes."""
VERSIONS = (3, 200, 300, 520)
"""Sizes of the epoch log that are anchored one after another."""
IDLE_STEPS = 3
Topics = dict[tuple[str, int], int]


def settings_of(world: Path) -> Settings:
    """The settings of every run in this world: no interval lets chance in."""
    return Settings(
        data_dir=world / "data",
        log_name=LOG_NAME,
        bootstrap_servers="127.0.0.1:1",
        partitions=1,
        checkpoint_interval_s=0.0,
        anchor_interval_s=0.0,
        partial_tile_grace_s=0.0,
        ledger_resubmit_s=3600.0,
    )


def prepare(world: Path) -> None:
    """Make keys and trust file; what stands for others begins empty."""
    (world / "outside").mkdir(parents=True)
    (world / "data").mkdir()
    init_local(settings_of(world))


def record_at(topic: str, offset: int) -> RawRecord:
    """The record that stands there in every run."""
    key = b"did:example:%d" % (offset % 5)
    value = hashlib.sha256(b"%s %d" % (topic.encode(), offset)).digest() * (1 + offset % 3)
    headers = (("source", b"x/0/%d" % offset),)
    return RawRecord(topic, 0, offset, FIRST_MS + offset, key, value, headers)


class _EagerStop(Stop):
    """Nobody waits: a pause would only take time."""

    def wait(self, seconds: float) -> bool:
        time.sleep(min(seconds, 0.001))
        return self.requested


class _Feed:
    """What seal takes for its place in a consumer group; ends the run when nothing comes any more."""

    def __init__(self, epoch: TopicFile, stop: Stop) -> None:
        self.assigned = sorted((EVENT, REJECT, EPOCH))
        self.changed = self.has_joined = True
        self.ends: Topics = {}
        self.consumer = SimpleNamespace(get_watermark_offsets=lambda *_, **__: None)
        self._epoch, self._stop = epoch, stop
        self._positions: Topics = {}
        self._step = self._idle = 0

    def consume(self, _most: int, _wait_s: float) -> dict[tuple[str, int], list[RawRecord]]:
        """The next step of the plan, behind where each shard stands."""
        if self.changed:
            return {}
        events, rejects = PLAN[min(self._step, len(PLAN) - 1)]
        self._step += 1
        batches = {
            EVENT: [record_at(EVENTS, at) for at in range(self._positions.get(EVENT, events), events)],
            REJECT: [record_at(REJECTED, at) for at in range(self._positions.get(REJECT, rejects), rejects)],
            EPOCH: self._epoch.records()[self._positions.get(EPOCH, 1 << 60) :],
        }
        found = {place: batch for place, batch in batches.items() if batch}
        for place, batch in found.items():
            self._positions[place] = batch[-1].offset + 1
        self._idle = 0 if found or self._step < len(PLAN) else self._idle + 1
        if self._idle > IDLE_STEPS:
            self._stop.request()
        return found

    def start_at(self, next_offsets: Mapping[tuple[str, int], int]) -> None:
        """Read from there."""
        self._positions, self.changed = dict(next_offsets), False

    def pause(self, partition: tuple[str, int]) -> None:
        """Read no more of it."""
        self._positions.pop(partition)

    def close(self) -> None:
        """Nothing is held."""


def run_seal(world: Path) -> None:
    """Seal until the plan is through and the epoch log stands still."""
    configure_logging()
    settings, stop = settings_of(world), _EagerStop()
    epoch = TopicFile(world, CHECKPOINTS)
    ends: Topics = {EVENT: PLAN[-1][0], REJECT: PLAN[-1][1]}

    def end_offsets(_admin: object, places: Sequence[tuple[str, int]]) -> Topics:
        return {place: ends.get(place, len(epoch.records())) for place in places}

    def read_record(_settings: Settings, place: tuple[str, int], offset: int) -> RawRecord | None:
        if place == EPOCH:
            return epoch.records()[offset]
        return record_at(place[0], offset)

    listing = SimpleNamespace(topics={t: SimpleNamespace(partitions={0: None}) for t in SEALED_TOPICS})
    _replace(kafka, "admin", lambda _settings: SimpleNamespace(list_topics=lambda **_: listing))
    _replace(kafka, "producer", lambda _settings, **_: FileProducer(world))
    _replace(kafka, "topic_ids", lambda _admin, topics: {topic: f"id-of-{topic}" for topic in topics})
    _replace(kafka, "end_offsets", end_offsets)
    _replace(kafka, "start_offsets", lambda _admin, places: dict.fromkeys(places, 0))
    _replace(shard, "read_record", read_record)
    _replace(seal, "GroupMember", lambda *_: _Feed(epoch, stop))
    _replace(seal, "CLEAN_EVERY_S", 0.0)
    _tell_what_is_published(world)
    seal.work(settings, 0, Health(settings, "seal", 0), stop)


def _replace(owner: object, name: str, what: object) -> None:
    """In this process, which was forked for one run."""
    if not hasattr(owner, name):
        raise AttributeError(f"{owner} has no {name} to stand in for")
    setattr(owner, name, what)


def _tell_what_is_published(world: Path) -> None:
    """Whatever was published once, a reader may hold; what is said to be done may not be undone."""
    real = LocalTileStore.compare_and_set_checkpoint

    def replace(self: LocalTileStore, expected: bytes | None, new: bytes) -> None:
        real(self, expected, new)
        add_line(world, PUBLISHED, new.decode())

    LocalTileStore.compare_and_set_checkpoint = replace  # type: ignore[method-assign]


# ---- anchor ------------------------------------------------------------------------------------------------


class _Driver(_EagerStop):
    """Lets the epoch log grow when its newest size is said to be confirmed; ends the run after the last."""

    def __init__(self, world: Path, settings: Settings) -> None:
        super().__init__()
        self._said, self._store = TopicFile(world, ANCHORS), store_of(settings, EPOCH)
        self._signer = log_signers(settings)(LOG_NAME)
        self._builder = TreeBuilder()
        self._published = self._store.read_checkpoint()
        self._polls_left = 20
        with suspended():
            self._grow_to(self._size() or VERSIONS[0])

    @property
    def requested(self) -> bool:
        """Asked in each round of the stage's loop: time to look around."""
        size = self._size()
        if sum(record.key == b"%d" % size for record in self._said.records()) >= 2:  # SUBMITTED and CONFIRMED
            later = [version for version in VERSIONS if version > size]
            if later:
                with suspended():
                    self._grow_to(later[0])
            else:
                self._polls_left -= 1
        return super().requested or self._polls_left < 0

    def _size(self) -> int:
        return int(self._published.split(b"\n")[1]) if self._published else 0

    def _grow_to(self, size: int) -> None:
        """The tree is made anew after a start, the same."""
        full = self._builder.append([b"entry %d" % at for at in range(self._builder.size, size)])
        if size == self._size():
            return
        tiles = [*full, *self._builder.edge()]
        self._store.put_many((item.tile.path, item.data) for item in tiles)
        sync_stores([self._store])
        checkpoint = Checkpoint(LOG_NAME, size, self._builder.root())
        signed = format_note(sign_checkpoint(checkpoint, [self._signer]))
        self._store.compare_and_set_checkpoint(self._published, signed)
        self._published = signed


def run_anchor(world: Path) -> None:
    """Anchor until the last version is confirmed."""
    configure_logging()
    settings = settings_of(world)
    topic = TopicFile(world, ANCHORS)
    _replace(kafka, "producer", lambda _settings, **_: FileProducer(world))
    _replace(announce, "read_all", lambda *_args, **_more: iter(topic.records()))
    _replace(anchor, "POLL_S", 0.0)
    stop = _Driver(world, settings)
    ledger = LedgerFile(world)
    access: Any = SimpleNamespace(
        kind=ledger.name,
        payer=ledger.payer,
        mirror="file",
        create_topic=lambda: ledger.topic_id,
        open=lambda _topic: ledger,
    )
    folder = state_dir(settings, "anchor", 0)
    anchor.anchor(settings, folder, access, Health(settings, "anchor", 0), stop)


STAGES: dict[str, Callable[[Path], None]] = {"seal": run_seal, "anchor": run_anchor}
