"""The scenario: real stages under steady traffic, a broker taken away again and again, then the books."""

import contextlib
import statistics
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Self

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
from tests.faults.machine.trio.observer import Observer, longest_gap_s
from tests.faults.machine.trio.roles import TARGETS, Roles
from tests.faults.machine.workload import MIXES, Workload
from tests.faults.machine.zygote import Zygote

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


@dataclass(slots=True)
class Kill:
    """One broker taken away, and what came of it."""

    target: str
    node: int
    way: str
    """`kill` (SIGKILL, started again) or `pause` (SIGSTOP past every time-out, SIGCONT)."""
    away_s: float
    gap_s: float = 0.0
    """Longest time without a committed output of a partition, seen by a consumer; the worst partition."""
    sealed_gap_s: float = 0.0
    """The same of published checkpoints."""
    back_s: float = 0.0
    """From the kill until every partition had news and every replica was in sync again."""
    session_failures: int = 0
    story: list[str] = field(default_factory=list)
    """What the workers logged meanwhile, with seconds since the kill."""


@dataclass(slots=True)
class Report:
    """What `build/trio.json` holds."""

    seed: int
    kills: list[Kill] = field(default_factory=list)
    records: int = 0
    accepted: int = 0
    session_failures: int = 0
    worker_restarts: int = 0
    watchdog_ends: int = 0
    endings: list[str] = field(default_factory=list)
    violations: list[dict[str, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The report with its summary first."""
        return {"gap_s": _summary([k.gap_s for k in self.kills]), **asdict(self)}


def _summary(gaps: Sequence[float]) -> dict[str, float]:
    if not gaps:
        return {}
    return {"p50": round(statistics.median(gaps), 2), "max": round(max(gaps), 2)}


class Trio:
    """A context manager around all that runs; the brokers' lives are tied to the thread that uses it."""

    def __init__(self, folder: Path, seed: int, console: Console) -> None:
        self.report = Report(seed)
        self._folder, self._rng, self._console = folder, Random(seed), console
        self._cluster = Cluster(folder)
        self._sent: list[Sent] = []
        self._sending = threading.Event()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            zygote = undo.enter_context(Zygote(tuple(WORKERS)))
            undo.callback(self._cluster.stop)
            self._cluster.start()
            settings = self._settings = Settings(
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
        settings, log_dir = self._settings, self._settings.data_dir / "log"
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
        return self.report

    def _take_away(self, target: str, way: str) -> Kill:
        time.sleep(BETWEEN_S + self._rng.random())
        node = TARGETS[target](self._roles)
        away_s = self._rng.uniform(*(AWAY_S if way == "kill" else STILL_S))
        kill = Kill(target, node, way, round(away_s, 2))
        begin, begin_unix = time.monotonic(), time.time()
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
        told = [line for line in self._crew.told() if line.at_s >= begin_unix]
        kill.gap_s = round(longest_gap_s(self._observer.committed, begin, end), 2)
        kill.sealed_gap_s = round(longest_gap_s(self._observer.published, begin, end), 2)
        kill.back_s = round(end - begin, 2)
        kill.session_failures = sum(line.event.startswith("session failed") for line in told)
        kill.story = [
            f"{line.at_s - begin_unix:6.2f} s {line.worker}: {line.event} {line.error}".strip()
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
                    waiting = self._oracle.pending(self._sent)
            time.sleep(0.1)
        self._watcher.look()
        for found in [*self._oracle.check(self._sent), *self._watcher.violations()]:
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

    # ---- around it -------------------------------------------------------------------------------------

    def _send(self) -> None:
        while not self._sending.wait(STEP_S):
            if self._traffic.underway < MOST_UNDERWAY:
                for _ in range(round(RATE_PER_S * STEP_S)):
                    self._traffic.send(MIXES["usual"])

    def _tell(self, invariant: str, what: str) -> None:
        self._take(Violation(invariant, what))

    def _take(self, violation: Violation) -> None:
        self.report.violations.append({"invariant": violation.invariant, "what": violation.what})
        self._console.print(f"violated: {violation}", markup=False, highlight=False)

    def _show(self, number: int, kill: Kill) -> None:
        self._console.print(
            f"{number:3} {kill.target:11} broker {kill.node} {kill.way:5} {kill.away_s:5.1f} s  "
            f"gap {kill.gap_s:5.2f} s, sealed {kill.sealed_gap_s:5.2f} s, whole after {kill.back_s:5.1f} s, "
            f"{kill.session_failures} sessions failed",
            highlight=False,
        )
        for line in kill.story:
            self._console.print(f"      {line}", markup=False, highlight=False)
