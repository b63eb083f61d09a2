"""The scenario: real stages under steady traffic, a broker taken away again and again, then the books."""

import contextlib
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Self

from confluent_kafka import KafkaException
from rich.console import Console

from pipeline import kafka, topics
from pipeline.authority import Authority
from pipeline.settings import Settings
from pipeline.trust import init_local, load_trust, trust_path
from tests.faults.machine.ledger import Sent, Violation
from tests.faults.machine.oracle import Oracle, Watcher
from tests.faults.machine.trio.cluster import Cluster, ClusterError
from tests.faults.machine.trio.crew import Crew
from tests.faults.machine.trio.observer import LeaderWatch, Observer, longest_gap_s
from tests.faults.machine.trio.placing import place
from tests.faults.machine.trio.report import Kill, Report
from tests.faults.machine.trio.roles import TARGETS, Roles
from tests.faults.machine.workload import MIXES, Workload
from tests.faults.machine.zygote import Zygote
from tests.kit.deployment import read_topic

PARTITIONS = 4
DEVICES = 32
WORKERS = {"ingest": 2, "seal": 1}
RATE_PER_S = 200.0
STEP_S = 0.02
MOST_UNDERWAY = 5000
READY_DEADLINE_S = 90.0
BACK_DEADLINE_S = 120.0
"""From a kill until every partition has news again and all replicas are in sync; later is a violation."""
SETTLE_DEADLINE_S = 90.0
LEAVE_DEADLINE_S = 10.0
"""What a stage may take to leave on SIGTERM."""
BETWEEN_S = 1.0
AWAY_S = (1.0, 4.0)
"""A killed broker is started again after so long."""
STILL_S = (11.0, 14.0)
"""A paused one goes on after so long: past the session's and the transaction's time-outs."""
PAUSE_EVERY = 5
"""Every so-manieth broker is paused instead of killed."""


class Trio:
    """A context manager around all that runs; the brokers' lives are tied to the thread that uses it."""

    def __init__(self, folder: Path, seed: int, console: Console, rate_per_s: float = RATE_PER_S) -> None:
        self.report = Report(seed)
        self._rate_per_s = rate_per_s
        self._folder, self._rng, self._console = folder, Random(seed), console
        self._cluster = Cluster(folder)
        self._sent: list[Sent] = []
        self._sending = threading.Event()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            zygote = undo.enter_context(Zygote(tuple(WORKERS)))
            undo.callback(self._cluster.stop)
            self._cluster.start()
            settings = self.settings = Settings(
                data_dir=self._folder / "data",
                log_name=f"trio-{self._rng.getrandbits(32):08x}.example",
                bootstrap_servers=self._cluster.bootstrap_servers,
                partitions=PARTITIONS,
                replication_factor=3,
                silence_after_s=300.0,
                checkpoint_interval_s=0.5,
                anchor_interval_s=2.0,
            )
            topics.apply(kafka.admin(settings), settings)
            init_local(settings)
            authority = undo.enter_context(contextlib.closing(Authority(settings)))
            # Its batches go one by one, as those of all our producers: with more in flight librdkafka now and
            # then writes one twice when its leader moves, and knows of one (its issue 4953).
            producer = kafka.producer(settings, **{"message.timeout.ms": 0, "message.max.bytes": 2_000_000})
            self._traffic = Workload(producer, authority, settings.log_name, PARTITIONS, self._rng)
            self._traffic.enroll(DEVICES)
            self._watch(undo)
            self._crew = Crew(zygote, settings, self._folder)
            undo.callback(self._crew.stop)
            self._crew.start(WORKERS)
            self._roles = Roles(
                self._cluster, settings.log_name, PARTITIONS, WORKERS["ingest"], Random(self._rng.random())
            )
            thread = threading.Thread(target=self._send, name="traffic", daemon=True)
            undo.callback(thread.join)
            undo.callback(self._sending.set)
            thread.start()
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_exit: object) -> None:
        self._undo.close()

    def _watch(self, undo: ExitStack) -> None:
        settings, log_dir = self.settings, self.settings.data_dir / "log"
        key = load_trust(trust_path(settings)).log_keys[0]
        self._oracle = undo.enter_context(
            contextlib.closing(Oracle(settings.bootstrap(), log_dir, settings.log_name, key, PARTITIONS))
        )
        self._watcher = Watcher(log_dir, settings.log_name, key)
        self._watcher.start()
        undo.callback(self._watcher.stop)
        self._observer = Observer(settings.bootstrap(), log_dir, PARTITIONS)
        self._observer.start()
        undo.callback(self._observer.stop)

    # ---- the story -------------------------------------------------------------------------------------

    def run(self, kills: int, targets: Sequence[str]) -> Report:
        """Take brokers away, one at a time, and check the books."""
        started = time.monotonic()
        self._wait_until_served(started, READY_DEADLINE_S)
        self._console.print(f"ready after {time.monotonic() - started:.1f} s", highlight=False)
        for number in range(kills):
            way = "pause" if number % PAUSE_EVERY == PAUSE_EVERY - 1 else "kill"
            kill = self._take_away(targets[number % len(targets)], way)
            self.report.kills.append(kill)
            self._show(number + 1, kill)
            if self.report.violations:
                break
        self._settle()
        self.report.seconds = round(time.monotonic() - started, 1)
        return self.report

    def _take_away(self, target: str, way: str) -> Kill:
        time.sleep(BETWEEN_S + self._rng.random())
        node = TARGETS[target](self._roles)
        away_s = self._rng.uniform(*(AWAY_S if way == "kill" else STILL_S))
        kill = Kill(target, node, way, round(away_s, 2))
        begin, begin_unix = time.monotonic(), time.time()
        with LeaderWatch(self._cluster.bootstrap_servers, node) as leaders:
            if way == "kill":
                self._cluster.kill(node)
                time.sleep(away_s)
                self._cluster.revive(node)
            else:
                self._cluster.pause(node)
                time.sleep(away_s)
                self._cluster.resume(node)
            self._wait_until_served(begin + away_s, BACK_DEADLINE_S)
        end = time.monotonic()
        kill.led_s = leaders.moved_after_s
        told = [line for line in self._crew.told() if line.at_s >= begin_unix]
        kill.gap_s = round(longest_gap_s(self._observer.committed, begin, end), 2)
        kill.sealed_gap_s = round(longest_gap_s(self._observer.published, begin, end), 2)
        kill.back_s = round(end - begin, 2)
        kill.session_failures = sum(line.event.startswith("session failed") for line in told)
        kill.story = [
            f"{line.at_s - begin_unix:6.2f} s {line.worker}: {line.event} {line.more}".strip()
            for line in told
        ]
        return kill

    def _wait_until_served(self, since: float, deadline_s: float) -> None:
        """Wait until every partition has had news since then and the cluster is whole."""
        until = time.monotonic() + deadline_s
        while not self._observer.has_seen_all(since):
            if time.monotonic() > until:
                self._crew.dump()
                self._tell(
                    "stalled", f"a partition had no news for {deadline_s:.0f} s after a broker was taken"
                )
                return
            time.sleep(0.05)
        try:
            self._cluster.wait_until_whole(max(1.0, until - time.monotonic()))
        except ClusterError as error:
            self._tell("cluster", str(error))

    def _settle(self) -> None:
        """End the traffic, wait until all of it is judged and sealed, and check everything."""
        self._sending.set()
        until, waiting = time.monotonic() + SETTLE_DEADLINE_S, "records that no broker has acknowledged"
        while waiting:
            if time.monotonic() > until:
                self._crew.dump()
                self._tell("stalled", f"after {SETTLE_DEADLINE_S:.0f} s: {waiting}")
                break
            self._sent += self._traffic.acknowledged()
            if not self._traffic.underway:
                with contextlib.suppress(KafkaException):
                    self._place()
                    waiting = self._oracle.pending(self._sent)
            time.sleep(0.1)
        self._watcher.look()
        for found in [*self._oracle.check(self._sent, self._watcher.seen), *self._watcher.violations()]:
            self._take(found)
        self._crew.stop()
        for late in self._crew.terminate(LEAVE_DEADLINE_S):
            self._tell("leaving", late)
        report = self.report
        report.records = len(self._sent)
        report.accepted = sum(sent.verdict == "accepted" for sent in self._sent)
        report.session_failures = sum(line.event.startswith("session failed") for line in self._crew.told())
        report.worker_restarts = self._crew.restarts
        report.watchdog_ends, report.endings = self._crew.watchdog_ends, self._crew.endings

    def _place(self) -> None:
        """Find where records stand that were acknowledged without an offset."""
        unplaced = self._traffic.unplaced
        if not unplaced:
            return
        names = {each.topic for each in unplaced}
        records = [record for name in names for record in read_topic(self.settings, name)]
        placed = place(unplaced, self._sent, records)
        if len(placed) < len(unplaced):
            self._tell("lost", f"{len(unplaced) - len(placed)} acknowledged records are in no topic")
        self._sent += placed
        unplaced.clear()

    # ---- around it -------------------------------------------------------------------------------------

    def _send(self) -> None:
        while not self._sending.wait(STEP_S):
            if self._traffic.underway < MOST_UNDERWAY:
                for _ in range(max(1, round(self._rate_per_s * STEP_S))):
                    self._traffic.send(MIXES["usual"])

    def _tell(self, invariant: str, what: str) -> None:
        self._take(Violation(invariant, what))

    def _take(self, violation: Violation) -> None:
        self.report.violations.append({"invariant": violation.invariant, "what": violation.what})
        self._console.print(f"violated: {violation}", markup=False, highlight=False)

    def _show(self, number: int, kill: Kill) -> None:
        led = "led by others: not seen" if kill.led_s is None else f"led by others after {kill.led_s:4.1f} s"
        self._console.print(
            f"{number:3} {kill.target:11} broker {kill.node} {kill.way:5} {kill.away_s:5.1f} s  "
            f"{led}, gap {kill.gap_s:5.2f} s, sealed {kill.sealed_gap_s:5.2f} s, "
            f"whole after {kill.back_s:5.1f} s, {kill.session_failures} sessions failed",
            highlight=False,
        )
        for line in kill.story:
            self._console.print(f"      {line}", markup=False, highlight=False)
