"""Seal on a real Kafka: the tree is a pure function of the topic, whatever is deleted around it."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipeline import seal, topics
from pipeline.evidence import NotProvenYetError, prove
from pipeline.settings import Settings
from pipeline.shard import leaf_of, store_of
from pipeline.stage import Health
from pipeline.trust import load_trust, trust_path
from pipeline.verify import verify
from processors.merkle.hashing import leaf_hash
from processors.merkle.tree import TreeBuilder
from schemas.checkpoint import Checkpoint, log_key, open_checkpoint
from schemas.evidence import parse_evidence
from schemas.partition import partition_of
from tests.kit.deployment import Deployment, Device, in_thread, wait_for

pytestmark = pytest.mark.timeout(120)


@contextmanager
def sealing(settings: Settings, slot: int = 0) -> Iterator[Health]:
    """Run a sealer in a thread."""
    quick = settings.model_copy(update={"checkpoint_interval_s": 0.1, "anchor_interval_s": 0.3})
    with in_thread(seal.work, quick, "seal", slot) as health:
        yield health


def checkpoint_of(deployment: Deployment, topic: str, partition: int) -> Checkpoint | None:
    data = store_of(deployment.settings, (topic, partition)).read_checkpoint()
    if data is None:
        return None
    trust = load_trust(trust_path(deployment.settings))
    origin = trust.log_name if topic == topics.CHECKPOINTS else f"{trust.log_name}/{topic}/{partition}"
    return open_checkpoint(data, log_key(origin, trust.log_key)).checkpoint


def expected_tree(deployment: Deployment, topic: str, partition: int) -> TreeBuilder:
    """Recompute a shard from its topic, by nothing but the leaf rule."""
    builder = TreeBuilder()
    builder.append([leaf_of(r) for r in deployment.read(topic) if r.partition == partition])
    return builder


def is_sealed(deployment: Deployment, topic: str) -> bool:
    for partition in range(deployment.settings.partitions):
        expected = expected_tree(deployment, topic, partition)
        found = checkpoint_of(deployment, topic, partition)
        if (found.size if found else 0) != expected.size:
            return False
        assert found is None or found.root == expected.root()
    return True


@pytest.fixture(scope="module")
def filled(deployment: Deployment) -> Deployment:
    """A deployment with judged events in its topics, over bundle boundaries."""
    devices: list[Device] = []
    places = dict.fromkeys(range(deployment.settings.partitions), 0)
    while min(places.values()) < 2:  # a device's partition follows from its random key
        devices.append(deployment.enroll())
        places[partition_of(devices[-1].did.encode(), len(places))] += 1
    with deployment.ingesting():
        sources = []
        for device in devices:
            for _ in range(150):
                deployment.producer.produce(
                    topics.TELEMETRY_RAW,
                    key=device.did.encode(),
                    value=device.telemetry(),
                    partition=partition_of(device.did.encode(), len(places)),
                )
        deployment.producer.flush(30)
        sources = [f"{r.topic}/{r.partition}/{r.offset}" for r in deployment.read(topics.TELEMETRY_RAW)]
        deployment.verdicts(sources)
    return deployment


def roots(deployment: Deployment) -> dict[str, tuple[int, bytes]]:
    found = {}
    for topic in (topics.EVENTS, topics.REJECTED, topics.REGISTRY):
        for partition in range(deployment.settings.partitions):
            checkpoint = checkpoint_of(deployment, topic, partition)
            if checkpoint:
                found[f"{topic}/{partition}"] = (checkpoint.size, checkpoint.root)
    return found


def test_every_shard_is_the_tree_of_its_topic(filled: Deployment) -> None:
    with sealing(filled.settings):
        for topic in (topics.EVENTS, topics.REJECTED):
            wait_for(lambda topic=topic: is_sealed(filled, topic), f"{topic} is sealed")  # type: ignore[misc]


def test_a_record_is_proven_and_verified_from_bytes(filled: Deployment) -> None:
    trust = load_trust(trust_path(filled.settings))

    def proven() -> bytes | None:
        try:
            return prove(filled.settings, topics.EVENTS, target.partition, target.offset).to_json().encode()
        except NotProvenYetError:
            return None

    target = filled.read(topics.EVENTS)[-1]
    with sealing(filled.settings):
        data = wait_for(proven, "the evidence")
    verdict = verify(parse_evidence(data), trust)
    assert verdict.holds, verdict
    evidence = parse_evidence(data)
    assert leaf_hash(evidence.leaf) == leaf_hash(leaf_of(target))


def test_deleted_working_copies_change_nothing(filled: Deployment) -> None:
    with sealing(filled.settings):
        wait_for(lambda: is_sealed(filled, topics.EVENTS), "sealed")
    before = roots(filled)
    shutil.rmtree(filled.settings.data_dir / "state")
    with sealing(filled.settings):
        device = filled.enroll()
        with filled.ingesting():
            filled.verdicts([filled.send(device, device.telemetry())])
        wait_for(lambda: is_sealed(filled, topics.EVENTS), "sealed after the loss")
    after = roots(filled)
    assert sum(size for size, _ in after.values()) > sum(size for size, _ in before.values())


def test_deleted_tiles_are_recomputed_from_the_topic_with_the_same_root(filled: Deployment) -> None:
    with sealing(filled.settings):
        wait_for(lambda: is_sealed(filled, topics.EVENTS), "sealed")
    before = roots(filled)
    shutil.rmtree(filled.settings.data_dir / "log" / topics.EVENTS)
    with sealing(filled.settings):
        wait_for(lambda: is_sealed(filled, topics.EVENTS), "sealed anew")
        wait_for(lambda: roots(filled) == before, "the same roots")


def test_a_tampered_right_edge_stops_that_shard_alone(filled: Deployment) -> None:
    with sealing(filled.settings):
        wait_for(lambda: is_sealed(filled, topics.EVENTS), "sealed")
    shard = store_of(filled.settings, (topics.EVENTS, 0))
    tile = max((shard.root / "tile" / "0").rglob("*.p/*"), key=lambda p: p.stat().st_mtime)
    good = tile.read_bytes()
    tile.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    try:
        with sealing(filled.settings) as health:
            stopped = "1 shards STOPPED: "
            wait_for(lambda: stopped in json.loads(health.path.read_text())["detail"], "the shard stops")
    finally:
        tile.write_bytes(good)
