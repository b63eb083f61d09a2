"""Reads single records by place, as committed."""

import itertools
import os
import time

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from pipeline import kafka
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.settings import Settings
from pipeline.statestore import Partition
from processors.model import RawRecord

_numbers = itertools.count()


def read_record(
    settings: Settings, partition: Partition, offset: int, timeout_s: float = CALL_TIMEOUT_S
) -> RawRecord | None:
    """Return the record at an offset; None where none is committed there (a marker, aborted, or gone)."""
    group = f"{settings.log_name}.lookup.{os.getpid()}.{next(_numbers)}"
    reader = kafka.consumer(settings, group, **{"enable.partition.eof": True})
    deadline = time.monotonic() + timeout_s
    try:
        reader.assign([TopicPartition(*partition, offset)])
        while time.monotonic() < deadline:
            for message in reader.consume(1, 0.2):
                error = message.error()
                if error is None:
                    record = kafka.to_record(message)
                    return record if record.offset == offset else None
                if error.code() in (KafkaError._PARTITION_EOF, KafkaError.OFFSET_OUT_OF_RANGE):  # noqa: SLF001
                    return None
                if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - out of range, as librdkafka says it
                    return None
                raise KafkaException(error)
    finally:
        reader.close()
    raise kafka.KafkaReadError(f"{partition[0]}[{partition[1]}] at {offset}: no answer in {timeout_s:.0f} s")
