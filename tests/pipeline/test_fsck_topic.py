"""A published log held against its topic on a real Kafka: changed, lost and left-out records are named."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from pipeline import kafka, topics
from pipeline.believed import Believed
from pipeline.fsck import Report, fsck
from pipeline.fscktopic import check_topics
from pipeline.shard import leaf_of
from pipeline.trust import load_trust, log_identity, trust_path
from processors.merkle.fsck import FaultKind
from processors.merkle.tree import TreeBuilder
from processors.model import RawRecord
from schemas.checkpoint import Checkpoint, sign_checkpoint
from schemas.note import Ed25519Signer, format_note
from tests.kit.deployment import Deployment
from tests.kit.publishedlog import write

COUNT = 600
GONE = 100


@pytest.fixture(scope="module")
def records(deployment: Deployment) -> list[RawRecord]:
    """What a topic-partition holds: the first hundred are gone already, as retention takes them."""
    for number in range(COUNT):
        deployment.producer.produce(topics.FINDINGS, value=b"%d" % number, partition=0, headers=[("n", b"1")])
    deployment.producer.flush(30)
    found = [record for record in deployment.read(topics.FINDINGS) if record.partition == 0]
    admin = kafka.admin(deployment.settings)
    for done in admin.delete_records([TopicPartition(topics.FINDINGS, 0, GONE)]).values():
        done.result(30)
    return found


def publish(
    deployment: Deployment, records: Sequence[RawRecord], folder: Path, topic: str = topics.FINDINGS
) -> None:
    """What a sealer, honest or not, makes of these records."""
    name = deployment.settings.log_name
    origin = name if topic == topics.CHECKPOINTS else f"{name}/{topic}/0"
    signer = Ed25519Signer.from_seed(origin, log_identity(deployment.settings).seed)
    builder = TreeBuilder()
    tiles = [*builder.append([leaf_of(record) for record in records]), *builder.edge()]
    note = sign_checkpoint(Checkpoint(origin, builder.size, builder.root()), [signer])
    write({**{t.tile.path: t.data for t in tiles}, "checkpoint": format_note(note)}, folder)


def check(deployment: Deployment, folder: Path, jobs: int = 1) -> Report:
    settings = deployment.settings
    believed = Believed.from_trust(load_trust(trust_path(settings)))
    report = fsck(str(folder), believed)
    assert report.holds
    check_topics(report, str(folder), believed, settings, jobs=jobs, on_progress=lambda _done, _known: None)
    return report


def faults_of(report: Report) -> list[tuple[int, str, str]]:
    assert all(f.kind is FaultKind.TOPIC for f in report.logs[0].faults)
    return [(f.index, f.path, f.reason.partition(": ")[2]) for f in report.logs[0].faults]


def test_honest_log(deployment: Deployment, records: list[RawRecord], tmp_path: Path) -> None:
    publish(deployment, records[:500], tmp_path)
    report = check(deployment, tmp_path)
    assert report.holds
    assert (report.logs[0].records_checked, report.logs[0].records_gone) == (400, GONE)


def test_changed_record(deployment: Deployment, records: list[RawRecord], tmp_path: Path) -> None:
    forged = [replace(r, headers=(("n", b"2"),)) if r.offset == 300 else r for r in records]
    publish(deployment, forged, tmp_path)
    [(index, path, reason)] = faults_of(check(deployment, tmp_path))
    assert (index, path) == (300, "tile/entries/001")
    assert reason == "the record at offset 300 is not the one that was sealed"


def test_record_left_out(deployment: Deployment, records: list[RawRecord], tmp_path: Path) -> None:
    publish(deployment, [r for r in records if r.offset not in {GONE, 300}], tmp_path)
    assert [reason for _, _, reason in faults_of(check(deployment, tmp_path))] == [
        f"the record at offset {GONE} is not in the tree",
        "the record at offset 300 is not in the tree",
    ]


def test_records_that_never_were(deployment: Deployment, records: list[RawRecord], tmp_path: Path) -> None:
    invented = [replace(records[-1], offset=COUNT + number) for number in range(2)]
    publish(deployment, [*records, *invented], tmp_path)
    assert [(index, reason) for index, _, reason in faults_of(check(deployment, tmp_path))] == [
        (COUNT, f"no record is at offset {COUNT}, where one was sealed"),
        (COUNT + 1, f"no record is at offset {COUNT + 1}, where one was sealed"),
    ]


def test_topic_that_is_not_there(deployment: Deployment, records: list[RawRecord], tmp_path: Path) -> None:
    publish(deployment, records[:3], tmp_path, topic="no.such.topic")
    assert faults_of(check(deployment, tmp_path)) == [
        (0, "tile/entries/000.p/3", "this Kafka has no such topic")
    ]


def test_epoch_log_whose_leaves_are_the_values(deployment: Deployment, tmp_path: Path) -> None:
    for number in range(3):
        deployment.producer.produce(topics.CHECKPOINTS, value=b"foreign %d" % number, partition=0)
    deployment.producer.flush(30)
    found = deployment.read(topics.CHECKPOINTS)
    publish(deployment, found, tmp_path, topics.CHECKPOINTS)
    report = check(deployment, tmp_path)
    assert report.holds
    assert report.logs[0].records_checked == len(found)
    publish(deployment, [*found[:-1], replace(found[-1], value=b"x")], tmp_path, topics.CHECKPOINTS)
    assert [index for index, _, _ in faults_of(check(deployment, tmp_path))] == [len(found) - 1]
