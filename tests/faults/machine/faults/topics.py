"""Faults of the topics themselves, under a running sealer: recreated, cut off, trimmed by retention.

A shard whose topic is not the one that it sealed stops loudly, alone, and is never signed again. Retention of
what was sealed is everyday life and stops nothing. The victim is a topic to which only the machine writes, so
that the books of ingest stay whole.
"""

import os
import time
from random import Random

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import NewTopic

from pipeline import kafka, topics
from tests.faults.machine.world import World

VICTIM = topics.ALERTS
DEADLINE_S = 15.0


def trim_sealed(world: World, rng: Random) -> None:
    """Retention takes away records that were sealed; a sealer that starts afterwards goes on."""
    world.read_on()
    for topic in (topics.EVENTS, topics.REJECTED):
        for number in range(world.settings.partitions):
            size = world.published_size(topic, number)
            if size > 1:
                # Offsets count the markers of transactions too: at least so many records lie above.
                _delete_before(world, topic, number, rng.randint(1, size - 1))
    if rng.random() < 0.7:
        world.kill("seal")
    time.sleep(0.2)


def trim_unsealed(world: World, rng: Random) -> None:
    """Retention takes away records that were never sealed: that shard stops."""
    _seal_some(world, rng)
    world.expect_stop(VICTIM)
    slots = [slot for stage, slot in world.base if stage == "seal"]
    for slot in slots:
        world.hold("seal", slot)
        world.kill("seal", slot)
    _write(world, rng.randint(2, 30))
    _delete_before(world, VICTIM, 0, kafka.end_offsets(world.admin, [(VICTIM, 0)])[VICTIM, 0])
    for slot in slots:
        world.release("seal", slot)


def recreate_topic(world: World, rng: Random) -> None:
    """A sealed topic is deleted and made anew, with other records or none: its shard stops."""
    _seal_some(world, rng)
    world.expect_stop(VICTIM)
    spec = next(spec for spec in topics.TOPICS if spec.name == VICTIM)
    world.admin.delete_topics([VICTIM], operation_timeout=20)[VICTIM].result(30)

    def made() -> bool:
        try:
            new = NewTopic(VICTIM, num_partitions=1, config=dict(spec.config))
            world.admin.create_topics([new], operation_timeout=20)[VICTIM].result(30)
        except KafkaException:
            return False  # the old one is still on its way out
        return True

    world.wait_for(made, DEADLINE_S)
    if rng.random() < 0.7:
        _write(world, rng.randint(1, 60))
    for place in world.base:
        world.kill(*place)


def _seal_some(world: World, rng: Random) -> None:
    before = world.published_size(VICTIM, 0)
    count = rng.randint(1, 30)
    _write(world, count)
    if not world.wait_for(lambda: world.published_size(VICTIM, 0) == before + count, DEADLINE_S):
        world.tell("stalled", f"{count} records of {VICTIM} were not sealed within {DEADLINE_S:.0f} s")


def _write(world: World, count: int) -> None:
    for _ in range(count):
        world.producer.produce(VICTIM, key=b"machine", value=os.urandom(40), partition=0)
    world.producer.flush(DEADLINE_S)


def _delete_before(world: World, topic: str, number: int, offset: int) -> None:
    place = TopicPartition(topic, number, offset)
    for future in world.admin.delete_records([place], request_timeout=20).values():
        future.result(30)
