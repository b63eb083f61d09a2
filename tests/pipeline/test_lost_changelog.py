"""A changelog that is not the one that ingest committed to: it refuses, and accepts nothing a second time."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from pipeline import kafka, setoffset, topics
from pipeline.changelogmark import ChangelogMark, ChangelogMarkError
from pipeline.membership import group_of
from pipeline.statestore import ChangelogPosition, Partition, StateStore
from pipeline.topics import TELEMETRY_RAW, changelog_of
from schemas.partition import partition_of
from tests.kit.deployment import Deployment, Device, make_deployment, wait_for

pytestmark = pytest.mark.timeout(180)
CHANGELOG = changelog_of(TELEMETRY_RAW)
REFUSAL = "What was accepted would be accepted again"


@pytest.fixture
def deployment(kafka: str, tmp_path: Path) -> Iterator[Deployment]:
    """One of its own for each test, which each spoils its own way."""
    made = make_deployment(kafka, tmp_path, session_timeout_s=6.0)
    yield made
    made.authority.close()


class Scene:
    """A device with accepted events, whose worker has left."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment, self.settings = deployment, deployment.settings
        self.admin: AdminClient = kafka.admin(self.settings)
        self.device: Device = deployment.enroll()
        self.place: Partition = (TELEMETRY_RAW, partition_of(self.device.did.encode(), 2))
        self.first = self.device.telemetry()
        self.sources = [deployment.send(self.device, self.first)]
        self.sources.append(deployment.send(self.device, self.device.telemetry()))
        with deployment.ingesting():
            assert deployment.verdicts(self.sources) == ["accepted", "accepted"]

    @property
    def copy(self) -> Path:
        return self.settings.data_dir / "state" / "ingest" / "0" / "rocksdb"

    def mark(self) -> ChangelogMark | None:
        group = ConsumerGroupTopicPartitions(group_of(self.settings, "ingest"), [TopicPartition(*self.place)])
        asked = self.admin.list_consumer_group_offsets([group])
        return ChangelogMark.decode(asked[group.group_id].result(20).topic_partitions[0].metadata)

    def commit(self, metadata: str, next_offset: int = 2) -> None:
        """Commit the offset, by default as it is, with other metadata, once the last worker is out."""
        places = [TopicPartition(*self.place, next_offset, metadata=metadata)]
        wanted = ConsumerGroupTopicPartitions(group_of(self.settings, "ingest"), places)

        def is_taken() -> bool:
            asked = self.admin.alter_consumer_group_offsets([wanted])
            return asked[wanted.group_id].result(20).topic_partitions[0].error is None

        wait_for(is_taken, "the group takes an offset")

    def make_anew(self) -> None:
        """Delete the changelog and make it again, empty."""
        self.admin.delete_topics([CHANGELOG], operation_timeout=20)[CHANGELOG].result(30)
        spec = next(spec for spec in topics.TOPICS if spec.name == CHANGELOG)

        def made() -> bool:
            new = NewTopic(CHANGELOG, num_partitions=2, config=dict(spec.config))
            try:
                self.admin.create_topics([new], operation_timeout=20)[CHANGELOG].result(30)
            except KafkaException:
                return False  # the old one is still on its way out
            return True

        wait_for(made, "the changelog is made anew")

    def is_refused(self, why: str) -> None:
        """Ingest starts, says why it does not judge, and judges nothing; old records come meanwhile."""
        replayed = self.deployment.send(self.device, self.first)
        said = self.settings.data_dir / "run" / "ingest.health.json"
        said.unlink()  # of the worker before
        with self.deployment.ingesting():
            wait_for(lambda: said.exists() and REFUSAL in said.read_text(), "it refuses")
            assert why in said.read_text()
        assert self.deployment.verdict_of(replayed) is None
        self.sources.append(replayed)


def test_each_commit_says_where_the_changelog_stands(deployment: Deployment) -> None:
    scene = Scene(deployment)
    store = StateStore(scene.copy)
    position, digest = store.position(scene.place), store.last_digest(scene.place)
    store.close()
    assert position is not None
    assert scene.mark() == ChangelogMark(position.topic_id, position.next_offset, digest)
    assert digest is not None
    # With no working copy left the changelog alone brings it there, and a replay is known for one.
    shutil.rmtree(scene.copy)
    scene.sources.append(deployment.send(scene.device, scene.first))
    with deployment.ingesting():
        assert deployment.verdicts(scene.sources)[2] == "replay"


def test_a_changelog_that_was_made_anew_is_refused_until_an_operator_takes_it(deployment: Deployment) -> None:
    scene = Scene(deployment)
    scene.make_anew()
    scene.is_refused("is another topic")
    store = StateStore(scene.copy)
    assert store.get(scene.place, scene.device.did.encode()), "what is left of the memory is kept"
    store.close()
    shutil.rmtree(scene.copy)  # and with the disk lost as well
    scene.is_refused("is another topic")
    # To set the offset alone is no consent to it.
    found = setoffset.standing(scene.settings, scene.place)
    assert found.next_offset == found.committed == 2
    setoffset.set_offset(scene.settings, scene.place, 2)
    scene.is_refused("is another topic")
    setoffset.set_offset(scene.settings, scene.place, 2, accept_changelog=True)
    for number in range(scene.settings.partitions):
        if (TELEMETRY_RAW, number) != scene.place:
            setoffset.set_offset(scene.settings, (TELEMETRY_RAW, number), 0, accept_changelog=True)
    with deployment.ingesting():
        # The price that was agreed to: the oldest record is news again, once.
        assert deployment.verdicts(scene.sources)[2:] == ["accepted", "replay", "replay"]
    mark = scene.mark()
    assert mark is not None
    assert mark.digest is not None


@pytest.mark.parametrize("disk", ["kept", "lost"])
def test_a_changelog_that_was_cut_off_is_refused(deployment: Deployment, disk: str) -> None:
    scene = Scene(deployment)
    mark = scene.mark()
    assert mark is not None
    assert mark.next_offset is not None
    if disk == "lost":
        shutil.rmtree(scene.copy)
    # As if the broker had lost records that it acknowledged.
    scene.commit(ChangelogMark(mark.topic_id, mark.next_offset + 100, mark.digest).encode())
    scene.is_refused("ends at")
    # The same, and later ones took their places.
    scene.commit(ChangelogMark(mark.topic_id, mark.next_offset, b"another").encode())
    scene.is_refused("holds another record")
    scene.commit(ChangelogMark(mark.topic_id, mark.next_offset - 1, mark.digest).encode())
    scene.is_refused("has its last record before")
    # Where a broker did not tell the offset the digest alone decides.
    scene.commit(ChangelogMark(mark.topic_id, None, b"another").encode())
    scene.is_refused("holds another record")
    scene.commit(ChangelogMark(mark.topic_id, None, mark.digest).encode())
    with deployment.ingesting():
        assert deployment.verdicts(scene.sources)[2:] == ["replay"] * 4


@pytest.mark.parametrize("disk", ["kept", "lost"])
def test_an_offset_of_an_older_transaction_is_overtaken_by_the_verdicts(
    deployment: Deployment, disk: str
) -> None:
    scene = Scene(deployment)
    older = scene.mark()
    assert older is not None
    scene.sources.append(deployment.send(scene.device, scene.device.telemetry()))
    scene.sources.append(deployment.send(scene.device, scene.first))
    with deployment.ingesting():
        assert deployment.verdicts(scene.sources)[2:] == ["accepted", "replay"]
    if disk == "lost":
        shutil.rmtree(scene.copy)
    # As if the offsets of the transaction before had come once more, into the last one.
    scene.commit(older.encode(), 2)
    scene.sources.append(deployment.send(scene.device, scene.first))
    with deployment.ingesting():
        # Each has its one verdict: `verdicts` knows of no second one.
        assert deployment.verdicts(scene.sources)[2:] == ["accepted", "replay", "replay"]
    mark = scene.mark()
    assert mark is not None
    assert mark.next_offset is not None
    assert older.next_offset is not None
    assert mark.next_offset > older.next_offset


def test_a_strangers_record_in_the_changelog_does_not_move_the_offset(deployment: Deployment) -> None:
    scene = Scene(deployment)
    shutil.rmtree(scene.copy)
    deployment.producer.produce(CHANGELOG, b"forged", b"did:key:zNobody", scene.place[1])
    assert deployment.producer.flush(20) == 0
    scene.is_refused("has its last record before")


def test_a_right_copy_is_not_dropped_for_a_wrong_changelog(deployment: Deployment) -> None:
    scene = Scene(deployment)
    mark = scene.mark()
    assert mark is not None
    assert mark.next_offset is not None
    store = StateStore(scene.copy)
    lost = (scene.place, scene.device.did.encode(), b"a state that the changelog no longer has")
    store.write([lost], {scene.place: ChangelogPosition(mark.topic_id, mark.next_offset)})
    digest = store.last_digest(scene.place)
    store.close()
    scene.commit(ChangelogMark(mark.topic_id, mark.next_offset, digest).encode())
    with deployment.ingesting() as health:
        wait_for(lambda: "the working copy is right, and kept" in health.path.read_text(), "it refuses")
    store = StateStore(scene.copy)
    assert store.get(*lost[:2]) == lost[2]
    store.close()


def test_an_offset_without_a_mark_is_taken_once(deployment: Deployment) -> None:
    scene = Scene(deployment)
    scene.commit("")  # as earlier versions did
    scene.sources.append(deployment.send(scene.device, scene.first))
    with deployment.ingesting():
        assert deployment.verdicts(scene.sources)[2] == "replay"
    assert scene.mark() is not None
    # Without a mark what is left of the working copy testifies.
    scene.commit("")
    scene.make_anew()
    scene.is_refused("is another topic")


def test_what_is_no_mark_is_no_consent() -> None:
    assert ChangelogMark.decode("") is ChangelogMark.decode(None) is None
    mark = ChangelogMark("id", 7, b"digest")
    assert ChangelogMark.decode(mark.encode()) == mark
    for text in ("moved by hand", "{}", "[]", '{"changelog": "id", "next": 7, "last": "no hex"}'):
        with pytest.raises(ChangelogMarkError):
            ChangelogMark.decode(text)
