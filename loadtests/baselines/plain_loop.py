"""The upper bound: consume, verify, produce, with confluent-kafka and no guarantee whatever.

Nothing is remembered, nothing is committed, no transaction, no detector, no registry: what is left is the
price of decoding, of one signature a record and of the client library. Whoever kills it loses or doubles
records.
"""

import gc
from collections.abc import Sequence

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, Producer, TopicPartition

from loadtests.baselines.work import Job, Openings, Telling, job_from_input, topics_of
from schemas.ed25519 import verify_batch

BATCH = 2000


def main() -> None:
    """Do one job."""
    job = job_from_input()
    openings = Openings(job)
    consumer = Consumer(
        {
            **job.properties,
            "group.id": "attestream-loadtest-plain",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.queue.backoff.ms": 5,
            "queued.min.messages": 20_000,
            "log_level": 0,
        }
    )
    producer = Producer(
        {**job.properties, "linger.ms": 5, "batch.size": 1_000_000, "acks": 1, "log_level": 0}
    )
    gc.freeze()
    gc.disable()
    telling = Telling()
    consumer.assign(
        [TopicPartition(t, p, OFFSET_BEGINNING) for t in topics_of(job) for p in range(job.partitions)]
    )
    while telling.done < job.count:
        messages = consumer.consume(BATCH, 0.1)
        telling.accepted += _forward(job, openings, producer, messages)
        telling.done += len(messages)
        producer.poll(0)
        telling.tell()
    producer.flush(60)
    telling.tell(over=True)
    consumer.close()


def _forward(job: Job, openings: Openings, producer: Producer, messages: Sequence[Message]) -> int:
    """Verify a batch and produce what is good of it; return how many."""
    opened = []
    for message in messages:
        if message.error() is not None:
            raise KafkaException(message.error())
        value = message.value()
        found = openings.open(message.topic() or "", value if isinstance(value, bytes) else b"")
        if found is not None:
            opened.append((message, value, found))
    verdicts = verify_batch(
        [each.key for _, _, each in opened],
        [each.message for _, _, each in opened],
        [each.signature for _, _, each in opened],
    )
    for (message, value, _), good in zip(opened, verdicts, strict=True):
        if good:
            while True:
                try:
                    producer.produce(job.out, value, message.key(), message.partition() or 0)
                except BufferError:
                    producer.poll(0.01)
                    continue
                break
    return sum(verdicts)


if __name__ == "__main__":
    main()
