"""DEMO: start everything, stream, attack, wait, and then believe nothing that was not read back.

The story: stack up, devices enrolled, vitals and attacks streamed, everything judged, sealed and anchored;
books counted from the topics, evidence for a random event verified, one byte of a copy flipped and found.
"""

import random
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape

from loadtests.attacks import Scene
from loadtests.fleet import KEY_ID, Fleet, Outgoing, device_identity
from pipeline.authority import Authority, NewKey
from pipeline.demo import wait
from pipeline.demo.books import read_books
from pipeline.demo.observed import Observed, Watcher, ends
from pipeline.demo.report import Result
from pipeline.demo.show import Show, Snapshot
from pipeline.demo.tamper import TamperError, published_logs, tamper_with_copy
from pipeline.demo.traffic import Traffic, schedule
from pipeline.demo.verdicts import Verdict, clean_rejections, false_alarms, judge
from pipeline.evidence import prove
from pipeline.local.stack import LocalStack
from pipeline.settings import PipelineError, Settings
from pipeline.topics import EVENTS
from pipeline.trust import load_trust, trust_path
from pipeline.verify import verify
from schemas.envelope import PayloadKind
from schemas.evidence import parse_evidence

START_DELAY_S = 0.5
BOARD_EVERY_S = 0.25
SLOW_LOOK_EVERY_S = 1.0
FOUND_DEADLINE_S = 30.0
WARDS = ("icu-1", "icu-2", "icu-3", "step-down")


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line asked for."""

    seconds: float
    devices: int
    rate_hz: float
    attacks: bool
    seed: int


class Demo:
    """One run against one stack; `result` fills as the story goes on."""

    def __init__(self, settings: Settings, options: DemoOptions, show: Show, stack: LocalStack) -> None:
        self.settings, self.options, self.show, self.stack = settings, options, show, stack
        self.result = Result()
        self._rng = random.Random(options.seed)  # noqa: S311 - chance, not secrecy
        self._boot = int(time.time())
        # The boot in the seed: a second run in one data folder has devices of its own.
        self._seed = (options.seed << 32) + self._boot

    # ---- the story -------------------------------------------------------------------------------------

    def run(self) -> Result:
        """Play the demo on a stack that is up."""
        show, result = self.show, self.result
        with show.phase("Enrolling the monitors") as phase:
            scene = self._enroll()
            phase.outcome = f"{self.options.devices} registered, one more registered and revoked"
        observed = Observed(ends(self.settings), self._rng)
        with Watcher(self.settings, observed) as watcher:
            traffic = self._stream(observed, scene, watcher)
            self._drain(observed, traffic, watcher)
        result.submitted, result.confirmed = observed.anchor_counts()
        result.last_lag_s = observed.last_lag_s()
        result.findings = dict(observed.opened)
        logs = published_logs(self.settings.data_dir / "log")
        result.shards, result.leaves = len(logs), sum(log.checkpoint.size for log in logs)
        self._count_books(observed)
        self._prove(observed)
        self._tamper()
        return result

    def _enroll(self) -> Scene:
        count = self.options.devices
        *fleet, stolen = (device_identity(self._seed, index) for index in range(count + 1))
        authority = Authority(self.settings)
        try:
            devices: list[tuple[str, NewKey, Mapping[str, str]]] = [
                (i.did, NewKey(KEY_ID, i.public_key), _attributes(n)) for n, i in enumerate(fleet)
            ]
            authority.enroll_many(devices)
            key = NewKey(KEY_ID, stolen.public_key)
            value = authority.enroll(stolen.did, key, _attributes(count))
            authority.revoke(stolen.did, KEY_ID, time.time_ns() // 1000)
        finally:
            authority.close()
        simulated = Fleet(
            count,
            audience=self.settings.log_name,
            seed=self._seed,
            start_us=int((time.time() + START_DELAY_S) * 1e6),
            rate_hz=self.options.rate_hz,
            boot=self._boot,
        )
        return Scene(
            simulated,
            self._rng,
            self.settings.partitions,
            simulated.spare(0, boot=self._boot),
            Outgoing(PayloadKind.REGISTRY_ENTRY, stolen.did.encode(), value, stolen.did),
        )

    def _stream(self, observed: Observed, scene: Scene, watcher: Watcher) -> Traffic:
        planned = schedule(self._rng, self.options.seconds) if self.options.attacks else []
        traffic = Traffic(self.settings, scene, planned, self.options.seconds)
        title = f"Streaming vitals for {self.options.seconds:g} s"
        looks = _SlowLooks(self.settings, self.stack)
        begun_s = time.monotonic()
        with self.show.board(title) as board:
            try:
                traffic.start()
                while not traffic.finished():
                    watcher.check()
                    self._check_stack()
                    board.update(self._snapshot(observed, traffic, looks))
                    time.sleep(BOARD_EVERY_S)
            except BaseException:
                traffic.stop()
                raise
        self.result.produced = traffic.produced
        self.result.problems += [f"not delivered: {text}" for text in traffic.failures[:5]]
        with observed.lock:
            observed.gone = frozenset(m.device_id for m in scene.fleet.monitors if not m.silenced)
            observed.gone_us = time.time_ns() // 1000
        with self.show.phase(title, begun_s) as phase:
            phase.outcome = f"{traffic.produced:,} records, {len(traffic.launched)} attacks"
        return traffic

    def _drain(self, observed: Observed, traffic: Traffic, watcher: Watcher) -> None:
        def alive() -> None:
            watcher.check()
            self._check_stack()

        interval_s = self.settings.anchor_interval_s
        self._await(
            "Waiting until all are judged", wait.unjudged(observed, traffic), wait.JUDGED_DEADLINE_S, alive
        )
        wanted = observed.sealed_by_origin(self.settings.log_name)
        self._await(
            "Waiting until all are sealed",
            wait.unsealed(self.settings, wanted),
            wait.SEALED_DEADLINE_S,
            alive,
        )
        deadline_s = 3 * interval_s + 45
        self._await("Waiting until all is anchored", wait.unanchored(observed, wanted), deadline_s, alive)
        if traffic.launched:
            self._await(
                "Waiting for the last findings",
                lambda: _unfound(self._verdicts(observed, traffic)),
                self.settings.silence_after_s + FOUND_DEADLINE_S,
                alive,
                problem=False,  # each attack that was not found is named in the table
            )
        self.result.verdicts = self._verdicts(observed, traffic)
        self.result.clean_rejected = clean_rejections(traffic.launched.values(), observed)
        self.result.false_alarms = false_alarms(traffic.launched.values(), observed)

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

    def _count_books(self, observed: Observed) -> None:
        with self.show.phase("Counting the books in the topics") as phase:
            balance = read_books(self.settings, observed.since).balance()
            self.result.balance = balance
            rejected = sum(balance.rejected.values())
            phase.outcome = f"{balance.raw:,} raw = {balance.accepted:,} accepted + {rejected:,} rejected"
            if not balance.even:
                phase.fail("; ".join(balance.faults()))

    def _prove(self, observed: Observed) -> None:
        with self.show.phase("Proving a random event to a stranger") as phase:
            if observed.sample is None:
                phase.fail("no event was accepted")
                return
            partition, offset = observed.sample
            try:
                file = prove(self.settings, EVENTS, partition, offset).to_json()
            except PipelineError as error:
                phase.fail(str(error))
                return
            # From here on only what the stranger has: the file's bytes and a trust file.
            trust = load_trust(trust_path(self.settings))
            evidence = parse_evidence(file.encode())
            verdict = verify(evidence, trust)
            self.result.evidence_verified = verdict.holds and evidence.anchor is not None
            phase.outcome = f"{len(file):,} bytes of evidence and the trust file suffice"
            for step in verdict.steps:
                phase.notes.append((self.show.mark(good=step.holds), escape(f"{step.name}: {step.detail}")))
            for text in verdict.not_proven:
                phase.notes.append((self.show.dot, f"[dim]not proven: {escape(text)}[/]"))
            if not self.result.evidence_verified:
                phase.fail("it does not hold" if not verdict.holds else "it has no anchor")

    def _tamper(self) -> None:
        with self.show.phase("Flipping one byte in a copy of the log") as phase:
            logs = [log for log in published_logs(self.settings.data_dir / "log") if log.checkpoint.size]
            if not logs:
                phase.fail("nothing was published")
                return
            key = load_trust(trust_path(self.settings)).log_key
            with tempfile.TemporaryDirectory(prefix="attestream-copy-") as folder:
                try:
                    log = self._rng.choice(logs)
                    tampering = tamper_with_copy(log, Path(folder) / "copy", key, self._rng)
                except TamperError as error:
                    phase.fail(str(error))
                    return
            self.result.tampering = tampering
            if tampering.found:
                phase.outcome = f"found at {tampering.origin}: {tampering.told}"
            else:
                phase.fail(f"byte {tampering.position} of {tampering.path}: {tampering.told}")

    # ---- what it looks at ------------------------------------------------------------------------------

    def _verdicts(self, observed: Observed, traffic: Traffic) -> list[Verdict]:
        launched = list(traffic.launched.values())
        return judge(launched, observed, traffic.last_telemetry_s, self.settings.silence_after_s)

    def _snapshot(self, observed: Observed, traffic: Traffic, looks: "_SlowLooks") -> Snapshot:
        looks.refresh()
        submitted, confirmed = observed.anchor_counts()
        verdicts = self._verdicts(observed, traffic)
        with observed.lock:
            rejected, findings = dict(observed.books.rejected), dict(observed.opened)
            last = max((a.at_s for a in observed.anchors if a.status == "CONFIRMED"), default=None)
        return Snapshot(
            elapsed_s=traffic.elapsed_s(),
            seconds=self.options.seconds,
            devices=self.options.devices,
            produced=traffic.produced,
            rate_hz=looks.rate_hz(traffic.produced),
            accepted=observed.books.accepted,
            rejected=rejected,
            in_flight=max(0, observed.books.in_flight),
            findings=findings,
            alerts=observed.alerts,
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


class _SlowLooks:
    """What costs file reads, looked at once a second: published trees, health, and the rate."""

    def __init__(self, settings: Settings, stack: LocalStack) -> None:
        self._settings, self._stack = settings, stack
        self.shards = self.leaves = 0
        self.unwell: tuple[str, ...] = ()
        self._looked_s = 0.0
        self._counts: list[tuple[float, int]] = []

    def refresh(self) -> None:
        """Look again when a second has passed."""
        if time.monotonic() - self._looked_s < SLOW_LOOK_EVERY_S:
            return
        self._looked_s = time.monotonic()
        logs = published_logs(self._settings.data_dir / "log")
        self.shards, self.leaves = len(logs), sum(log.checkpoint.size for log in logs)
        rows = self._stack.status().processes
        self.unwell = tuple(f"{row.name} ({row.why or row.state})" for row in rows if not row.ready)

    def rate_hz(self, produced: int) -> float:
        """Records a second over the last five seconds."""
        now_s = time.monotonic()
        self._counts.append((now_s, produced))
        self._counts = [each for each in self._counts if now_s - each[0] <= 5.0]
        began_s, began = self._counts[0]
        return (produced - began) / (now_s - began_s) if now_s > began_s else 0.0


def _attributes(index: int) -> dict[str, str]:
    return {
        "kind": "bedside monitor",
        "manufacturer": "Example Medical",
        "model": "VM-4",
        "firmware": "4.2.1",
        "ward": WARDS[index % len(WARDS)],
    }


def _unfound(verdicts: list[Verdict]) -> str:
    return ", ".join(v.name for v in verdicts if not v.found)
