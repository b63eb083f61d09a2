"""A cluster that names no broker for a moment: a client that asked then is told, and a new one mends it."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException, TopicPartition

from pipeline import brokerless, kafka, metrics
from pipeline.anchorrecords import Outgoing
from pipeline.anchorstore import AnchorStore
from pipeline.announce import Announcer
from pipeline.brokerless import BrokerlessClientError, WatchedAdmin, WatchedConsumer, WatchedProducer
from pipeline.gateway import Gateway
from pipeline.settings import Settings
from pipeline.topics import ANCHORS, TELEMETRY_RAW
from tests.kit.deployment import Deployment, make_deployment, wait_for
from tests.kit.relay import Relay, relayed_kafka

pytestmark = pytest.mark.timeout(300)
PLACE = (TELEMETRY_RAW, 0)
CONSUMERS = 8
NAMELESS_S = 6.0
"""Long enough for one consumer in five, whichever, to lose all brokers; the others find them again."""


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    with relayed_kafka(tmp_path_factory.mktemp("relayed")) as made:
        yield made


@contextmanager
def nameless(relay: Relay) -> Iterator[None]:
    relay.names_none = True
    try:
        yield
    finally:
        relay.names_none = False


def outcome(consumer: WatchedConsumer, within_s: float) -> str:
    """Consume until a record comes or it says that none can; empty where it says nothing for so long."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            for message in consumer.consume(1, 0.1):
                if message.error() is None:
                    return "record"
        except BrokerlessClientError:
            return "told"
    return ""


def following(settings: Settings, number: int) -> WatchedConsumer:
    """A consumer that has learned who leads the topic."""
    made, place = kafka.consumer(settings, f"lost-{number}", **kafka.FOLLOW_LEADERS), TopicPartition(*PLACE)

    def knows() -> bool:
        with suppress(KafkaException):
            return made.get_watermark_offsets(place, timeout=5) is not None
        return False

    wait_for(knows, "a consumer knows the topic's leader")
    made.assign([TopicPartition(*PLACE, 0)])
    return made


def test_no_consumer_waits_in_silence_after_a_nameless_moment(
    relay: Relay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brokerless, "LOOK_EVERY_MS", 500)
    deployment = make_deployment(f"127.0.0.1:{relay.port}", tmp_path, session_timeout_s=6.0)
    consumers = [following(deployment.settings, number) for number in range(CONSUMERS)]
    before = relay.named_none
    with nameless(relay):
        time.sleep(NAMELESS_S)
    assert relay.named_none >= before + CONSUMERS
    deployment.begin_anew()
    deployment.publish(TELEMETRY_RAW, b"key", b"record", 0)
    assert all(outcome(each, 60) for each in consumers)
    again = following(deployment.settings, CONSUMERS)
    assert outcome(again, 60) == "record"
    for each in [*consumers, again]:
        each.close()  # at once, although one that is lost can leave nothing
    deployment.authority.close()


def lose_brokers(client: Any) -> None:
    """Tell a client what its statistics tell when it has lost all brokers."""
    for _ in range(brokerless.LOOKS):
        client._watch.look('{"brokers": {"GroupCoordinator": {"source":"logical"}}}')


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Clients as they are made, whose own statistics say nothing."""
    clients: list[Any] = []
    monkeypatch.setattr(brokerless, "LOOK_EVERY_MS", 600_000)

    def watch(name: str) -> None:
        real: Callable[..., Any] = getattr(kafka, name)

        def make(*arguments: Any, **options: Any) -> Any:
            clients.append(real(*arguments, **options))
            return clients[-1]

        monkeypatch.setattr(kafka, name, make)

    for name in ("consumer", "admin", "watched_producer"):
        watch(name)
    return clients


@pytest.mark.parametrize("kind", [WatchedConsumer, WatchedAdmin])
def test_ingest_goes_on_with_new_clients(deployment: Deployment, made: list[Any], kind: type) -> None:
    device = deployment.enroll()
    with deployment.ingesting():
        sources = [deployment.send(device, device.telemetry())]
        assert deployment.verdicts(sources) == ["accepted"]
        begun = metrics.RECOVERIES.labels("ingest")._value.get()
        for each in made:
            if isinstance(each, kind):
                lose_brokers(each)
        wait_for(lambda: metrics.RECOVERIES.labels("ingest")._value.get() > begun, "a new session")
        sources.append(deployment.send(device, device.telemetry()))
        assert deployment.verdicts(sources) == ["accepted", "accepted"]


def test_what_an_announcer_handed_over_goes_again(
    deployment: Deployment, made: list[Any], tmp_path: Path
) -> None:
    store = AnchorStore(tmp_path / "anchor.sqlite")
    store.announce([Outgoing(1, b"one"), Outgoing(2, b"two")], 2)
    announcer = Announcer(deployment.settings, store)
    lose_brokers(made[-1])
    announcer.send()  # hands over, and does without whatever would come of it
    assert "all brokers" in (announcer.trouble or "")

    def is_out() -> bool:
        announcer.send()
        return not store.outbox()

    wait_for(is_out, "Kafka has both")
    assert announcer.trouble is None
    assert {record.value for record in deployment.read(ANCHORS)} == {b"one", b"two"}
    announcer.close()
    store.close()


def test_a_gateway_goes_on_with_a_new_producer(deployment: Deployment, made: list[Any]) -> None:
    async def body() -> None:
        async with Gateway(deployment.settings) as gateway:
            old = gateway._producer
            lose_brokers(old)
            until = time.monotonic() + 30
            while gateway._producer is old:
                assert time.monotonic() < until
                await asyncio.sleep(0.05)

    asyncio.run(body())
    assert sum(isinstance(each, WatchedProducer) for each in made) == 2
