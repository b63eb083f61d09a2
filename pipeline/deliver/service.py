"""The process of deliver: which outputs run, by the parties file in force. One that fails stands alone."""

import asyncio
import time
from dataclasses import dataclass

import structlog

from pipeline import kafka, topics
from pipeline.deliver.sinks import make_sink
from pipeline.deliver.sse import SseServer
from pipeline.deliver.worker import OutputWorker, Shared
from pipeline.parties import PartiesError
from pipeline.partieswatch import PARTIES_REFUSED, PartiesWatch
from pipeline.partytopics import party_topics
from pipeline.settings import Settings
from pipeline.stage import Health, StageState, Stop, running_stage
from schemas.partyoutputs import Output

log = structlog.get_logger()

LOOP_S = 0.25
TRY_AGAIN_S = 2.0
LEAVE_S = 6.0
MAX_NAMED = 3


def run(settings: Settings, slot: int) -> None:
    """Run one worker until it is asked to stop."""
    with running_stage(settings, "deliver", slot) as (health, stop):
        work(settings, slot, health, stop)


def work(settings: Settings, slot: int, health: Health, stop: Stop) -> None:
    """Deliver until asked to stop."""
    asyncio.run(Deliverer(settings, slot, health).run(stop))


@dataclass(slots=True)
class _Running:
    worker: OutputWorker | SseServer
    task: "asyncio.Task[None]"


class Deliverer:
    """Keeps one task for each output that the parties file names."""

    def __init__(self, settings: Settings, slot: int, health: Health) -> None:
        self._settings, self._slot, self._health = settings, slot, health
        self._shared = Shared(settings, slot)
        self._running: dict[tuple[str, Output], _Running] = {}
        self._watch: PartiesWatch | None = None
        self._delivered_before = 0

    async def run(self, stop: Stop) -> None:
        """Follow the parties file; beat all the while."""
        watch = await self._when_believed(stop)
        if watch is None:
            return
        self._watch = watch
        await self._follow()
        try:
            while not stop.requested:
                if watch.has_changed():
                    await self._follow()
                self._look_at_tasks()
                self._beat()
                await asyncio.sleep(LOOP_S)
        finally:
            self._health.beat(StageState.DRAINING)
            await self._end(list(self._running))

    async def _when_believed(self, stop: Stop) -> PartiesWatch | None:
        try_at = 0.0
        why = ""
        while not stop.requested:
            if time.monotonic() >= try_at:
                try:
                    return PartiesWatch(self._settings)
                except PartiesError as error:
                    if str(error) != why:
                        log.error("the parties file is refused", error=str(error))
                    why, try_at = str(error), time.monotonic() + TRY_AGAIN_S
            self._health.beat(StageState.STARTING, f"{PARTIES_REFUSED}: {why}", alarm=PARTIES_REFUSED)
            await asyncio.sleep(LOOP_S)
        return None

    async def _follow(self) -> None:
        """Start what is named, end what is not; an output that did not change is not touched."""
        assert self._watch is not None  # noqa: S101 - set before this is called
        parties = self._watch.parties
        wanted = {(party.name, output) for party in parties.parties for output in party.outputs}
        await self._end([each for each in self._running if each not in wanted])
        creating = asyncio.ensure_future(
            asyncio.to_thread(
                topics.apply, kafka.admin(self._settings), self._settings, party_topics(parties)
            )
        )
        while not (await asyncio.wait([creating], timeout=LOOP_S))[0]:
            self._health.beat(StageState.STARTING, "looking for the parties' topics")
        if creating.exception() is not None:
            # The outputs say themselves what they miss, and try again; route makes the topics too.
            log.warning("topics of the parties could not be looked at", error=str(creating.exception()))
        for party, output in wanted - self._running.keys():
            worker: OutputWorker | SseServer
            if output.kind == "sse":
                worker = SseServer(self._shared, party, output)
            else:
                sink = make_sink(output, self._settings.log_name)
                worker = OutputWorker(self._shared, party, output.name, sink)
            self._running[party, output] = _Running(worker, asyncio.create_task(worker.run()))

    async def _end(self, outputs: list[tuple[str, Output]]) -> None:
        ended = [self._running.pop(each).task for each in outputs]
        for task in ended:
            task.cancel()
        if ended:
            await asyncio.wait(ended, timeout=LEAVE_S)

    def _look_at_tasks(self) -> None:
        for name, running in list(self._running.items()):
            if running.task.done():
                error = running.task.exception()
                log.error(
                    "an output ended and begins anew", party=name[0], output=name[1].name, error=repr(error)
                )
                running.task = asyncio.create_task(running.worker.run())

    def _beat(self) -> None:
        assert self._watch is not None  # noqa: S101
        workers = [running.worker for running in self._running.values()]
        delivered = sum(worker.delivered for worker in workers)
        if delivered > self._delivered_before:
            self._health.progressed()
        self._delivered_before = delivered
        failing = [f"{w.party}/{w.output} {w.trouble}" for w in workers if w.trouble]
        parts = [f"{len(workers)} outputs, {delivered} alerts delivered"]
        if failing:
            more = f" and {len(failing) - MAX_NAMED} more" if len(failing) > MAX_NAMED else ""
            parts.append("NOT DELIVERED: " + ", ".join(failing[:MAX_NAMED]) + more)
        alarm = "NOT DELIVERED" if failing else ""
        if self._watch.trouble:
            parts.append(self._watch.trouble)
            alarm = alarm or PARTIES_REFUSED
        # A receiver that is away is not our being unready.
        self._health.beat(StageState.RUNNING, "; ".join(parts), alarm=alarm)
