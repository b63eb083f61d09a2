"""Faults of the topics themselves, under running stages: recreated, cut off, trimmed by retention.

A shard whose topic is not the one that it sealed stops loudly, alone, and is never signed again. Retention of
what was sealed is everyday life and stops nothing. The victim is a topic to which only the machine writes, so
that the books of ingest stay whole.
"""

import os
import shutil
import time
from random import Random

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import NewTopic, OffsetSpec

from pipeline import kafka, setoffset, topics
from pipeline.kafkaread import read_all
from tests.faults.machine.world import World

VICTIM = topics.ALERTS
DEADLINE_S = 15.0
REFUSAL_DEADLINE_S = 30.0
JUDGED_DEADLINE_S = 60.0
REFUSAL = "What was accepted would be accepted again"


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
    _make_anew(world, VICTIM)
    if rng.random() < 0.7:
        _write(world, rng.randint(1, 60))
    if rng.random() < 0.5:  # else those who run notice
        for place in world.base:
            world.kill(*place)


def recreate_changelog(world: World, rng: Random) -> None:
    """A changelog is deleted and made anew: ingest refuses until it is written back and taken."""
    raw = rng.choice(list(topics.RAW_TOPICS))
    changelog = topics.changelog_of(raw)
    places = [(changelog, number) for number in range(world.settings.partitions)]
    _stop_ingest(world)
    if not world.wait_for(lambda: _is_settled(world, places), DEADLINE_S):
        world.tell("stalled", f"a transaction on {changelog} stays open")
        return
    kept = list(read_all(world.settings, changelog))
    found = [setoffset.standing(world.settings, (raw, number)) for _, number in places]
    committed = {each.place: each.committed for each in found if each.committed is not None}
    _make_anew(world, changelog)
    for slot in _ingest_slots(world):
        if rng.random() < 0.5:
            shutil.rmtree(world.data_dir / "state" / "ingest" / str(slot), ignore_errors=True)
        world.release("ingest", slot)
    # Where nothing was committed yet nothing is forgotten.
    if committed and not world.wait_for(lambda: _is_said(world, REFUSAL), REFUSAL_DEADLINE_S):
        world.tell("memory", f"ingest goes on although {changelog} was made anew")
        return
    _stop_ingest(world)
    for record in kept:
        world.producer.produce(changelog, key=record.key, value=record.value, partition=record.partition)
    world.producer.flush(DEADLINE_S)
    for place, at in committed.items():
        setoffset.set_offset(world.settings, place, at, accept_changelog=True)
    for slot in _ingest_slots(world):
        world.release("ingest", slot)


def trim_raw(world: World, rng: Random) -> None:
    """Retention takes raw records that nobody judged: their partition waits for an operator, others go on."""
    raw = rng.choice((topics.ACCESS_RAW, topics.LIFECYCLE_RAW))
    place = (raw, rng.randrange(world.settings.partitions))
    world.end_traffic()

    if not world.wait_for(lambda: all_judged(world), JUDGED_DEADLINE_S):
        world.tell("stalled", "records were not judged before a raw topic was trimmed")
        return
    if setoffset.standing(world.settings, place).committed is None:
        return  # whoever has judged nothing there begins where it begins
    _stop_ingest(world)
    for _ in range(rng.randint(1, 20)):
        world.producer.produce(raw, key=b"lost", value=os.urandom(40), partition=place[1])
    world.producer.flush(DEADLINE_S)
    end = kafka.end_offsets(world.admin, [place])[place]
    _delete_before(world, *place, end)
    for slot in _ingest_slots(world):
        world.release("ingest", slot)
    world.begin_traffic("usual", 150)
    if not world.wait_for(lambda: _is_said(world, f"STOPPED: {raw}[{place[1]}]"), REFUSAL_DEADLINE_S):
        world.tell("loss", f"ingest says nothing of the records that {raw}[{place[1]}] lost")
    time.sleep(rng.uniform(0.2, 1.0))
    _stop_ingest(world)
    found = setoffset.standing(world.settings, place)
    if found.next_offset != end:
        world.tell("loss", f"an operator would go on at {found.next_offset}, and records begin at {end}")
    setoffset.set_offset(world.settings, place, found.next_offset)
    for slot in _ingest_slots(world):
        world.release("ingest", slot)


def all_judged(world: World) -> bool:
    """Tell whether everything that was sent is judged and sealed."""
    world.read_on()
    return not world.traffic.underway and not world.oracle.pending(world.sent)


def _ingest_slots(world: World) -> list[int]:
    return [slot for stage, slot in world.base if stage == "ingest"]


def _stop_ingest(world: World) -> None:
    """Stop every worker of ingest, also one that another fault has started."""
    for slot in (0, 1):
        world.hold("ingest", slot)
        world.kill("ingest", slot)


def stable_offsets(world: World, places: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """Where readers of committed records stop: before the first transaction that is open."""
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    wanted = {TopicPartition(*place): latest for place in places}

    def ask(within_s: float) -> dict[tuple[str, int], int]:
        stable = world.admin.list_offsets(
            wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=within_s
        )
        return {(tp.topic, tp.partition): found.result(within_s + 1).offset for tp, found in stable.items()}

    return kafka.asked(ask)


def _is_settled(world: World, places: list[tuple[str, int]]) -> bool:
    """Tell whether no transaction is open on partitions."""
    stable = stable_offsets(world, places)  # first: what settles meanwhile counts as open
    return stable == kafka.end_offsets(world.admin, places)


def _is_said(world: World, text: str) -> bool:
    files = (world.data_dir / "run").glob("ingest*.health.json")
    return any(text in file.read_text(errors="replace") for file in files)


def _make_anew(world: World, topic: str) -> None:
    spec = next(spec for spec in topics.TOPICS if spec.name == topic)
    world.admin.delete_topics([topic], operation_timeout=20)[topic].result(30)
    number = spec.partitions(world.settings)

    def made() -> bool:
        try:
            new = NewTopic(topic, num_partitions=number, config=dict(spec.config))
            world.admin.create_topics([new], operation_timeout=20)[topic].result(30)
        except KafkaException:
            return False  # the old one is still on its way out
        return True

    world.wait_for(made, DEADLINE_S)


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
