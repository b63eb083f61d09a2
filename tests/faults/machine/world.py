"""A world: a broker of its own, one log, forked workers with somebody who restarts them, and traffic.

Schedules follow one another in it, on the log as it grows. What the local stack's supervisor does for a user
(starting what has ended) a thread does here, so that it can be told to leave a worker dead or another paused.
"""

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline import kafka, topics
from pipeline.authority import Authority
from pipeline.local import kafka as local_kafka
from pipeline.local.process import stop
from pipeline.settings import Settings
from pipeline.trust import init_local, load_trust, trust_path
from tests.faults.machine.ledger import Sent, Violation
from tests.faults.machine.oracle import Oracle, Watcher
from tests.faults.machine.seams import Seam, struck_by
from tests.faults.machine.workload import MIXES, Workload
from tests.faults.machine.zygote import Worker, Zygote
from tests.kit.brokerfault import has_broker_fault

SESSION_S = 2.0
TRANSACTION_S = 4.0
PARTITIONS = 2
DEVICES = 12
RESTART_AFTER_S = 0.05
STARTS_WITHIN_S = 20.0
STRUCK_WITHIN_S = 4.0
SETTLE_PAUSE_S = 0.15
"""Each look asks the broker for the ends of all topics."""
FOUND_S = 10.0
"""A schedule that has found something settles for so long at most."""
BROKEN_S = 60.0
"""A broker that broke its own log is waited for no longer: what is found in its world is void in any case."""
SKIPPED_S = 3 * TRANSACTION_S
"""A verdict may show so much later than the next: an open transaction hides what is behind it."""
Place = tuple[str, int]

EXPECTED_ENDINGS = ("SupersededError", "_FATAL", "_FENCED", "FENCED_INSTANCE_ID", "fenced", "the loop hangs")
"""What a worker may end with by itself: it has a successor, or it hung and says so."""


class World:
    """A context manager; use it from one thread, which the broker's life is tied to."""

    def __init__(
        self, folder: Path, zygote: Zygote, seed: int, broken: str = "", seams: Collection[str] = ()
    ) -> None:
        self.folder, self.rng, self._zygote, self._broken = folder, random.Random(seed), zygote, broken
        self._seams = seams
        """Where faults at named points strike; empty for anywhere."""
        self.data_dir = folder / "data"
        self.base = tuple(
            (stage, slot) for stage in ("ingest", "seal") for slot in range(self.rng.randint(1, 2))
        )
        """The workers that it has when nothing is wrong: one or two of each stage."""
        self.faults: dict[str, int] = {}
        self.violations: list[Violation] = []
        self.sent: list[Sent] = []
        self.restarts = 0
        self.tolerate_endings = False
        """Set by faults after which a stage may end as it likes, such as a full disk."""
        self._workers: dict[Place, Worker] = {}
        self._wanted: set[Place] = set()
        self._held: set[Place] = set()
        self._marked: set[Place] = set()
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._traffic: threading.Thread | None = None
        self._traffic_ends = threading.Event()

    # ---- life ------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            self._broker = local_kafka.Broker(self.data_dir)
            self._broker.extra_properties = {
                "group.min.session.timeout.ms": "500",
                "log.initial.task.delay.ms": "1000",
            }
            undo.enter_context(self._broker.owned())
            self._broker.prepare()
            self._broker_process = local_kafka.start(self._broker)
            undo.callback(lambda: stop(self._broker_process, 5))
            undo.callback(self.resume_broker)
            self.settings = self._make_settings()
            self.admin = kafka.admin(self.settings)
            topics.apply(self.admin, self.settings)
            init_local(self.settings)
            authority = Authority(self.settings)
            undo.callback(authority.close)
            self.producer = kafka.producer(
                self.settings, **{"message.timeout.ms": 0, "message.max.bytes": 2_000_000, "linger.ms": 2}
            )
            name = self.settings.log_name
            self.traffic = Workload(self.producer, authority, name, PARTITIONS, self.rng)
            self.traffic.enroll(DEVICES)
            trust = load_trust(trust_path(self.settings))
            log_dir = self.data_dir / "log"
            self.oracle = Oracle(self.settings.bootstrap(), log_dir, name, trust.log_keys[0], PARTITIONS)
            undo.callback(self.oracle.close)
            self.watcher = Watcher(log_dir, name, trust.log_keys[0])
            self.watcher.start()
            undo.callback(self.watcher.stop)
            undo.callback(self._end_workers)
            for place in self.base:
                self.want(*place)
            threading.Thread(target=self._supervise, name="supervisor", daemon=True).start()
            undo.callback(self._stop.set)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_traffic()
        self._undo.close()

    def _make_settings(self) -> Settings:
        return Settings(
            data_dir=self.data_dir,
            log_name=f"faults-{self.rng.getrandbits(32):08x}.example",
            bootstrap_servers=self._broker.bootstrap_servers,
            partitions=PARTITIONS,
            session_timeout_s=SESSION_S,
            transaction_timeout_s=TRANSACTION_S,
            tick_interval_s=0.2,
            topic_check_s=0.5,
            silence_after_s=1.5,
            batch_records=200,
            checkpoint_interval_s=0.2,
            anchor_interval_s=0.5,
            partial_tile_grace_s=1.0,
        )

    def at_end(self, undo: Callable[[], object]) -> None:
        """Have something undone when the world ends, before its processes do."""
        self._undo.callback(undo)

    def draw_seam(self, rng: random.Random, among: Sequence[str]) -> str:
        """Choose the named point at which a fault strikes."""
        return rng.choice([at for at in among if at in self._seams] or among)

    def count(self, kind: str) -> None:
        """Note an injected fault."""
        self.faults[kind] = self.faults.get(kind, 0) + 1

    def published_size(self, topic: str, number: int) -> int:
        """Leaves under the published checkpoint of a shard; 0 before the first."""
        try:
            text = (self.data_dir / "log" / topic / str(number) / "checkpoint").read_text()
        except FileNotFoundError:
            return 0
        return int(text.split("\n")[1])

    def read_on(self) -> None:
        """Let the oracle read all there is now: what comes next may take it away."""
        self.sent += self.traffic.acknowledged()
        self.oracle.pending(self.sent)

    def expect_stop(self, topic: str) -> None:
        """From here on the shards of a topic must stop, say so, and sign nothing more."""
        self.oracle.retire(topic)

    def tell(self, invariant: str, what: str) -> None:
        """Note a violation."""
        self.violations.append(Violation(invariant, what))

    # ---- workers ---------------------------------------------------------------------------------------

    def worker(self, stage: str, slot: int = 0) -> Worker | None:
        """The living worker of a place, or None."""
        with self._lock:
            worker = self._workers.get((stage, slot))
            return worker if worker is not None and worker.is_alive else None

    def want(self, stage: str, slot: int = 0) -> None:
        """Let a place have a worker from now on."""
        with self._lock:
            self._wanted.add((stage, slot))
            self._held.discard((stage, slot))
            if self.worker(stage, slot) is None:
                self._spawn((stage, slot))

    def unwant(self, stage: str, slot: int) -> Worker | None:
        """Let a place have none; its worker, if any, is the caller's to end."""
        with self._lock:
            self._wanted.discard((stage, slot))
            return self.worker(stage, slot)

    def hold(self, stage: str, slot: int = 0) -> None:
        """Do not restart this place until `release`."""
        with self._lock:
            self._held.add((stage, slot))

    def release(self, stage: str, slot: int = 0) -> None:
        """Restart it as usual."""
        with self._lock:
            self._held.discard((stage, slot))

    def kill(self, stage: str, slot: int = 0) -> None:
        """SIGKILL, then look at what is published before anybody repairs it."""
        worker = self.worker(stage, slot)
        if worker is not None:
            worker.kill()
            self.watcher.look()

    def respawn(
        self,
        stage: str,
        slot: int = 0,
        *,
        seams: Sequence[Seam] = (),
        clock_step_s: float = 0.0,
        transaction_s: float = TRANSACTION_S,
    ) -> Worker:
        """Kill the worker of a place and start another with seams, a wrong clock or longer transactions."""
        with self._lock:
            self._wanted.add((stage, slot))
            self.kill(stage, slot)
            self._marked.add((stage, slot))
            return self._spawn((stage, slot), seams, clock_step_s, transaction_s)

    def _spawn(
        self,
        place: Place,
        seams: Sequence[Seam] = (),
        clock_step_s: float = 0.0,
        transaction_s: float = TRANSACTION_S,
    ) -> Worker:
        log = self.folder / f"{place[0]}-{place[1]}.log"
        settings = self.settings.model_copy(update={"transaction_timeout_s": transaction_s})
        worker = self._zygote.spawn(
            place[0], settings, place[1],
            seams=seams, broken=self._broken, clock_step_s=clock_step_s, log=log,
        )  # fmt: skip
        self._workers[place] = worker
        return worker

    def _supervise(self) -> None:
        while not self._stop.wait(0.05):
            with self._lock:
                for place in sorted(self._wanted - self._held):
                    worker = self._workers.get(place)
                    if worker is None or not worker.is_alive:
                        self._note_ending(place, worker)
                        self._marked.discard(place)
                        self.restarts += 1
                        self._stop.wait(RESTART_AFTER_S)
                        self._spawn(place)

    def _note_ending(self, place: Place, worker: Worker | None) -> None:
        """An ending that no fault explains is a fault of the stage."""
        self.watcher.look()
        if worker is None or worker.exit_code in (None, 0, -signal.SIGKILL) or self.tolerate_endings:
            return
        text = (self.folder / f"{place[0]}-{place[1]}.log").read_text(errors="replace")[-3000:]
        if not any(known in text for known in EXPECTED_ENDINGS):
            self.tell("crash", f"{place} ended with {worker.exit_code}: {text[-600:]}")

    def _end_workers(self) -> None:
        with self._lock:
            self._wanted.clear()
            workers = [w for w in self._workers.values() if w.is_alive]
        for worker in workers:
            worker.kill()

    def says(self, worker: Worker) -> str:
        """A worker's state and what it adds, by its own word; empty before the first."""
        name = worker.stage if worker.slot == 0 else f"{worker.stage}-{worker.slot}"
        try:
            health = json.loads((self.data_dir / "run" / f"{name}.health.json").read_text())
        except (OSError, ValueError):
            return ""
        return f"{health['state']}: {health['detail']}" if health["pid"] == worker.pid else ""

    def runs(self, worker: Worker) -> bool:
        """Whether a worker says of itself that it does its work."""
        return self.says(worker).startswith("running")

    def is_struck(self, worker: Worker) -> bool:
        """Whether a worker has come to a seam at which it was to be struck, or has ended."""
        log = self.folder / f"{worker.stage}-{worker.slot}.log"
        return not worker.is_alive or struck_by(worker.pid) in log.read_text(errors="replace")

    def wait_struck(self, worker: Worker, within_s: float = STRUCK_WITHIN_S) -> bool:
        """Wait until a worker has come to its seam, so long from when it does its work; False if it does not.

        How long it takes to start depends on the machine alone.
        """
        self.wait_for(lambda: self.is_struck(worker) or self.runs(worker), STARTS_WITHIN_S)
        return self.wait_for(lambda: self.is_struck(worker), within_s)

    # ---- the broker ------------------------------------------------------------------------------------

    def kill_broker(self) -> None:
        """SIGKILL."""
        self._broker_process.kill()
        self._broker_process.wait()

    def start_broker(self) -> None:
        """Start it again and wait until it answers; BrokerFailedError, early where its own log is broken."""
        patience_ends = time.monotonic() + BROKEN_S
        self._broker_process = local_kafka.start(
            self._broker, lambda: time.monotonic() > patience_ends and self.has_broker_fault
        )

    @property
    def is_broker_gone(self) -> bool:
        """It has ended, by itself or not."""
        return self._broker_process.poll() is not None

    @property
    def has_broker_fault(self) -> bool:
        """It broke its own log (docs/faults.md)."""
        return has_broker_fault(self.data_dir)

    def pause_broker(self) -> None:
        """SIGSTOP."""
        os.kill(self._broker_process.pid, signal.SIGSTOP)

    def resume_broker(self) -> None:
        """SIGCONT."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._broker_process.pid, signal.SIGCONT)

    # ---- traffic ---------------------------------------------------------------------------------------

    def begin_traffic(self, mix: str, rate_per_s: float) -> None:
        """Send in the background until `end_traffic`."""
        self.end_traffic()
        self._traffic_ends.clear()
        self._traffic = threading.Thread(target=self._send, args=(mix, rate_per_s), name="traffic")
        self._traffic.start()

    def end_traffic(self) -> None:
        """Stop sending; what is under way stays so."""
        self._traffic_ends.set()
        if self._traffic is not None:
            self._traffic.join()
            self._traffic = None

    @property
    def is_sending(self) -> bool:
        """Traffic is under way."""
        return self._traffic is not None

    def burst(self, mix: str, count: int) -> None:
        """Send so many records at once."""
        for _ in range(count):
            self.traffic.send(MIXES[mix])

    def _send(self, mix: str, rate_per_s: float) -> None:
        # Few pieces keep the broker cheap, many keep the batches small.
        step_s = self.traffic.rng.choice((0.05, 0.1, 0.3))
        while not self._traffic_ends.wait(step_s):
            if self.traffic.underway < 2000:
                self.burst(mix, max(1, round(rate_per_s * step_s)))

    # ---- the end of a schedule -------------------------------------------------------------------------

    def heal(self) -> None:
        """Take every fault back: nothing paused, nothing held, no seam left, the usual workers."""
        self.resume_broker()
        if self.is_broker_gone:
            self.start_broker()
        with self._lock:
            self._held.clear()
            for worker in self._workers.values():
                worker.resume()
            for place in list(self._marked):
                self.kill(*place)  # the supervisor starts it again without seams
            surplus = [place for place in self._wanted if place not in self.base]
        for place in surplus:
            extra = self.unwant(*place)
            if extra is not None:
                extra.kill()
        for place in self.base:
            self.want(*place)

    def settle(self, deadline_s: float) -> None:
        """Wait until everything that was sent is judged and sealed; a violation where it never is.

        Not to the deadline where records were passed over, since a stage that did that never comes back to
        them, nor where what is published was seen to be wrong or the broker broke its log, since neither may
        ever go on.
        """
        began_at, until = time.monotonic(), time.monotonic() + deadline_s
        waiting = "records that the broker has not acknowledged"
        skipped: Sequence[object] = ()
        skipped_at = time.monotonic()
        while time.monotonic() < until:
            if self.is_broker_gone:  # of a disk that was full it may die long after there is room again
                self.start_broker()
            self.sent += self.traffic.acknowledged()
            if not self.traffic.underway:
                waiting = self.oracle.pending(self.sent)
                if not waiting:
                    return
                skipped, before = self.oracle.skipped(), skipped
                if not skipped or skipped != before:
                    skipped_at = time.monotonic()
                elif time.monotonic() - skipped_at > SKIPPED_S:
                    self.tell("skipped", f"{waiting}, while those behind them have one")
                    return
            if self.watcher.has_found:
                until = min(until, began_at + FOUND_S)
            if self.has_broker_fault:
                until = min(until, began_at + BROKEN_S)
            for each in list(self._workers.values()):
                if each.is_paused:
                    each.resume()
            time.sleep(SETTLE_PAUSE_S)
        for each in list(self._workers.values()):
            each.dump()
        self.tell("stalled", f"after {until - began_at:.0f} s: {waiting}; {self._states()}")

    def judge(self) -> list[Violation]:
        """Ask the oracle about everything up to now, and take what was found meanwhile."""
        self.watcher.look()
        found = [
            *self.violations,
            *self.oracle.check(self.sent, self.watcher.seen),
            *self.watcher.violations(),
            *(Violation("refused", f"by the broker: {why}") for why in self.traffic.refused),
        ]
        self.violations = []
        self.traffic.refused.clear()
        self.sent = []
        return found

    def wait_for(self, probe: Callable[[], bool], deadline_s: float) -> bool:
        """Poll; False at the deadline, for the caller to go on otherwise."""
        until = time.monotonic() + deadline_s
        while time.monotonic() < until:
            if probe():
                return True
            time.sleep(0.01)
        return False

    def _states(self) -> str:
        texts = []
        for stage, slot in sorted(self._workers):
            name = stage if slot == 0 else f"{stage}-{slot}"
            with contextlib.suppress(OSError):
                texts.append((self.data_dir / "run" / f"{name}.health.json").read_text())
        return "; ".join(texts)
