"""Kafka's own murmur2 vectors, and librdkafka's partitioner as a second opinion."""

import pytest
from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st

from schemas.partition import KAFKA_PARTITIONER, murmur2, partition_of

# org.apache.kafka.common.utils.UtilsTest.testMurmur2: signed, as Java prints them.
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("key", JAVA)
def test_murmur2_equals_kafkas_own_vectors(key: bytes) -> None:
    assert murmur2(key) == JAVA[key] & 0xFFFFFFFF


@given(st.binary(max_size=80), st.integers(1, 500))
def test_every_key_has_a_place(key: bytes, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions
    assert partition_of(key, partitions) == (JAVA.get(key, murmur2(key)) & 0x7FFFFFFF) % partitions


def test_librdkafka_places_the_same_keys_alike() -> None:
    """librdkafka's in-process mock cluster has 4 partitions per topic."""
    placed: dict[bytes | None, int | None] = {}
    producer = Producer({"test.mock.num.brokers": 1, "partitioner": KAFKA_PARTITIONER, "log_level": 0})
    keys = [b"did:key:z6Mk%d" % i * (1 + i % 5) for i in range(200)]
    for key in keys:
        producer.produce(
            "placed", b"x", key, on_delivery=lambda _, m: placed.update({m.key(): m.partition()})
        )
    assert producer.flush(30) == 0
    assert placed == {key: partition_of(key, 4) for key in keys}
