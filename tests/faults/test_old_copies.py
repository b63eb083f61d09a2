"""Working copies that are old, of another changelog, or damaged under a stage: right again from Kafka."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (
    NewTopic,
)

from pipeline import kafka, seal, topics, transactional
from pipeline.restore import RestoreError, restore
from pipeline.sealstore import SealStore
from pipeline.shard import leaf_of, store_of
from pipeline.stage import Health
from pipeline.statestore import ChangelogPosition, Partition, StateStore
from processors.merkle.tree import TreeBuilder
from schemas.checkpoint import Checkpoint, parse_checkpoint
from schemas.note import parse_note
from tests.kit.deployment import Deployment, in_thread, read_topic, wait_for

pytestmark = pytest.mark.timeout(240)
SOURCE: Partition = (topics.TELEMETRY_RAW, 0)
CHANGELOG = topics.changelog_of(topics.TELEMETRY_RAW)


class Changelog:
    """One changelog partition of a topic that each test has to itself, and what its records add up to."""

    def __init__(self, deployment: Deployment) -> None:
        self.settings, self.admin = deployment.settings, kafka.admin(deployment.settings)
        self.producer = kafka.producer(self.settings)
        self.state: dict[bytes, bytes] = {}
        self.recreate()

    def recreate(self, **config: str) -> None:
        """A topic of the same name, empty, with another id."""
        self.state = {}
        if CHANGELOG in self.admin.list_topics(timeout=20).topics:
            self.admin.delete_topics([CHANGELOG])[CHANGELOG].result(20)
            # Else the old one, empty too, may pass for the new one, and take records to its grave.
            is_gone = lambda: CHANGELOG not in self.admin.list_topics(timeout=20).topics  # noqa: E731
            wait_for(is_gone, "the old changelog is gone")
        new = NewTopic(CHANGELOG, 2, 1, config={"cleanup.policy": "compact", **config})

        def created() -> bool:
            try:
                self.admin.create_topics([new])[CHANGELOG].result(20)
            except KafkaException:  # the old one is still being deleted
                return False
            return True

        def is_led() -> bool:
            try:
                return self.end == 0
            except KafkaException:
                return False

        wait_for(created, "the changelog is there again")
        wait_for(is_led, "the changelog has a leader")

    def write(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        for key, value in pairs:
            self.producer.produce(CHANGELOG, value, key, SOURCE[1])
            self.state[key] = value
        assert self.producer.flush(30) == 0

    @property
    def end(self) -> int:
        return kafka.end_offsets(self.admin, [(CHANGELOG, SOURCE[1])])[CHANGELOG, SOURCE[1]]

    def restore(self, store: StateStore) -> dict[bytes, bytes]:
        restore(self.settings, self.admin, store, {SOURCE: self.end}, lambda _text: None)
        return dict(store.items(SOURCE))

    def topic_id(self) -> str:
        return kafka.topic_id(self.admin, CHANGELOG)


@pytest.fixture
def changelog(deployment: Deployment) -> Changelog:
    return Changelog(deployment)


def pairs(first: int, last: int, version: str) -> list[tuple[bytes, bytes]]:
    return [(b"did:%03d" % number, f"{version} {number}".encode()) for number in range(first, last)]


def rolled_back(store: StateStore, path: Path) -> StateStore:
    """Close a store and hand out a copy of its folder, as a backup would keep it."""
    store.close()
    shutil.copytree(path / "rocksdb", path / "old" / "rocksdb")
    return StateStore(path / "old" / "rocksdb")


def test_an_old_copy_reads_the_rest(changelog: Changelog, tmp_path: Path) -> None:
    changelog.write(pairs(0, 60, "one"))
    store = StateStore(tmp_path / "rocksdb")
    assert changelog.restore(store) == changelog.state
    old = rolled_back(store, tmp_path)
    changelog.write(pairs(30, 90, "two"))
    assert changelog.restore(old) == changelog.state
    assert changelog.restore(old) == changelog.state
    old.close()


def test_an_old_copy_after_compaction(changelog: Changelog, tmp_path: Path) -> None:
    """Also the record that it stands at is compacted away; nothing that is gone was not written again."""
    changelog.recreate(**{"segment.ms": "100", "min.cleanable.dirty.ratio": "0.0"})
    changelog.write(pairs(0, 60, "one"))
    store = StateStore(tmp_path / "rocksdb")
    changelog.restore(store)
    old = rolled_back(store, tmp_path)
    changelog.write(pairs(0, 100, "two"))

    def is_compacted() -> bool:
        changelog.write(pairs(0, 1, "again"))  # a new segment, so that the ones before are old
        offsets = [record.offset for record in read_topic(changelog.settings, CHANGELOG)]
        return not any(offset < 60 for offset in offsets)

    wait_for(is_compacted, "the changelog is compacted", 120)
    assert changelog.restore(old) == changelog.state
    old.close()
    fresh = StateStore(tmp_path / "fresh")
    assert changelog.restore(fresh) == changelog.state
    fresh.close()


def test_a_copy_of_a_changelog_that_was_recreated(changelog: Changelog, tmp_path: Path) -> None:
    changelog.write(pairs(0, 60, "one"))
    store = StateStore(tmp_path / "rocksdb")
    changelog.restore(store)
    changelog.recreate()
    changelog.write(pairs(50, 120, "two"))
    assert changelog.restore(store) == changelog.state
    store.close()


def test_a_copy_that_is_ahead_of_its_changelog(changelog: Changelog, tmp_path: Path) -> None:
    changelog.write(pairs(0, 60, "one"))
    store = StateStore(tmp_path / "rocksdb")
    store.write([(SOURCE, b"ghost", b"x")], {SOURCE: ChangelogPosition(changelog.topic_id(), 61)})
    assert changelog.restore(store) == changelog.state
    store.close()


def test_a_changelog_that_lost_its_end_and_grew_again(changelog: Changelog, tmp_path: Path) -> None:
    """What a broker had not written when its power went: the same topic, offsets used twice."""
    changelog.write(pairs(0, 60, "one"))
    store = StateStore(tmp_path / "rocksdb")
    changelog.restore(store)
    lost = [(SOURCE, b"ghost", b"of a lost record"), (SOURCE, b"did:003", b"lost too")]
    store.write(lost, {SOURCE: ChangelogPosition(changelog.topic_id(), 62)})
    changelog.write(pairs(70, 90, "two"))
    assert changelog.restore(store) == changelog.state
    store.close()


def test_a_changelog_that_lost_its_end_and_grew_to_the_same_size(
    changelog: Changelog, tmp_path: Path
) -> None:
    changelog.write(pairs(0, 60, "one"))
    store = StateStore(tmp_path / "rocksdb")
    changelog.restore(store)
    store.write([(SOURCE, b"ghost", b"x")], {SOURCE: ChangelogPosition(changelog.topic_id(), 61)})
    changelog.write(pairs(70, 71, "two"))
    assert changelog.restore(store) == changelog.state
    store.close()


def test_a_changelog_without_its_beginning_is_refused(changelog: Changelog, tmp_path: Path) -> None:
    """Trimmed by hand or by retention, which a changelog must not have: states would be missing unseen."""
    changelog.recreate(**{"cleanup.policy": "compact,delete"})
    changelog.write(pairs(0, 60, "one"))
    whole, old = StateStore(tmp_path / "whole"), StateStore(tmp_path / "old")
    changelog.restore(whole)
    old.write([(SOURCE, b"did:000", b"one 0")], {SOURCE: ChangelogPosition(changelog.topic_id(), 1)})
    trimmed = changelog.admin.delete_records([TopicPartition(CHANGELOG, SOURCE[1], 30)])
    next(iter(trimmed.values())).result(20)
    for store in (old, StateStore(tmp_path / "empty")):
        with pytest.raises(RestoreError, match="begins at 30"):
            changelog.restore(store)
        store.close()
    assert changelog.restore(whole) == changelog.state
    whole.close()


# ---- under a stage that works ------------------------------------------------------------------------------


def hurt_tables(folder: Path) -> None:
    """Flip a bit in the middle of each table: it is met by whoever reads there."""
    tables = list(folder.glob("*.sst"))
    assert tables
    for table in tables:
        data = bytearray(table.read_bytes())
        data[len(data) // 2] ^= 1
        table.write_bytes(data)


def sent(deployment: Deployment, devices: int, each: int) -> tuple[list[bytes], list[str]]:
    made = [deployment.enroll() for _ in range(devices)]
    values = [(device, device.telemetry()) for device in made for _ in range(each)]
    return [value for _, value in values], [deployment.send(device, value) for device, value in values]


def publish_again(deployment: Deployment, sources: list[str]) -> list[str]:
    """Send raw records once more, byte for byte."""
    records = {f"{r.topic}/{r.partition}/{r.offset}": r for r in deployment.read(topics.TELEMETRY_RAW)}
    return [deployment.publish(topics.TELEMETRY_RAW, records[s].key, records[s].value) for s in sources]


def wait_until_running(health: Health) -> None:
    """Wait for a beat of this worker in state `running`."""
    steps = health.steps
    wait_for(lambda: health.steps > steps, "it runs")


@pytest.fixture
def working(kafka: str, tmp_path: Path) -> Iterable[Deployment]:
    """A deployment of a test's own."""
    from tests.kit.deployment import make_deployment

    made = make_deployment(kafka, tmp_path, checkpoint_interval_s=0.1, anchor_interval_s=0.3)
    yield made
    made.authority.close()


@pytest.mark.parametrize("when", ["between two runs", "while it runs"])
def test_ingest_with_a_damaged_copy_knows_every_replay(
    working: Deployment, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    stores: list[StateStore] = []

    def store(path: Path) -> StateStore:
        stores.append(StateStore(path))
        return stores[-1]

    monkeypatch.setattr(transactional, "StateStore", store)
    with working.ingesting():
        _, sources = sent(working, devices=20, each=10)
        assert working.verdicts(sources) == ["accepted"] * 200
    with working.ingesting() as health:  # opening writes what was in the log into a table
        wait_until_running(health)
    folder = working.settings.data_dir / "state" / "ingest" / "0" / "rocksdb"
    if when == "between two runs":
        hurt_tables(folder)
    with working.ingesting() as health:
        if when == "while it runs":
            more = sent(working, devices=1, each=1)[1]
            assert working.verdicts(more) == ["accepted"]
            stores[-1]._copy.damaged("a block that cannot be read any more")
        again = publish_again(working, sources)
        assert working.verdicts(again) == ["replay"] * 200
        assert health.path.exists()
    assert [each.name for each in folder.parent.glob("rocksdb.*")] == ["rocksdb.damaged-1"]
    with working.ingesting():
        assert working.verdicts(publish_again(working, sources[:3])) == ["replay"] * 3
    assert [each.name for each in folder.parent.glob("rocksdb.*")] == ["rocksdb.damaged-1"]


def published(deployment: Deployment, partition: Partition) -> Checkpoint | None:
    data = store_of(deployment.settings, partition).read_checkpoint()
    return parse_checkpoint(parse_note(data).text) if data else None


def is_sealed(deployment: Deployment) -> Callable[[], bool]:
    """Every committed event is a leaf, and each root is the one computed from the topic alone."""

    def look() -> bool:
        records = deployment.read(topics.EVENTS)
        for number in range(deployment.settings.partitions):
            builder = TreeBuilder()
            builder.append([leaf_of(record) for record in records if record.partition == number])
            found = published(deployment, (topics.EVENTS, number))
            if builder.size and (found is None or found.size != builder.size):
                return False
            assert found is None or found.root == builder.root()
        return True

    return look


@pytest.mark.parametrize("when", ["between two runs", "while it runs"])
def test_seal_with_a_damaged_copy_publishes_the_same_tree(
    working: Deployment, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    stores: list[SealStore] = []

    def store(path: Path) -> SealStore:
        stores.append(SealStore(path))
        return stores[-1]

    monkeypatch.setattr(seal, "SealStore", store)
    with working.ingesting():
        with in_thread(seal.work, working.settings, "seal"):
            _, sources = sent(working, devices=5, each=60)
            assert working.verdicts(sources) == ["accepted"] * 300
            wait_for(is_sealed(working), "all is sealed")
        with in_thread(seal.work, working.settings, "seal") as health:
            wait_until_running(health)
        before = [published(working, (topics.EVENTS, number)) for number in range(2)]
        folder = working.settings.data_dir / "state" / "seal" / "0" / "rocksdb"
        if when == "between two runs":
            hurt_tables(folder)
        with in_thread(seal.work, working.settings, "seal") as health:
            if when == "while it runs":
                wait_until_running(health)
                stores[-1]._copy.damaged("a block that cannot be read any more")
            _, more = sent(working, devices=5, each=10)
            assert working.verdicts(more) == ["accepted"] * 50
            wait_for(is_sealed(working), "all is sealed again")
    after = [published(working, (topics.EVENTS, number)) for number in range(2)]
    assert sum(c.size for c in after if c) == sum(c.size for c in before if c) + 50
    assert [each.name for each in folder.parent.glob("rocksdb.*")] == ["rocksdb.damaged-1"]
