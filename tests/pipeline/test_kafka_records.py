"""Records as consumed: hostile headers are named as unreadable, and nothing fails later because of them."""

import os
import subprocess
import sys

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewTopic

from pipeline import kafka as clients
from pipeline.kafkaread import read_all
from pipeline.settings import Settings
from processors.model import UNREADABLE_HEADERS
from schemas.records import Headers
from tests.kit.deployment import wait_for

pytestmark = pytest.mark.timeout(90)


def test_headers_that_are_not_utf8_are_unreadable_and_the_next_record_is_whole(kafka: str) -> None:
    settings = Settings(bootstrap_servers=kafka)
    admin = clients.admin(settings)
    admin.create_topics([NewTopic("hostile-headers", 1, 1)])["hostile-headers"].result(30)
    command = [sys.executable, "-m", "tests.kit.evilheader", kafka, "hostile-headers", "0", "k"]
    subprocess.run(command, env={**os.environ, "AIOKAFKA_NO_EXTENSIONS": "1"}, check=True)
    producer = clients.producer(settings)
    # First enough good ones for the interpreter to specialise the calls, which then check less.
    for _ in range(1000):
        producer.produce("hostile-headers", value=b"y", partition=0, headers=[("a", b"1"), ("b", None)])
    assert producer.flush(30) == 0
    subprocess.run(command, env={**os.environ, "AIOKAFKA_NO_EXTENSIONS": "1"}, check=True)
    producer.produce("hostile-headers", value=b"y", partition=0, headers=[("c", b"2")])
    assert producer.flush(30) == 0
    reader = clients.consumer(settings, "hostile-headers-reader")
    reader.assign([TopicPartition("hostile-headers", 0, 0)])
    headers: list[Headers] = []

    def all_read() -> bool:
        headers.extend(clients.to_record(message).headers for message in reader.consume(2000, 0.2))
        return len(headers) >= 1003

    try:
        wait_for(all_read, "all records")
    finally:
        reader.close()
    good: Headers = (("a", b"1"), ("b", None))
    assert headers == [UNREADABLE_HEADERS, *[good] * 1000, UNREADABLE_HEADERS, (("c", b"2"),)]


def test_a_topic_is_read_from_a_moment_on(kafka: str) -> None:
    settings, name = Settings(bootstrap_servers=kafka), "read-since"
    admin = clients.admin(settings)
    kept = {"message.timestamp.type": "CreateTime", "retention.ms": "-1"}
    admin.create_topics([NewTopic(name, 2, 1, config=kept)])[name].result(30)
    producer = clients.producer(settings)
    for number in range(6):  # both partitions have 3; the last two of partition 1 are of another day
        at_ms = 1_700_000_000_000 + number + (86_400_000 if number in {3, 5} else 0)
        producer.produce(name, value=b"%d" % number, partition=number % 2, timestamp=at_ms)
    assert producer.flush(30) == 0

    def read(since_ms: int, newest: int | None = None) -> set[bytes | None]:
        return {each.value for each in read_all(settings, name, newest=newest, since_ms=since_ms)}

    assert read(0) == {b"0", b"1", b"2", b"3", b"4", b"5"}
    assert read(1_700_000_000_002) == {b"2", b"3", b"4", b"5"}
    assert read(1_700_000_000_100) == {b"3", b"5"}, "nothing of a partition that is older"
    assert read(1_700_000_000_002, newest=1) == {b"4", b"5"}
    assert read(1_800_000_000_000) == set()
