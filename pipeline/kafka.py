"""Kafka clients with the settings that our guarantees rest on, in one place with their reasons."""

import ctypes
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline import brokerless
from pipeline.brokerless import WatchedAdmin, WatchedConsumer, WatchedProducer
from pipeline.settings import PipelineError, Settings
from processors.model import UNREADABLE_HEADERS, RawRecord
from schemas.records import Headers

R = TypeVar("R")

CALL_TIMEOUT_S = 20.0
"""Bound of a single blocking call to the cluster; longer trouble is for the caller's recovery."""
FIRST_TRY_S = 1.0
"""A question to a broker that has just died is answered by nobody until its time is up, though another broker
could answer. So the first try is short; each is twice as long as the one before, so that a cluster that is
slow and not away does answer, and is not asked the more the slower it is."""
ASK_AGAIN_S = 0.2

_CONSUMER: Mapping[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
    # An offset that is not there means lost or recreated data: never skip silently.
    "auto.offset.reset": "error",
    "fetch.wait.max.ms": 50,
    # The default of 1,000 ms idles a partition whose queue was full for a moment (measured: 27k/s to 62k/s).
    "fetch.queue.backoff.ms": 5,
    "queued.min.messages": 20000,
    "queued.max.messages.kbytes": 65536,
    "max.partition.fetch.bytes": 2_000_000,
    "partition.assignment.strategy": "range",
    # Where a leader stands still and keeps its connections nothing else tells of its successor for a minute.
    "topic.metadata.refresh.interval.ms": 5000,
}

STREAM: Mapping[str, Any] = {"fetch.min.bytes": 65536}
"""Of consumers that read on and on. Without it each record that arrives ends a fetch, and the next one, which
names all partitions anew, costs the broker more than the record: a fifth of its CPU time at 200 records a
second (measured). A record that comes alone waits for the rest of `fetch.wait.max.ms`."""

FOLLOW_LEADERS: Mapping[str, Any] = {
    # By default they look for leaders and the controller every five minutes, and where a look came too early
    # they ask brokers that are dead (until a question's time is up) or lead no more (refused for 26 s,
    # measured); a producer was two seconds behind an election, and is one (measured).
    "topic.metadata.refresh.interval.ms": 1000,
    # A broker that stands still keeps its connections, by default for a minute. What is sent here is small.
    "socket.timeout.ms": 5000,
}
"""Of clients that must not lose time when a broker is lost."""

ONE_BY_ONE: Mapping[str, Any] = {"max.in.flight.requests.per.connection": 1}
"""Of producers outside of transactions. A broker that stood still may take up a new producer's second batch,
sent again on another connection, before its first, which it then refuses as seen before: librdkafka tells
that as delivered, without an offset, and it is lost (met by pausing brokers). Within transactions the broker
holds the first number of each partition against it (KIP-890)."""
IN_FLIGHT: Mapping[str, Any] = {"max.in.flight.requests.per.connection": 5}
"""Of transactional producers: as many as idempotence allows."""

_PRODUCER: Mapping[str, Any] = {
    "enable.idempotence": True,
    **ONE_BY_ONE,
    "linger.ms": 5,
    "batch.size": 1_000_000,
    "queue.buffering.max.messages": 200_000,
    "statistics.interval.ms": 0,
}

_PASSING = frozenset(
    {
        KafkaError._TIMED_OUT,  # noqa: SLF001 - the public names of the codes
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._NOENT,  # noqa: SLF001 - no leader is known; a topic that is not there says so too
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
    }
)
"""Answers while leaders move: another try gets another one."""


_raise_pending = ctypes.pythonapi.PyErr_Occurred
_raise_pending.restype = ctypes.c_void_p


class KafkaReadError(PipelineError):
    """A consumer reported an error that retrying does not mend."""


_LIBRDKAFKA_LOG = logging.getLogger("librdkafka")
# It repeats "connection refused" many times a second. What matters reaches us as errors of our calls.
_LIBRDKAFKA_LOG.setLevel(logging.CRITICAL)


def _base(settings: Settings) -> dict[str, Any]:
    return {
        "bootstrap.servers": settings.bootstrap(),
        "logger": _LIBRDKAFKA_LOG,
        "reconnect.backoff.max.ms": 1000,
        **settings.kafka_properties(),
    }


def consumer(settings: Settings, group: str, **overrides: Any) -> WatchedConsumer:
    """Make a consumer that commits nothing by itself and reads only what is committed."""
    session_ms = round(settings.session_timeout_s * 1000)
    membership = {"session.timeout.ms": session_ms, "heartbeat.interval.ms": session_ms // 10}
    return WatchedConsumer({**_base(settings), **_CONSUMER, **membership, "group.id": group, **overrides})


def producer(settings: Settings, **overrides: Any) -> WatchedProducer:
    """Make an idempotent producer that waits for all replicas; a session ends when one no longer delivers."""
    return WatchedProducer({**_base(settings), **_PRODUCER, **overrides})


def watched_producer(settings: Settings) -> WatchedProducer:
    """Make the same for a loop that outlives its failures: `check` tells when another one is needed."""
    return producer(settings, **{"statistics.interval.ms": brokerless.LOOK_EVERY_MS})


def admin(settings: Settings) -> WatchedAdmin:
    """Make an admin client."""
    return WatchedAdmin({**FOLLOW_LEADERS, **_base(settings)})


def is_fatal(error: KafkaException) -> bool:
    """Tell whether the client that raised it can go on at all: a fenced one cannot."""
    cause = error.args[0] if error.args else None
    return isinstance(cause, KafkaError) and is_fatal_error(cause)


def is_fatal_error(error: KafkaError) -> bool:
    """Tell the same of an error; among messages it comes under a code of its own, without the flag."""
    return error.fatal() or error.code() == KafkaError._FATAL  # noqa: SLF001 - the public name of the code


def topic_id(client: AdminClient, topic: str) -> str:
    """Return Kafka's own id of the topic: another one means that the topic was recreated."""
    return topic_ids(client, [topic])[topic]


def topic_ids(client: AdminClient, topics: Sequence[str]) -> dict[str, str]:
    """Return the ids of several topics."""
    from confluent_kafka import TopicCollection

    def ask(within_s: float) -> dict[str, str]:
        described = client.describe_topics(TopicCollection(list(topics)), request_timeout=within_s)
        return {name: str(answer.result(within_s + 1).topic_id) for name, answer in described.items()}

    return asked(ask) if topics else {}


def end_offsets(client: AdminClient, partitions: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """Return log ends: next offsets, counting uncommitted records."""
    return _offsets(client, partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]


def start_offsets(client: AdminClient, partitions: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """Return log starts: the lowest offsets that are still kept."""
    return _offsets(client, partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]


def _offsets(
    client: AdminClient, partitions: list[tuple[str, int]], spec: OffsetSpec
) -> dict[tuple[str, int], int]:
    wanted = {TopicPartition(topic, number): spec for topic, number in partitions}

    def ask(within_s: float) -> dict[tuple[str, int], int]:
        found = client.list_offsets(wanted, request_timeout=within_s)
        return {(tp.topic, tp.partition): f.result(timeout=within_s + 1).offset for tp, f in found.items()}

    return asked(ask)


def ask_ends(
    client: AdminClient, partitions: Iterable[tuple[str, int]], within_s: float, *, committed: bool = False
) -> dict[tuple[str, int], Future[Any]]:
    """Ask for log ends and return at once; each answer's `offset` comes later, or its KafkaException.

    With `committed` what an open transaction holds back does not count.
    """
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    wanted = {TopicPartition(*partition): latest for partition in partitions}
    found = client.list_offsets(wanted, isolation_level=level, request_timeout=within_s)
    return {(place.topic, place.partition): answer for place, answer in found.items()}


def asked(ask: Callable[[float], R]) -> R:
    """Return what `ask(within_s)` returns, tried again within CALL_TIMEOUT_S while leaders move.

    Raises what it raised last.
    """
    until, try_s = time.monotonic() + CALL_TIMEOUT_S, FIRST_TRY_S
    while True:
        try:
            return ask(min(try_s, max(FIRST_TRY_S, until - time.monotonic())))
        except (KafkaException, TimeoutError) as error:
            if not _passes(error) or time.monotonic() + ASK_AGAIN_S > until:
                raise
        time.sleep(ASK_AGAIN_S)
        try_s *= 2


def _passes(error: Exception) -> bool:
    cause = error.args[0] if error.args else None
    return isinstance(error, TimeoutError) or (isinstance(cause, KafkaError) and cause.code() in _PASSING)


def to_record(message: Message, *, with_headers: bool = True) -> RawRecord:
    """Turn a consumed message into a record; raises KafkaReadError for an error event.

    Whoever may write a topic may give a header a name that is not UTF-8, at which the client library
    fails: such headers become UNREADABLE_HEADERS. Where headers mean nothing they are not read at all.
    """
    error = message.error()
    if error is not None:
        text = f"{message.topic()}[{message.partition()}] at {message.offset()}: {error.str()}"
        raise KafkaReadError(text)
    key, value = message.key(), message.value()
    return RawRecord(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        message.timestamp()[1],
        key.encode() if isinstance(key, str) else key,
        value.encode() if isinstance(value, str) else value,
        _headers(message) if with_headers else (),
    )


def _headers(message: Message) -> Headers:
    try:
        headers = tuple(message.headers() or ())
        # The library returns with its exception pending, and the interpreter may run on for a while before
        # it notices. Asking raises it here.
        _raise_pending()
    except (SystemError, UnicodeError):
        return UNREADABLE_HEADERS
    return headers  # type: ignore[return-value]
