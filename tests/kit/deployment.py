"""A whole deployment on the session's Kafka: fresh topics, keys, trust file, and hands to drive it."""

import base64
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline import ingest, kafka, topics
from pipeline.authority import Authority, NewKey
from pipeline.identity import create_identity
from pipeline.settings import Settings
from pipeline.stage import Health, Stop
from pipeline.trust import init_local
from processors.model import RawRecord
from schemas.envelope import PayloadKind
from schemas.partition import partition_of
from schemas.signing import SigningIdentity

T = TypeVar("T")
DEADLINE_S = 60.0
FENCED = "Static consumer fenced"
_numbers = itertools.count(1)


def wait_for(probe: Callable[[], T | None], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Poll until `probe` returns something true; fail naming what did not happen."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        found = probe()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {deadline_s:.0f} s: {what}")


@contextmanager
def in_thread(
    work: Callable[[Settings, int, Health, Stop], None], settings: Settings, stage: str, slot: int = 0
) -> Iterator[Health]:
    """Run a stage's `work` in a thread; what it raises fails the test.

    Once it is begun again where it was fenced, as the supervisor would: a client whose broker was away may be
    fenced by its own second try to join (librdkafka issue 3437), and has nobody else to blame here.
    """
    health, stop = Health(settings, stage, slot), Stop()
    failures: list[BaseException] = []

    def body() -> None:
        try:
            try:
                work(settings, slot, health, stop)
            except KafkaException as error:
                if not (kafka.is_fatal(error) and FENCED in str(error)):
                    raise
                work(settings, slot, health, stop)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    try:
        yield health
    finally:
        stop.request()
        thread.join(30)
        assert not thread.is_alive()
        assert not failures, failures


class Device:
    """A device that signs: counters per kind, and every field open to mischief."""

    def __init__(self, identity: SigningIdentity, audience: str) -> None:
        self.identity, self.audience, self.boot = identity, audience, 1
        self.sequences = dict.fromkeys(PayloadKind, 0)

    @property
    def did(self) -> str:
        return self.identity.did

    def telemetry(self, **changes: object) -> bytes:
        body = {"codes": [147842, 150456], "values": [72.5, 98.0]}
        return self.event(PayloadKind.TELEMETRY, **{**body, **changes})

    def access(self, **changes: object) -> bytes:
        body = {
            "subject": "nurse-1",
            "action": "login",
            "resource": "monitor",
            "purpose": "TREAT",
            "session": "",
            "outcome": "GRANTED",
        }
        return self.event(PayloadKind.ACCESS, **{**body, **changes})

    def event(self, kind: PayloadKind, /, **fields: object) -> bytes:
        sequence = fields.pop("sequence", None)
        if sequence is None:
            self.sequences[kind] += 1
            sequence = self.sequences[kind]
        record = {
            "device_id": self.did,
            "boot": self.boot,
            "sequence": sequence,
            "time": time.time_ns() // 1000,
            **fields,
        }
        return self.identity.seal_event(kind, self.audience, record)


@dataclass
class Deployment:
    """One log on the shared broker."""

    settings: Settings
    authority: Authority

    def __post_init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Send as a producer that knows of no earlier batch."""
        self.producer = kafka.producer(self.settings, **{"message.max.bytes": 2_000_000})

    def enroll(self, **attributes: str) -> Device:
        identity = create_identity("k1")
        self.authority.refresh()
        self.authority.enroll(identity.did, NewKey("k1", identity.public_key), attributes)
        return Device(identity, self.settings.log_name)

    def publish(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> str:
        """Publish one record and return its source name `topic/partition/offset`."""
        if partition is None:
            partition = partition_of(key or b"", self.settings.partitions)
        placed: list[str] = []

        def delivered(error: KafkaError | None, message: object) -> None:
            assert error is None, error
            placed.append(f"{topic}/{partition}/{message.offset()}")  # type: ignore[attr-defined]

        self.producer.produce(
            topic, key=key, value=value, partition=partition, headers=list(headers), on_delivery=delivered
        )
        self.producer.flush(30)
        return placed[0]

    def send(self, device: Device, value: bytes, topic: str = topics.TELEMETRY_RAW) -> str:
        return self.publish(topic, device.did.encode(), value)

    @contextmanager
    def ingesting(self, slot: int = 0) -> Iterator[Health]:
        """Run an ingest worker in a thread; it leaves at the end of the block."""
        with in_thread(ingest.work, self.settings, "ingest", slot) as health:
            yield health

    def read(self, topic: str) -> list[RawRecord]:
        """Read a whole topic as committed, by an own consumer that shares nothing with the stages."""
        return read_topic(self.settings, topic)

    def verdict_of(self, source: str) -> str | None:
        """`accepted`, a rejection's reason, or None while it is not judged; fails when judged twice."""
        found = [
            "accepted" if topic == topics.EVENTS else dict(r.headers)["reason"].decode()  # type: ignore[union-attr]
            for topic in (topics.EVENTS, topics.REJECTED)
            for r in self.read(topic)
            if dict(r.headers).get("source") == source.encode()
        ]
        assert len(found) <= 1, f"{source} was judged {len(found)} times: {found}"
        return found[0] if found else None

    def verdicts(self, sources: Sequence[str]) -> list[str]:
        """Wait until each source is judged and return the verdicts in order."""

        def judged() -> list[str] | None:
            verdicts = {}
            for topic in (topics.EVENTS, topics.REJECTED):
                for record in self.read(topic):
                    headers = dict(record.headers)
                    name = (headers["source"] or b"").decode()
                    assert name not in verdicts, f"{name} was judged twice"
                    verdicts[name] = (
                        "accepted" if topic == topics.EVENTS else (headers["reason"] or b"").decode()
                    )
            return [verdicts[s] for s in sources] if all(s in verdicts for s in sources) else None

        return wait_for(judged, f"verdicts for {len(sources)} records")


def read_topic(settings: Settings, topic: str) -> list[RawRecord]:
    reader = kafka.consumer(settings, f"test-reader-{next(_numbers)}", **{"enable.partition.eof": True})
    try:
        metadata = reader.list_topics(topic, timeout=20).topics[topic]
        waiting = set(metadata.partitions)
        reader.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in waiting])
        found = []
        until = time.monotonic() + 30
        while waiting:
            assert time.monotonic() < until, f"{topic} could not be read to its end"
            for message in reader.consume(5000, 0.1):
                error = message.error()
                if error is None:
                    found.append(kafka.to_record(message))
                elif error.code() == KafkaError._PARTITION_EOF:
                    waiting.discard(message.partition())
                else:
                    raise KafkaException(error)
        return found
    finally:
        reader.close()


def recreate_topics(client: AdminClient, settings: Settings) -> None:
    """Delete our topics and those of parties, if there, and make them anew."""
    present = set(client.list_topics(timeout=20).topics)
    mine = {spec.name for spec in topics.TOPICS}
    mine |= {name for name in present if name.startswith(f"{topics.ALERTS}.")}
    existing = mine & present
    if existing:
        for future in client.delete_topics(list(existing), operation_timeout=20).values():
            future.result(30)
        wait_for(lambda: not mine & set(client.list_topics(timeout=20).topics), "topics are deleted")

    def created() -> bool:
        try:
            topics.apply(client, settings)
        except KafkaException:
            return False
        return True

    wait_for(created, "topics are created")


def make_deployment(bootstrap: str, data_dir: Path, **overrides: object) -> Deployment:
    """A fresh log with topics of its own on the given broker."""
    name = f"test-{next(_numbers)}-{base64.b32encode(data_dir.name.encode()).decode()[:8].lower()}.example"
    values = {"partitions": 2, "silence_after_s": 3600.0, **overrides}
    settings = Settings(data_dir=data_dir, log_name=name, bootstrap_servers=bootstrap, **values)  # type: ignore[arg-type]
    recreate_topics(kafka.admin(settings), settings)
    init_local(settings)
    return Deployment(settings, Authority(settings))


@pytest.fixture(scope="module")
def deployment(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment with fresh topics, shared by the tests of one module."""
    made = make_deployment(kafka, tmp_path_factory.mktemp("deployment"))
    yield made
    made.authority.close()
