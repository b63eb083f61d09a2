"""CORRELATE: findings and rejections become alerts that a human can follow.

The story of one record:

    read        a finding, or a rejection's headers; what cannot be read is counted and passed over
    correlate   told at once, or folded into its group's report
    publish     to `alerts`, acknowledged by all replicas
    acknowledge only then, and only the records that a published alert tells of

A crash between the last two repeats alerts under the same ids; a crash before loses nothing, since a folded
record is not acknowledged until its report is out. So there is no state on disk. When partitions move, what
was folded is forgotten and read again.
"""

import asyncio
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import structlog

from pipeline import metrics
from pipeline.faust_app import hears_kafka, make_app
from pipeline.settings import PipelineError, Settings
from pipeline.stage import Health, StageState, Stop, running_stage
from pipeline.topics import ALERTS, FINDINGS, INTEGRITY, REJECTED
from processors.correlate import CorrelateConfig, Correlator, Step
from processors.model import RawRecord
from processors.notices import Notice, read_finding, read_rejection
from processors.ocsf import Alert, Reporter, encode, headers
from schemas.errors import FormatError

if TYPE_CHECKING:
    import faust

log = structlog.get_logger()

LOOP_S = 0.25
SEND_RETRY_S = 0.5
SEND_TIMEOUT_S = 20.0
FLUSH_TIMEOUT_S = 3.0
STOP_TIMEOUT_S = 5.0
ASSIGNMENT_TIMEOUT_S = 60.0
"""A group that gives a worker nothing, not even the word that there is nothing for it, has lost it."""
SLOW_S = 1.0

_READERS: dict[str, Callable[[RawRecord], Notice]] = {
    FINDINGS: read_finding,
    INTEGRITY: read_finding,
    REJECTED: read_rejection,
}


class CorrelateError(PipelineError):
    """Faust gave up; the supervisor starts a new process, which reads again what was not acknowledged."""


def run(settings: Settings, slot: int) -> None:
    """Run one worker until it is asked to stop."""
    with running_stage(settings, "correlate", slot) as (health, stop):
        asyncio.run(_serve(settings, slot, health, stop))


async def _serve(settings: Settings, slot: int, health: Health, stop: Stop) -> None:
    app = make_app(settings, "correlate", slot)
    worker = CorrelateWorker(app, Reporter(settings.log_name, version("attestream")))
    starting = asyncio.ensure_future(app.start())
    closing = asyncio.ensure_future(_watch(worker, health, stop, starting))
    try:
        await closing
    finally:
        await _leave(worker, starting)


async def _watch(
    worker: "CorrelateWorker", health: Health, stop: Stop, starting: "asyncio.Future[Any]"
) -> None:
    """Beat, let time pass for open groups, and notice the end: asked for, or Faust's."""
    while not stop.requested:
        failure = worker.failure or _crash(worker.app, starting)
        if failure is not None:
            message = f"Faust stopped: {failure!r}"
            raise CorrelateError(message) from failure
        if worker.waits_s > ASSIGNMENT_TIMEOUT_S:
            message = f"no assignment came within {ASSIGNMENT_TIMEOUT_S:g} s"
            raise CorrelateError(message)
        health.beat(StageState.RUNNING if worker.is_ready else StageState.STARTING, worker.detail())
        if worker.take_progress():
            health.progressed()
        metrics.NOTICES_FOLDED.set(worker.correlator.held)
        worker.tick()
        await asyncio.sleep(LOOP_S)
    health.beat(StageState.DRAINING)


def _crash(app: "faust.App", starting: "asyncio.Future[Any]") -> BaseException | None:
    if starting.done() and starting.exception() is not None:
        return starting.exception()
    return app.crash_reason or CorrelateError("for no stated reason") if app.crashed else None


async def _leave(worker: "CorrelateWorker", starting: "asyncio.Future[Any]") -> None:
    try:
        await asyncio.wait_for(worker.finish(), FLUSH_TIMEOUT_S)
    except TimeoutError:
        log.warning("left before open groups were told; they will be read again")
    starting.cancel()
    try:
        await asyncio.wait_for(worker.app.stop(), STOP_TIMEOUT_S)
    except TimeoutError:
        log.warning("Faust did not stop in time")


class CorrelateWorker:
    """Faust's side of the correlator: one agent, awaited sends, acknowledgement after publication."""

    def __init__(self, app: "faust.App", reporter: Reporter, config: CorrelateConfig | None = None) -> None:
        self.app = app
        self.correlator: Correlator[Any] = Correlator(config)
        self._reporter = reporter
        self._turn = asyncio.Lock()  # alerts leave in the order in which they were made
        self._ticking: asyncio.Task[None] | None = None
        self._waiting_since: float | None = None
        self._published = 0
        self._handled = self._handled_told = 0
        self._assigned = 0
        self._unassigned_since: float | None = time.monotonic()
        self.failure: Exception | None = None
        topic = app.topic(FINDINGS, REJECTED, INTEGRITY, allow_empty=True)
        app.agent(topic, name="correlate", concurrency=1)(self._consume)
        app.on_partitions_assigned.connect(self._on_assigned)
        app.on_partitions_revoked.connect(self._on_revoked)

    def detail(self) -> str:
        """Say for the health file what the worker does."""
        if self._waiting_since is not None and time.monotonic() - self._waiting_since > SLOW_S:
            return "waiting for Kafka to take an alert"
        if self._unassigned_since is not None:
            return "waiting for an assignment"
        if not self.is_ready:
            return "Kafka does not answer"
        return f"{self._assigned} partitions, {self._published} alerts, {self.correlator.held} folded"

    @property
    def is_ready(self) -> bool:
        """Tell whether there is an assignment and Kafka answers."""
        return self._unassigned_since is None and hears_kafka(self.app)

    @property
    def waits_s(self) -> float:
        """Return for how long there has been no assignment; 0 with one, be it of no partition at all."""
        return 0.0 if self._unassigned_since is None else time.monotonic() - self._unassigned_since

    def take_progress(self) -> bool:
        """Tell whether any record was handled since this was asked last."""
        has_moved, self._handled_told = self._handled > self._handled_told, self._handled
        return has_moved

    def tick(self) -> None:
        """Let time pass for open groups; a publication under way is not waited for."""
        if self._ticking is None or self._ticking.done():
            self._ticking = asyncio.create_task(self._tell(lambda: self.correlator.tick(_now_ms())))

    async def finish(self) -> None:
        """Tell of every open group."""
        await self._tell(self.correlator.close)

    # ---- Faust's callbacks -----------------------------------------------------------------------------

    async def _consume(self, stream: Any) -> None:
        async for event in stream.noack().events():
            try:
                await self._take(event.message)
            except Exception as error:
                # Whatever leaves an agent stalls its partitions without a word: end the process instead.
                log.exception("a record could not be handled", position=_position(event.message))
                self.failure = error

    def _on_assigned(self, _app: Any, /, *given: Any, signal: Any, **_: Any) -> None:  # noqa: ARG002
        self._assigned, self._unassigned_since = len(given[0]), None

    def _on_revoked(self, _app: Any, /, *_given: Any, signal: Any, **_: Any) -> None:  # noqa: ARG002
        self._assigned, self._unassigned_since = 0, time.monotonic()
        self.correlator.reset()

    # ---- one record ------------------------------------------------------------------------------------

    async def _take(self, message: Any) -> None:
        metrics.NOTICES.labels(message.topic).inc()
        try:
            notice = _READERS[message.topic](_record(message))
        except FormatError as error:
            metrics.NOTICES_UNREADABLE.labels(message.topic).inc()
            log.warning("record is not ours", position=_position(message), error=str(error))
            self._acknowledge(message)
            return
        message.value = None  # a folded record waits for its report; its bytes need not
        await self._tell(lambda: self.correlator.add(notice, message, _now_ms()))

    async def _tell(self, decide: Callable[[], Step[Any]]) -> None:
        async with self._turn:
            step = decide()
            if step.alerts:
                await self._publish(step.alerts)
            for message in step.released:
                self._acknowledge(message)

    async def _publish(self, alerts: list[Alert]) -> None:
        """Send until all replicas have every alert; a repeat carries the same ids."""
        from aiokafka.errors import KafkaError
        from faust.exceptions import FaustError

        self._waiting_since = time.monotonic()
        while True:
            try:
                await asyncio.wait_for(self._send(alerts), SEND_TIMEOUT_S)
                break
            except (KafkaError, FaustError, TimeoutError) as error:
                metrics.ALERT_RETRIES.inc()
                log.warning("alerts could not be published, trying again", error=repr(error))
                await asyncio.sleep(SEND_RETRY_S)
        self._waiting_since = None
        self._published += len(alerts)
        for alert in alerts:
            metrics.ALERTS.labels(alert.severity.value.lower()).inc()

    async def _send(self, alerts: list[Alert]) -> None:
        producer = await self.app.maybe_start_producer()
        sent = [
            await producer.send(
                ALERTS,
                key=alert.uid.encode(),
                value=encode(alert, self._reporter),
                partition=0,
                timestamp=None,
                headers=headers(alert, self._reporter, os.urandom(16)),
            )
            for alert in alerts
        ]
        await asyncio.gather(*sent)

    def _acknowledge(self, message: Any) -> None:
        message.ack(self.app.consumer)
        self._handled += 1


def _record(message: Any) -> RawRecord:
    return RawRecord(
        message.topic,
        message.partition,
        message.offset,
        int(message.timestamp * 1000),
        message.key,
        message.value,
        tuple(message.headers or ()),
    )


def _position(message: Any) -> str:
    return f"{message.topic}/{message.partition}/{message.offset}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
