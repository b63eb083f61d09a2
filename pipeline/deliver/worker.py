"""One output at work: reads its party's topic in a group of its own, sends, and commits what was delivered.

    read       ahead, up to `AHEAD` alerts, while the ones before are being sent
    send       in order; what fails is tried again with growing pauses, and holds up nobody but this output
    give up    on an alert that is refused `REFUSALS` times, or that nobody took within
               `deliver_give_up_s` of its routing: it goes to `alerts.<party>.undelivered`, and is counted
    commit     the offset behind the last alert that was delivered or given up

A kill between send and commit sends some alerts again, with the same id and sequence.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from confluent_kafka import KafkaException, Producer, TopicPartition

from pipeline import kafka, metrics
from pipeline.deliver.delivery import Delivery, DeliveryError, RefusedError, UnreadableError, read_delivery
from pipeline.deliver.sinks import Sink
from pipeline.deliver.undelivered import shown, write_down
from pipeline.deliver.waiting import Waiting
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.membership import GroupMember
from pipeline.partytopics import party_topic, undelivered_topic
from pipeline.patience import Trouble
from pipeline.settings import PipelineError, Settings
from pipeline.statestore import Partition
from processors.model import RawRecord
from schemas.records import Headers

log = structlog.get_logger()

R = TypeVar("R")

AHEAD = 500
BATCH = 100
WAIT_S = 0.1
COMMIT_EVERY_S = 0.5
REFUSALS = 5
LONGEST_PAUSE_S = 10.0
"""Between two tries: one request each ten seconds burdens nobody, and who comes back is told soon."""
SESSION_PAUSE_S = 2.0


def group_name(party: str, output: str) -> str:
    """Name what is read for an output, as its consumer group and its health text do."""
    return f"deliver.{party}.{output}"


@dataclass(frozen=True, slots=True)
class Shared:
    """What the outputs of one process share; nothing of it waits for a receiver."""

    settings: Settings
    slot: int


class OutputWorker:
    """Delivers one party's alerts by one output until it is cancelled."""

    def __init__(self, shared: Shared, party: str, output: str, sink: Sink) -> None:
        self._shared, self.party, self.output, self._sink = shared, party, output, sink
        self._labels = (party, output)
        self._source: Partition = (party_topic(party), 0)
        self.trouble = Trouble(LONGEST_PAUSE_S)
        self.delivered = 0
        self._sequence: int | None = None
        self._producer: Producer | None = None
        """Of what could not be delivered; each session has its own, from the first such alert on."""
        # A consumer is used by one thread, and no output's thread waits for another's.
        self._thread = ThreadPoolExecutor(1, f"deliver-{party}-{output}")

    async def run(self) -> None:
        """Run session after session."""
        try:
            while True:
                try:
                    await self._session()
                except (KafkaException, PipelineError, OSError) as error:
                    metrics.RECOVERIES.labels("deliver").inc()
                    log.warning(
                        "an output begins anew", party=self.party, output=self.output, error=str(error)
                    )
                    self.trouble.add(str(error))
                    metrics.DELIVERY_FAILING.labels(*self._labels).set(1)
                    await asyncio.sleep(SESSION_PAUSE_S)
        finally:
            await self._sink.reset()
            self._thread.shutdown(wait=False)

    # ---- reading ---------------------------------------------------------------------------------------

    async def _session(self) -> None:
        name = group_name(self.party, self.output)
        member = await self._joined(name)
        waiting: Waiting | None = None
        sending: asyncio.Task[None] | None = None
        committed = -1
        commit_at = 0.0
        try:
            while True:
                batches = await self._call(member.consume, BATCH, WAIT_S)
                if member.changed:
                    await _ended(sending)
                    waiting = sending = None
                    start = await self._call(self._take_up, member)
                    if start is not None:
                        waiting, committed = Waiting(start), start
                        sending = asyncio.create_task(self._send_all(waiting))
                    continue
                if waiting is None or sending is None:
                    continue
                waiting.add(batches.get(self._source, ()))
                self._flow(member, waiting)
                if sending.done():
                    sending.result()
                if waiting.done_to > committed and time.monotonic() >= commit_at:
                    committed, commit_at = waiting.done_to, time.monotonic() + COMMIT_EVERY_S
                    await self._call(self._commit, member, committed)
        finally:
            await _ended(sending)
            await self._leave(member, waiting, committed)

    async def _joined(self, name: str) -> GroupMember:
        joining = asyncio.ensure_future(self._call(self._join, name))
        try:
            return await asyncio.shield(joining)
        except asyncio.CancelledError:
            # It would stay a member of its group, and keep the partition from its successor.
            await self._call((await joining).close)
            raise

    def _join(self, name: str) -> GroupMember:
        settings = self._shared.settings
        self._producer = None
        return GroupMember(settings, kafka.admin(settings), name, self._shared.slot, [self._source[0]])

    def _take_up(self, member: GroupMember) -> int | None:
        """Begin where this output stopped, or where the topic begins; None without the partition."""
        if self._source not in member.assigned:
            member.start_at({})
            return None
        place = member.consumer.committed([TopicPartition(*self._source)], CALL_TIMEOUT_S)[0]
        if place.error is not None:
            raise KafkaException(place.error)
        kept_from = kafka.start_offsets(member.admin, [self._source])[self._source]
        if place.offset >= 0 and place.offset < kept_from:
            log.error(
                "alerts were deleted undelivered", party=self.party, output=self.output, below=kept_from
            )
        start = max(place.offset, kept_from)
        member.start_at({self._source: start})
        self._well()
        return start

    def _flow(self, member: GroupMember, waiting: Waiting) -> None:
        """Read ahead within bounds: a receiver that is away for days must not fill our memory."""
        is_full = len(waiting.records) >= AHEAD
        if is_full and not waiting.is_paused:
            member.pause(self._source)
            waiting.is_paused = True
        elif waiting.is_paused and len(waiting.records) < AHEAD // 2:
            member.resume(self._source, waiting.read_to)
            waiting.is_paused = False

    def _commit(self, member: GroupMember, next_offset: int) -> None:
        member.consumer.commit(offsets=[TopicPartition(*self._source, next_offset)], asynchronous=False)

    async def _leave(self, member: GroupMember, waiting: Waiting | None, committed: int) -> None:
        def leave() -> None:
            try:
                if waiting is not None and not member.changed and waiting.done_to > committed:
                    self._commit(member, waiting.done_to)
            except KafkaException as error:
                log.info("left with alerts that will be sent again", output=self.output, error=str(error))
            finally:
                member.close()

        # Also when cancelled: what was delivered is to be remembered.
        await asyncio.shield(self._call(leave))

    async def _call(self, function: Callable[..., R], *arguments: Any) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    # ---- sending ---------------------------------------------------------------------------------------

    async def _send_all(self, waiting: Waiting) -> None:
        while True:
            if not waiting.records:
                waiting.arrived.clear()
                await waiting.arrived.wait()
            deliveries: list[Delivery] = []
            unreadable = ""
            for record in itertools.islice(waiting.records, self._sink.most):
                try:
                    deliveries.append(read_delivery(record))
                except UnreadableError as error:
                    unreadable = str(error)
                    break
            if deliveries:
                await self._send(deliveries)
            else:
                await self._bury(waiting.records[0], unreadable, b"unreadable")
            waiting.done(len(deliveries) or 1)

    async def _send(self, deliveries: Sequence[Delivery]) -> None:
        """Return when each was delivered or given up."""
        refused = 0
        while True:
            try:
                await self._sink.send(deliveries)
            except RefusedError as error:
                if len(deliveries) > 1:
                    # One that is refused must not take the others with it.
                    for each in deliveries:
                        await self._send([each])
                    return
                refused += 1
                why: PipelineError = error
            except (DeliveryError, PipelineError) as error:
                why = error
            else:
                self._delivered(deliveries)
                return
            await self._failed(str(why))
            first = deliveries[0]
            if refused >= REFUSALS or self._age_s(first) > self._shared.settings.deliver_give_up_s:
                reason = b"refused" if refused >= REFUSALS else b"given_up"
                await self._bury(first.record, str(why), reason)
                deliveries, refused = deliveries[1:], 0
                if not deliveries:
                    return
                continue
            asked_s = why.retry_after_s if isinstance(why, DeliveryError) else None
            await asyncio.sleep(max(asked_s or 0.0, self.trouble.pause_s))

    async def _failed(self, why: str) -> None:
        metrics.DELIVERY_FAILURES.labels(*self._labels).inc()
        metrics.DELIVERY_FAILING.labels(*self._labels).set(1)
        if self.trouble.add(why):
            log.warning("an output does not take alerts", party=self.party, output=self.output, why=why)
        await self._sink.reset()

    def _age_s(self, delivery: Delivery) -> float:
        return time.time() - delivery.record.append_ms / 1000

    def _well(self) -> None:
        if self.trouble.clear():
            log.info("an output is well again", party=self.party, output=self.output)
        metrics.DELIVERY_FAILING.labels(*self._labels).set(0)

    def _delivered(self, deliveries: Sequence[Delivery]) -> None:
        self._well()
        self.delivered += len(deliveries)
        metrics.DELIVERED.labels(*self._labels).inc(len(deliveries))
        for each in deliveries:
            if self._sequence is not None and each.sequence > self._sequence + 1:
                metrics.DELIVERY_GAPS.labels(*self._labels).inc(each.sequence - self._sequence - 1)
            self._sequence = each.sequence
        metrics.DELIVERED_SEQUENCE.labels(*self._labels).set(deliveries[-1].sequence)
        now = time.time()
        for each in deliveries:
            metrics.DELIVERY_SECONDS.observe(max(0.0, now - each.record.append_ms / 1000))

    async def _bury(self, record: RawRecord, why: str, reason: bytes) -> None:
        """Write what could not be delivered beside the party's topic; it stays in both."""
        log.error("an alert could not be delivered", party=self.party, output=self.output, why=why)
        told = (("output", self.output.encode()), ("reason", reason), ("detail", shown(why)))
        topic = undelivered_topic(self.party)
        await self._call(self._write_down, topic, record, told)
        metrics.UNDELIVERED.labels(*self._labels).inc()

    def _write_down(self, topic: str, record: RawRecord, told: Headers) -> None:
        if self._producer is None:
            self._producer = kafka.producer(self._shared.settings)
        write_down(self._producer, topic, record, told)


async def _ended(task: "asyncio.Task[None] | None") -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
