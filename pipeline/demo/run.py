"""DEMO: start everything, stream, attack, wait, and then believe nothing that was not read back.

The story: stack up, devices and persons enrolled; vitals and attacks streamed, while a ward asks for access
and alerts are delivered; everything judged, sealed, anchored and told; books counted from the topics,
evidence for a random event verified, one byte of a copy flipped and found.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from loadtests.scene import Scene
from pipeline.demo import checks, wait
from pipeline.demo.access import AccessScene
from pipeline.demo.alerts import Deliveries
from pipeline.demo.enrolment import Enrolled, enroll
from pipeline.demo.looks import SlowLooks
from pipeline.demo.observed import Observed, Watcher, ends
from pipeline.demo.report import Result
from pipeline.demo.show import Show, Snapshot
from pipeline.demo.subscribers import Subscribers
from pipeline.demo.tamper import published_logs
from pipeline.demo.traffic import Traffic, schedule
from pipeline.demo.verdicts import Verdict, clean_rejections, false_alarms, judge
from pipeline.local.stack import LocalStack
from pipeline.settings import PipelineError, Settings

BOARD_EVERY_S = 0.25
FOUND_DEADLINE_S = 30.0
SCENE_AFTER_S = 2.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line asked for."""

    seconds: float
    devices: int
    rate_hz: float
    attacks: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Streams:
    """What goes on beside each other while the board is up."""

    observed: Observed
    watcher: Watcher
    traffic: Traffic
    access: AccessScene
    deliveries: Deliveries

    def produced(self) -> int:
        """Raw records that the broker has: the fleet's were acknowledged, the pumps' decided."""
        with self.observed.lock:
            asked = sum(self.observed.decided.asked_at[pump] for pump in self.access.pump_ids)
        return self.traffic.produced + asked


class Demo:
    """One run against one stack; `result` fills as the story goes on."""

    def __init__(
        self,
        settings: Settings,
        options: DemoOptions,
        show: Show,
        stack: LocalStack,
        subscribers: Subscribers,
    ) -> None:
        self.settings, self.options, self.show, self.stack = settings, options, show, stack
        self.subscribers = subscribers
        self.result = Result()
        self._rng = random.Random(options.seed)  # noqa: S311 - chance, not secrecy

    # ---- the story -------------------------------------------------------------------------------------

    def run(self) -> Result:
        """Play the demo on a stack that is up."""
        settings, show, result = self.settings, self.show, self.result
        with show.phase("Enrolling monitors and persons") as phase:
            enrolled = enroll(
                settings, self.options.devices, self.options.rate_hz, self.options.seed, self._rng
            )
            phase.outcome = (
                f"{self.options.devices} monitors, 2 pumps and {enrolled.person_count} persons registered, "
                "one more monitor registered and revoked"
            )
        observed = Observed(ends(settings), self._rng)
        with Watcher(settings, observed) as watcher:
            streams = self._stream(observed, enrolled, watcher)
            self._drain(streams)
        result.submitted, result.confirmed = observed.anchor_counts()
        result.last_lag_s = observed.last_lag_s()
        result.findings = dict(observed.opened)
        logs = published_logs(settings.data_dir / "log")
        result.shards, result.leaves = len(logs), sum(log.checkpoint.size for log in logs)
        checks.count_books(settings, show, observed, result)
        checks.prove_one(settings, show, observed, result)
        checks.tamper(settings, show, self._rng, result)
        return result

    def _stream(self, observed: Observed, enrolled: Enrolled, watcher: Watcher) -> Streams:
        seconds = self.options.seconds
        planned = schedule(self._rng, seconds) if self.options.attacks else []
        traffic = Traffic(self.settings, enrolled.scene, planned, seconds)
        access = AccessScene(self.settings, enrolled.cast)
        streams = Streams(observed, watcher, traffic, access, Deliveries(observed, self.subscribers))
        title = f"Streaming vitals for {seconds:g} s"
        looks = SlowLooks(self.settings, self.stack)
        begun_s = time.monotonic()
        with self.show.board(title) as board:
            try:
                traffic.start()
                access.start(min(SCENE_AFTER_S, seconds / 5))
                self.subscribers.streaming(seconds)
                while not traffic.finished():
                    watcher.check()
                    self._check_stack()
                    board.update(self._snapshot(streams, looks))
                    time.sleep(BOARD_EVERY_S)
            except BaseException:
                access.stop()
                traffic.stop()
                raise
        self.result.problems += [f"not delivered: {text}" for text in traffic.failures[:5]]
        self._note_leaving(observed, enrolled.scene)
        with self.show.phase(title, begun_s) as phase:
            phase.outcome = f"{traffic.produced:,} records, {len(traffic.launched)} attacks"
        return streams

    @staticmethod
    def _note_leaving(observed: Observed, scene: Scene) -> None:
        with observed.lock:
            observed.gone = frozenset(m.device_id for m in scene.fleet.monitors if not m.silenced)
            observed.gone_us = time.time_ns() // 1000

    def _drain(self, streams: Streams) -> None:
        observed, traffic, access = streams.observed, streams.traffic, streams.access

        def alive() -> None:
            streams.watcher.check()
            self._check_stack()

        self._await("Waiting for the ward's last question", access.missing, access.deadline_s, alive)
        self._await(
            "Waiting until all are judged",
            wait.unjudged(observed, streams.produced),
            wait.JUDGED_DEADLINE_S,
            alive,
        )
        wanted = observed.sealed_by_origin(self.settings.log_name)
        self._await(
            "Waiting until all are sealed",
            wait.unsealed(self.settings, wanted),
            wait.SEALED_DEADLINE_S,
            alive,
        )
        deadline_s = 3 * self.settings.anchor_interval_s + 45
        self._await("Waiting until all is anchored", wait.unanchored(observed, wanted), deadline_s, alive)
        if traffic.launched:
            self._await(
                "Waiting for the last findings",
                lambda: _unfound(self._verdicts(streams)),
                self.settings.silence_after_s + FOUND_DEADLINE_S,
                alive,
                problem=False,  # each attack that was not found is named in the table
            )
        self._await(
            "Waiting until all are told",
            streams.deliveries.missing(access.alerts_due),
            wait.TOLD_DEADLINE_S,
            alive,
            problem=False,  # each alert that is missing is named by its output
        )
        result, launched = self.result, traffic.launched.values()
        result.produced = streams.produced()
        result.verdicts = self._verdicts(streams)
        result.clean_rejected = clean_rejections(launched, observed)
        result.false_alarms = false_alarms(launched, observed, access.pump_ids)
        result.access = access.outcome(observed)
        result.alerts = streams.deliveries.outcome()

    def _await(
        self,
        title: str,
        missing: wait.Missing,
        deadline_s: float,
        alive: Callable[[], None],
        *,
        problem: bool = True,
    ) -> None:
        with self.show.phase(title) as phase:
            try:
                wait.wait_until_none(missing, deadline_s, on_wait=phase.update, alive=alive)
            except wait.OverdueError as error:
                phase.fail(str(error))
                if problem:
                    self.result.problems.append(f"{title.lower()}: {error}; {self._where_to_look()}")

    # ---- what it looks at ------------------------------------------------------------------------------

    def _verdicts(self, streams: Streams) -> list[Verdict]:
        launched = list(streams.traffic.launched.values())
        return judge(
            launched,
            streams.observed,
            streams.traffic.last_telemetry_s,
            self.settings.silence_after_s,
            self.settings.incident_devices,
        )

    def _snapshot(self, streams: Streams, looks: SlowLooks) -> Snapshot:
        looks.refresh()
        observed, traffic = streams.observed, streams.traffic
        submitted, confirmed = observed.anchor_counts()
        verdicts = self._verdicts(streams)
        with observed.lock:
            rejected, findings = dict(observed.books.rejected), dict(observed.opened)
            last = max((a.at_s for a in observed.anchors if a.status == "CONFIRMED"), default=None)
            permitted, denied = observed.decided.permitted, observed.decided.denied.total()
        return Snapshot(
            elapsed_s=traffic.elapsed_s(),
            seconds=self.options.seconds,
            devices=self.options.devices,
            produced=streams.produced(),
            rate_hz=looks.rate_hz(traffic.produced),
            accepted=observed.books.accepted,
            rejected=rejected,
            in_flight=max(0, observed.books.in_flight),
            permitted=permitted,
            denied=denied,
            access=streams.access.now(),
            findings=findings,
            alerts=observed.told.alerts,
            told=streams.deliveries.now(),
            shards=looks.shards,
            leaves=looks.leaves,
            submitted=submitted,
            confirmed=confirmed,
            anchored=observed.confirmed_size(),
            anchor_age_s=None if last is None else time.monotonic() - last,
            attacks=(sum(v.found for v in verdicts), len(verdicts), traffic.planned),
            unwell=looks.unwell,
        )

    def _check_stack(self) -> None:
        if not self.stack.alive():
            raise PipelineError(f"the stack has ended; {self._where_to_look()}")

    def _where_to_look(self) -> str:
        return f"see the logs in {self.settings.data_dir / 'run'}"


def _unfound(verdicts: list[Verdict]) -> str:
    return ", ".join(v.name for v in verdicts if not v.found)
