"""What no receiver took, kept beside the party's topic: the record as it was, and why."""

from confluent_kafka import KafkaError, KafkaException, Producer

from pipeline.kafka import CALL_TIMEOUT_S
from processors.model import RawRecord
from schemas.records import Headers

MAX_DETAIL = 500


def shown(why: str) -> bytes:
    """Write a reason as a header, within bounds."""
    return why[:MAX_DETAIL].encode("utf-8", "replace")


def write_down(producer: Producer, topic: str, record: RawRecord, told: Headers) -> None:
    """Write a record with further headers; returns when all replicas have it, else raises KafkaException."""
    failures: list[object] = []

    def placed(error: object, _message: object) -> None:
        failures.append(error)

    headers = [*record.headers, *told]
    producer.produce(topic, record.value, record.key, 0, placed, headers=headers)  # type: ignore[arg-type]
    producer.flush(CALL_TIMEOUT_S)
    if failures != [None]:
        raise KafkaException(failures[0] if failures else KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001
