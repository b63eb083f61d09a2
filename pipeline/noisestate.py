"""Brings back what profile remembers of `device.prints`: from the store, and from the topic itself.

Prints are looked up for minutes only, so they are read again instead of being kept a second time.
"""

from collections.abc import Callable

from pipeline.kafkaread import read_from
from pipeline.settings import Settings
from pipeline.statestore import Partition, StateStore
from processors.samenoise import NoiseMemory, SameNoise

PROGRESS_EVERY = 200
"""Records between two signs of life."""


def restore_noise(
    settings: Settings,
    partition: Partition,
    store: StateStore,
    rule: SameNoise,
    on_progress: Callable[[str], None],
) -> NoiseMemory:
    """Return the memory as of the last commit; raises KafkaReadError where the topic does not answer.

    What retention has taken of the records in question is older than any print that is still looked up.
    """
    memory = NoiseMemory(store.items(partition))
    if memory.from_offset >= memory.next_offset:
        return memory
    for number, record in enumerate(read_from(settings, partition, memory.from_offset)):
        if record.offset >= memory.next_offset:
            break
        if number % PROGRESS_EVERY == 0:
            on_progress(f"reading prints of noise again: {record.offset} of {memory.next_offset}")
        rule.recall(record, memory)
    return memory
