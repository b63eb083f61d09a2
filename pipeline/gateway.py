"""For gateways: ask for access and await the decision; whatever goes wrong on the way is a denial.

    async with Gateway(settings) as gateway:
        answer = await gateway.ask(envelope)         # a signed access event, with approvals if any
        if answer.permitted:
            ended = await gateway.ended(answer)      # revoked, expired, or out of sight

The envelope is the device's, so a gateway holds no key. A decision answers the request whose payload has its
digest: a session may have asked for several things at once.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import structlog
from blake3 import blake3
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pipeline import kafka
from pipeline.brokerless import BrokerlessClientError
from pipeline.settings import PipelineError, Settings
from pipeline.topics import ACCESS_RAW, DECISIONS
from processors.model import RawRecord
from schemas.decisions import Decision, DecisionKind, Effect, decode_decision
from schemas.envelope import PayloadKind, decode_envelope
from schemas.errors import CodecError
from schemas.events import decode_event
from schemas.partition import partition_of

log = structlog.get_logger()

TIMEOUT_S = 5.0
MAX_WAITING = 10_000
"""Requests and live permits at a time; what is asked beyond is denied at once."""
POLL_S = 0.05
AGAIN_S = 0.5
JOIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a device may go on. Without a decision it may not, and `why` says what was missing."""

    permitted: bool
    why: str
    decision: Decision | None = None


class Board:
    """Requests that wait for a decision, and permits that wait for their end. One event loop's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asked: dict[bytes, tuple[asyncio.Future[Decision | None], float]] = {}
        self._live: dict[tuple[str, int, int], asyncio.Future[Decision | None]] = {}

    def ask(self, digest: bytes) -> "asyncio.Future[Decision | None] | None":
        """Wait for the decision on a payload; None where too much waits already, or this does."""
        if digest in self._asked or len(self._asked) + len(self._live) >= MAX_WAITING:
            return None
        future = self._loop.create_future()
        self._asked[digest] = future, self._loop.time()
        return future

    def forget(self, digest: bytes) -> None:
        """Wait no longer."""
        self._asked.pop(digest, None)

    def ended(self, decision: Decision) -> "asyncio.Future[Decision | None]":
        """Return what is done when a permit ends; done already where it is not live, or not kept."""
        future = self._live.get(_place(decision))
        if future is None:
            future = self._loop.create_future()
            future.set_result(None)
        return future

    def take(self, decision: Decision) -> None:
        """Hand a decision to whoever waits for it."""
        if decision.kind is not DecisionKind.REQUEST:
            self._end(_place(decision), decision)
            return
        waiting, asked_at = self._asked.pop(decision.request.digest or b"", (None, 0.0))
        if waiting is None or waiting.done():
            return
        if decision.effect is Effect.PERMIT:
            # By its own time it ends here too, whoever says so or does not: counted from the question, so
            # that neither the way of the answer nor this machine's clock makes it longer.
            holds_s = ((decision.expires_us or decision.time_us) - decision.time_us) / 1e6
            place = _place(decision)
            self._live[place] = self._loop.create_future()
            self._loop.call_at(asked_at + holds_s, self._end, place, None)
        waiting.set_result(decision)

    def lose_sight(self) -> None:
        """Decisions may have been missed: nobody is answered, and no permit is known to live."""
        asked, self._asked = self._asked, {}
        for waiting, _asked_at in asked.values():
            if not waiting.done():
                waiting.set_result(None)
        for place in list(self._live):
            self._end(place, None)

    def _end(self, place: tuple[str, int, int], decision: Decision | None) -> None:
        future = self._live.pop(place, None)
        if future is not None and not future.done():
            future.set_result(decision)


class Gateway:
    """Asks through Kafka. A thread reads decisions; all else belongs to the loop that entered."""

    def __init__(self, settings: Settings, timeout_s: float = TIMEOUT_S) -> None:
        self._settings, self._timeout_s = settings, timeout_s
        self._leaving = threading.Event()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._board = Board(self._loop)
        self._producer = kafka.watched_producer(self._settings)
        # Before the first question: its answer must not come unseen.
        consumer = await self._loop.run_in_executor(None, self._from_the_end)
        self._thread = threading.Thread(target=self._read, args=(consumer,), name="decisions", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        await self._loop.run_in_executor(None, self._thread.join, JOIN_S)
        self._board.lose_sight()
        self._producer.purge()

    async def ask(self, envelope: bytes) -> Answer:
        """Publish a signed access event and await its decision; raises FormatError for what is none."""
        payload = decode_envelope(envelope).payload
        device_id = decode_event(PayloadKind.ACCESS, payload).device_id
        digest = blake3(payload).digest()
        waiting = self._board.ask(digest)
        if waiting is None:
            return Answer(permitted=False, why="too many requests wait, or this one does already")
        key = device_id.encode()
        try:
            self._producer.produce(
                ACCESS_RAW, key=key, value=envelope, partition=partition_of(key, self._settings.partitions)
            )
            decision = await asyncio.wait_for(waiting, self._timeout_s)
        except TimeoutError:
            return Answer(permitted=False, why=f"no decision within {self._timeout_s:g} s")
        except (KafkaException, BufferError) as error:
            return Answer(permitted=False, why=f"the request could not be published: {error}")
        finally:
            self._board.forget(digest)
        if decision is None:
            return Answer(permitted=False, why="decisions cannot be read")
        return Answer(decision.effect is Effect.PERMIT, decision.detail, decision)

    async def ended(self, answer: Answer) -> Decision | None:
        """Wait until a permit ends; returns the decision that ended it, None where its time was over or
        decisions cannot be read. At once for what is no permit.
        """
        if answer.decision is None or not answer.permitted:
            return None
        return await asyncio.shield(self._board.ended(answer.decision))

    # ---- the thread ------------------------------------------------------------------------------------

    def _read(self, consumer: Consumer | None) -> None:
        while not self._leaving.is_set():
            try:
                if consumer is None:
                    consumer = self._from_the_end()
                self._pass_on(consumer)
            except (KafkaException, PipelineError) as error:
                log.warning("decisions cannot be read, access is denied", error=str(error))
                self._call(self._board.lose_sight)
                if consumer is not None:
                    consumer.close()
                consumer = None
                if isinstance(error, BrokerlessClientError):
                    self._producer = kafka.watched_producer(self._settings)
                self._leaving.wait(AGAIN_S)
        if consumer is not None:
            consumer.close()

    def _from_the_end(self) -> Consumer:
        admin = kafka.admin(self._settings)
        places = [(DECISIONS, number) for number in range(self._settings.partitions)]
        ends = kafka.end_offsets(admin, places)
        consumer = kafka.consumer(self._settings, f"{self._settings.log_name}.gateways")
        consumer.assign([TopicPartition(*place, at) for place, at in ends.items()])
        return consumer

    def _pass_on(self, consumer: Consumer) -> None:
        self._producer.check()
        for message in consumer.consume(500, POLL_S):
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the public name
                continue
            decision = _read_decision(kafka.to_record(message, with_headers=False))
            if decision is not None:
                self._call(self._board.take, decision)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            self._leaving.set()  # the loop is closed: nobody waits any more


def _read_decision(record: RawRecord) -> Decision | None:
    try:
        return decode_decision(record.value or b"")
    except CodecError as error:
        log.warning("a record of decisions that is none", offset=record.offset, error=str(error))
        return None


def _place(decision: Decision) -> tuple[str, int, int]:
    return decision.request.topic, decision.request.partition, decision.request.offset
