"""CORRELATE: findings, rejections and denials become alerts that a human can follow.

The story of one record:

    read        a finding, a rejection's headers, a decision that denies; what cannot be read is counted
    correlate   it waits with its group, until that is told (processors/correlate)
    publish     to `alerts`, acknowledged by all replicas
    acknowledge only then, and only the records that a published alert tells of

A crash before the last loses nothing: what was not acknowledged is read again. There is no state on disk:
the newest alerts say which records were told and which alerts are not over, and are read after each
assignment, with the findings of the last hours that they tell of, which count by build. One worker does it
all, since an incident is of many partitions; a further one stands by.
"""

import asyncio
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import structlog

from pipeline import metrics
from pipeline.alerttables import Tables
from pipeline.faust_app import hears_kafka, make_app
from pipeline.patience import LeavingError
from pipeline.settings import PipelineError, Settings
from pipeline.stage import Health, StageState, Stop, running_stage
from pipeline.topics import ALERTS, DECISIONS, FINDINGS, INTEGRITY, REJECTED
from processors.correlate import CorrelateConfig, Correlator, Step
from processors.model import RawRecord
from processors.notices import FindingNotice, Notice, read_denial, read_finding, read_rejection
from processors.ocsf import Alert, Reporter, Status, encode, headers
from schemas.errors import FormatError

if TYPE_CHECKING:
    import faust

log = structlog.get_logger()

LOOP_S = 0.1
SEND_RETRY_S = 0.5
SEND_TIMEOUT_S = 20.0
SENT_AT_ONCE = 200
"""What was not acknowledged in time is sent again as a whole."""
YIELD_EVERY = 20
FLUSH_TIMEOUT_S = 3.0
STOP_TIMEOUT_S = 5.0
ASSIGNMENT_TIMEOUT_S = 60.0
"""A group that gives a worker nothing, not even the word that there is nothing for it, has lost it."""
SLOW_S = 1.0

_READERS: dict[str, Callable[[RawRecord], Notice | None]] = {
    FINDINGS: read_finding,
    INTEGRITY: read_finding,
    REJECTED: read_rejection,
    DECISIONS: read_denial,
}


class CorrelateError(PipelineError):
    """Faust gave up; the supervisor starts a new process, which reads again what was not acknowledged."""


def run(settings: Settings, slot: int) -> None:
    """Run one worker until it is asked to stop."""
    with running_stage(settings, "correlate", slot) as (health, stop):
        asyncio.run(_serve(settings, slot, health, stop))


def config_of(settings: Settings) -> CorrelateConfig:
    """Read times and bounds from settings."""
    return CorrelateConfig(
        group_wait_ms=round(settings.group_wait_s * 1000),
        group_interval_ms=round(settings.group_interval_s * 1000),
        repeat_interval_ms=round(settings.repeat_interval_s * 1000),
        resolve_after_ms=round(settings.resolve_after_s * 1000),
        incident_devices=settings.incident_devices,
    )


async def _serve(settings: Settings, slot: int, health: Health, stop: Stop) -> None:
    tables = Tables(settings)
    try:
        if not await asyncio.to_thread(_catch_up, tables, health, stop):
            return
        app = make_app(settings, "correlate", slot)
        reporter = Reporter(settings.log_name, version("attestream"))
        worker = CorrelateWorker(app, reporter, tables, config_of(settings))
        starting = asyncio.ensure_future(app.start())
        try:
            await _watch(worker, health, stop, starting)
        finally:
            await _leave(worker, starting)
    finally:
        tables.close()


def _catch_up(tables: Tables, health: Health, stop: Stop) -> bool:
    """Read the tables to their ends; tell whether nobody asked to leave meanwhile."""

    def on_progress(text: str) -> None:
        health.beat(StageState.STARTING, text)
        if stop.requested:
            raise LeavingError("left before the tables were read")

    try:
        tables.catch_up(on_progress)
    except LeavingError:
        return False
    return True


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

    def __init__(self, app: "faust.App", reporter: Reporter, tables: Tables, config: CorrelateConfig) -> None:
        self.app = app
        self.correlator: Correlator[Any] = Correlator(config)
        self._reporter, self._tables = reporter, tables
        self._fleet_window_s = config.fleet.window_s
        self._turn = asyncio.Lock()  # alerts leave in the order in which they were made
        self._ticking: asyncio.Task[None] | None = None
        self._waiting_since: float | None = None
        self._published = 0
        self._handled = self._handled_told = 0
        self._assigned = 0
        self._unassigned_since: float | None = time.monotonic()
        self._assignment = 0  # counts every change of it
        self._restored_for = -1
        self.failure: Exception | None = None
        topic = app.topic(*_READERS, allow_empty=True)
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
        if not self._assigned:
            return "another worker correlates"
        held, cases = self.correlator.held, len(self.correlator.cases)
        return f"{self._assigned} partitions, {self._published} alerts, {cases} not over, {held} records wait"

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
        """Let time pass; a publication under way is not waited for."""
        self._tables.poll()
        self.correlator.forget_builds(self._tables.take_left())
        metrics.NOTICES_FOLDED.set(self.correlator.held)
        cases = self.correlator.cases
        metrics.ALERT_CASES.labels("incident").set(sum(each.is_incident for each in cases))
        metrics.ALERT_CASES.labels("all").set(len(cases))
        if self._assigned and (self._ticking is None or self._ticking.done()):
            self._ticking = asyncio.create_task(self._tick())

    async def finish(self) -> None:
        """Tell of every open group."""
        if self._assigned:
            await self._tell(lambda: self.correlator.close(_now_ms()))

    # ---- Faust's callbacks -----------------------------------------------------------------------------

    async def _consume(self, stream: Any) -> None:
        taken = 0
        async for event in stream.noack().events():
            taken += 1
            if taken % YIELD_EVERY == 0:
                await asyncio.sleep(0)  # a full queue is taken without a pause: others must send meanwhile
            try:
                await self._take(event.message)
            except Exception as error:
                # Whatever leaves an agent stalls its partitions without a word: end the process instead.
                log.exception("a record could not be handled", position=_position(event.message))
                self.failure = error

    def _on_assigned(self, _app: Any, /, *given: Any, signal: Any, **_: Any) -> None:  # noqa: ARG002
        self._assigned, self._unassigned_since = len(given[0]), None
        self._assignment += 1

    def _on_revoked(self, _app: Any, /, *_given: Any, signal: Any, **_: Any) -> None:  # noqa: ARG002
        self._assigned, self._unassigned_since = 0, time.monotonic()
        self._assignment += 1
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
        if notice is None:
            self._acknowledge(message)
            return
        message.value = None  # what waits for its group does so without its bytes
        if self._restored_for != self._assignment:
            async with self._turn:
                await self._restore_once()
        step = self.correlator.add(self._tables.placed(notice), message, _now_ms())
        if step.alerts:  # too many wait; else a publication under way is not waited for
            async with self._turn:
                await self._carry_out(step)
        else:
            await self._carry_out(step)

    async def _tick(self) -> None:
        try:
            await self._tell(lambda: self.correlator.tick(_now_ms(), self._tables.controls))
        except Exception as error:
            log.exception("alerts could not be told")
            self.failure = error

    async def _tell(self, decide: Callable[[], Step[Any]]) -> None:
        async with self._turn:
            await self._restore_once()
            await self._carry_out(decide())

    async def _carry_out(self, step: Step[Any]) -> None:
        if step.alerts:
            await self._publish(step.alerts)
        for message in step.released:
            self._acknowledge(message)

    async def _restore_once(self) -> None:
        """Go on from what `alerts` holds, whoever wrote it, once for each assignment."""
        if self._restored_for == self._assignment:
            return
        assignment = self._assignment
        told = await asyncio.to_thread(self._tables.told)
        window_ms = round(self._fleet_window_s * 1000)
        findings = await asyncio.to_thread(self._tables.told_findings, told, window_ms)
        placed = [each for each in map(self._tables.placed, findings) if isinstance(each, FindingNotice)]
        self.correlator.restore(told, _now_ms(), placed)
        self._restored_for = assignment
        log.info("read again what was told", not_over=len(self.correlator.cases), unreadable=told.unreadable)

    async def _publish(self, alerts: list[Alert]) -> None:
        """Send until all replicas have every alert; a repeat carries the same ids."""
        from aiokafka.errors import KafkaError
        from faust.exceptions import FaustError

        for at in range(0, len(alerts), SENT_AT_ONCE):
            self._waiting_since = time.monotonic()
            while True:
                try:
                    await asyncio.wait_for(self._send(alerts[at : at + SENT_AT_ONCE]), SEND_TIMEOUT_S)
                    break
                except (KafkaError, FaustError, TimeoutError) as error:
                    metrics.ALERT_RETRIES.inc()
                    log.warning("alerts could not be published, trying again", error=repr(error))
                    await asyncio.sleep(SEND_RETRY_S)
        self._waiting_since = None
        self._published += len(alerts)
        for alert in alerts:
            metrics.ALERTS.labels(alert.severity.value.lower()).inc()
            metrics.ALERTS_SUPPRESSED.inc(alert.status is Status.SUPPRESSED)

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
