"""A topic deleted and made anew under a running worker: two histories never become one."""

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import NewTopic

from pipeline import kafka, seal, topics
from pipeline.shard import store_of
from pipeline.topicwatch import TopicWatch
from tests.kit.deployment import Deployment, in_thread, make_deployment, wait_for

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def deployment(kafka: str, tmp_path: Path) -> Iterator[Deployment]:
    """One of its own for each test, which each spoils; it looks at its topics all the time."""
    made = make_deployment(kafka, tmp_path, topic_check_s=0.2, checkpoint_interval_s=0.1)
    yield made
    made.authority.close()


def make_anew(deployment: Deployment, topic: str, values: list[tuple[bytes | None, bytes | None]]) -> None:
    """Delete a topic of one partition, make it again, and fill it."""
    admin = kafka.admin(deployment.settings)
    admin.delete_topics([topic], operation_timeout=20)[topic].result(30)
    spec = next(spec for spec in topics.TOPICS if spec.name == topic)

    def made() -> bool:
        try:
            new = NewTopic(topic, num_partitions=1, config=dict(spec.config))
            admin.create_topics([new], operation_timeout=20)[topic].result(30)
        except KafkaException:
            return False  # the old one is still on its way out
        return True

    wait_for(made, f"{topic} is made anew")
    producer = kafka.producer(deployment.settings)
    for key, value in values:
        producer.produce(topic, key=key, value=value, partition=0)
    assert producer.flush(30) == 0


def test_a_running_sealer_stops_that_shard_and_signs_nothing_of_the_new_topic(deployment: Deployment) -> None:
    shard = store_of(deployment.settings, (topics.ALERTS, 0))
    for number in range(5):
        deployment.publish(topics.ALERTS, b"key", b"old %d" % number, 0)
    with in_thread(seal.work, deployment.settings, "seal") as health:
        wait_for(lambda: b"\n5\n" in (shard.read_checkpoint() or b""), "five records are sealed")
        sealed = shard.read_checkpoint()
        make_anew(deployment, topics.ALERTS, [(b"key", b"new %d" % number) for number in range(3)])
        wait_for(lambda: "the topic was recreated" in health.path.read_text(), "the shard stops")
        assert "1 shards STOPPED: shard alerts[0]" in health.path.read_text()
        assert '"alarm": "1 shards STOPPED"' in health.path.read_text()
        # Others go on, and this one does not come back when its topic grows beyond where it stood.
        for number in range(20):
            deployment.publish(topics.ALERTS, b"key", b"later %d" % number, 0)
        other = store_of(deployment.settings, (topics.REGISTRY, 0))
        before = other.read_checkpoint()
        deployment.enroll()
        wait_for(lambda: other.read_checkpoint() != before, "another shard grows")
    assert shard.read_checkpoint() == sealed


def test_a_running_ingest_mixes_no_two_registries(deployment: Deployment) -> None:
    device, later = deployment.enroll(), deployment.enroll()
    entries = [(record.key, record.value) for record in deployment.read(topics.REGISTRY)]
    with deployment.ingesting() as health:
        assert deployment.verdicts([deployment.send(device, device.telemetry())]) == ["accepted"]
        make_anew(deployment, topics.REGISTRY, entries[:1])
        wait_for(lambda: "STALE: identity.registry: " in health.path.read_text(), "the view is stale")
        # It grows beyond where the view stood, and is the same one never again: nothing of it counts.
        for key, value in entries * 3:
            deployment.publish(topics.REGISTRY, key, value, 0)
        sources = [deployment.send(each, each.telemetry()) for each in (device, later)]
        for source in sources:
            wait_for(lambda source=source: deployment.verdict_of(source) == "accepted", "by the last view")  # type: ignore[misc]
        events = deployment.read(topics.EVENTS)
        assert {dict(event.headers)["registry.offset"] for event in events} == {b"%d" % len(entries)}
        assert "STALE: identity.registry: " in health.path.read_text()


class Admin:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Future[Any]]] = []

    def describe_topics(self, _topics: object, request_timeout: float) -> dict[str, Future[Any]]:
        assert request_timeout > 0
        self.asked.append({"a": Future(), "b": Future()})
        return self.asked[-1]


def test_a_watch_never_waits_and_tells_once() -> None:
    admin = Admin()
    watch = TopicWatch(admin, every_s=0.0)  # type: ignore[arg-type]
    assert watch.look() == {}
    assert not admin.asked, "nothing to compare with yet"
    watch.begin({"a": "id a", "b": "id b"})
    assert watch.look() == watch.look() == {}
    assert len(admin.asked) == 1, "never two questions at once"
    admin.asked[0]["a"].set_result(SimpleNamespace(topic_id="id a"))
    admin.asked[0]["b"].set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT)))
    assert watch.look() == {}
    admin.asked[1]["a"].set_result(SimpleNamespace(topic_id="id a"))
    admin.asked[1]["b"].set_result(SimpleNamespace(topic_id="another"))
    assert watch.look() == {"b": "the topic was recreated: its id is another, it was id b"}
    assert watch.look() == {}
    watch.begin({"b": "another"})
    assert watch.look() == {}
    admin.asked[-1]["b"].set_result(SimpleNamespace(topic_id="another"))
    assert watch.look() == {}
