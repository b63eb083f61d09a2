"""One run: send a part of a corpus at a rate, watch from outside, then read back what became of it.

observe    the observer looks before the first record is due
send       the generator sends; processes are sampled; marks enclose the steady part
drain      until nothing waits any more, is sealed and, where asked for, anchored
count      the ledger reads the outputs; the legs follow from it and from what the observer saw
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from loadtests import ledger, observer, openloop
from loadtests.children import Child
from loadtests.corpus import Corpus
from loadtests.errors import PlanError
from loadtests.ledger import Counting, Ledger, Verdicts
from loadtests.legs import Leg, Run, legs_of
from loadtests.openloop import Sent
from loadtests.processes import Mark, Series, Watch
from loadtests.sightings import Place, Sightings
from loadtests.target import Load, Target

START_IN_S = 0.5
STEADY_AFTER_S = 3.0
"""Marks are set so long after the start: caches are cold before; less in a run that is short."""
POLL_S = 0.1
ASK_S = 20.0
ALERTS_S = 3.0
"""So long no alert must have come after all is judged: the last of those that tell of something first."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Figures of one moment, for those who watch."""

    elapsed_s: float
    count: int
    sent: int = 0
    acknowledged: int = 0
    failed: int = 0
    late_ms: float = 0.0
    lag: int = 0
    unsealed: int | None = None
    phase: str = "sending"


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """All that one run gave."""

    load: Load
    began_s: float
    """Unix time."""
    seconds: float
    """From the first intended moment to the last acknowledgement."""
    sent: Sent
    sent_bytes: int
    ledger: Ledger
    verdicts: Verdicts
    legs: Mapping[str, Leg]
    sightings: Sightings
    processes: Mapping[str, Series]
    marks: tuple[Mark, Mark]
    drained: bool
    given_up: bool = False
    """Stopped early, for what waited."""


class _Live:
    """What the processes said last."""

    def __init__(self) -> None:
        self.generator: dict[str, Any] = {}
        self.observer: dict[str, Any] = {}
        self.observed = 0

    def on_generator(self, line: Mapping[str, Any]) -> None:
        self.generator.update(line)

    def on_observer(self, line: Mapping[str, Any]) -> None:
        self.observer.update(line)
        self.observed += 1


def measure(
    target: Target, corpus: Corpus, load: Load, on_progress: OnProgress = lambda _progress: None
) -> Measured:
    """Do one run. Raises LoadTestError and KafkaException."""
    if load.first >= len(corpus.index):
        raise PlanError(f"the corpus has {len(corpus.index):,} records, and all of them were sent")
    since = _ends(target)
    live = _Live()
    with tempfile.TemporaryDirectory(prefix="attestream-loadtest-") as made:
        sent_path, seen_path = Path(made, "sent.npz"), Path(made, "seen.json")
        sends = _generator_job(target, corpus, load, sent_path)
        looks = _observer_job(target, seen_path)
        with (
            Child("loadtests.observer", asdict(looks), live.on_observer) as watcher,
            Child("loadtests.openloop", asdict(sends), live.on_generator) as generator,
        ):
            watcher.wait_ready()
            count = int(generator.wait_ready()["count"])
            own = {"generator": generator.pid, "observer": watcher.pid}
            with Watch(lambda: {**target.pids(), **own}, target.ports) as watch:
                began_s = time.time() + START_IN_S
                start_ns = time.monotonic_ns() + round(START_IN_S * 1e9)
                generator.tell(str(start_ns))
                marks = _while_sending(
                    (watcher, generator), watch, live, (start_ns, count, load), on_progress
                )
                drained = _drain(watcher, live, (start_ns, count, load), on_progress)
            watcher.end()
        sent, seen = Sent.load(sent_path), Sightings.load(seen_path)
    counting = Counting(corpus, sent, target.raw)
    elapsed_s = (time.monotonic_ns() - start_ns) / 1e9

    def counted(done: int) -> None:
        on_progress(Progress(elapsed_s, count, sent=done, phase="counting"))

    ledger.read_back(target.properties, target.events, target.rejected, since, counting, counted)
    books = counting.result(drained=drained)
    part = slice(load.first, load.first + len(sent))
    absent = {**target.absent, **({} if load.anchored else {"anchored": "this run did not wait for it"})}
    legs = legs_of(
        Run(
            sent=sent,
            verdicts=counting.verdicts,
            forged=corpus.index.forged[part],
            devices=corpus.index.devices[part],
            sightings=seen,
            events=target.events,
            rejected=target.rejected,
            warmup=load.warmup,
            absent=absent,
            attacked=corpus.index.devices[: load.first][corpus.index.forged[: load.first]],
        )
    )
    last_ns = int(sent.acknowledged_ns.max(initial=start_ns))
    return Measured(
        load=load,
        began_s=began_s,
        seconds=max(1e-9, (last_ns - start_ns) / 1e9),
        sent=sent,
        sent_bytes=int(corpus.index.sizes[part].sum()),
        ledger=books,
        verdicts=counting.verdicts,
        legs=legs,
        sightings=seen,
        processes=dict(watch.series),
        marks=marks,
        drained=drained,
        given_up=len(sent) < count,
    )


def _generator_job(target: Target, corpus: Corpus, load: Load, out: Path) -> openloop.Job:
    return openloop.Job(
        corpus=str(corpus.path),
        first=load.first,
        count=load.count,
        rate=load.rate,
        seconds=load.seconds,
        topics=dict(target.raw),
        partitions=target.partitions,
        properties={**target.properties, **load.producer},
        out=str(out),
    )


def _observer_job(target: Target, out: Path) -> observer.Job:
    return observer.Job(
        properties=target.properties,
        outputs=(target.events, target.rejected),
        raw=tuple(target.raw.values()),
        partitions=target.partitions,
        group=target.group,
        log_name=target.log_name,
        checkpoints=target.checkpoints,
        anchors=target.anchors,
        alerts=target.alerts,
        log=target.log,
        out=str(out),
    )


_Plan = tuple[int, int, Load]


def _while_sending(
    children: Sequence[Child], watch: Watch, live: _Live, plan: _Plan, on_progress: OnProgress
) -> tuple[Mark, Mark]:
    """Wait until all is sent; return the marks around the steady part."""
    start_ns, count, load = plan
    whole_s = count / load.rate if load.rate else 0.0
    steady_s = min(max(STEADY_AFTER_S, load.warmup / load.rate if load.rate else 0.0), whole_s / 3)
    before: Mark | None = None
    is_stopped = False
    while not live.generator.get("done"):
        for child in children:
            child.check()
        elapsed_s = (time.monotonic_ns() - start_ns) / 1e9
        if before is None and elapsed_s >= steady_s:
            before = watch.mark()
        if not is_stopped and live.observer.get("lag", 0) > load.most_lag:
            children[1].tell("stop")
            is_stopped = True
        on_progress(_progress(live, plan, "sending"))
        if children[1].ended and not live.generator.get("done"):
            time.sleep(POLL_S)  # its last line may be on its way
        time.sleep(POLL_S)
    after = watch.mark()
    return before or after, after


def _drain(watcher: Child, live: _Live, plan: _Plan, on_progress: OnProgress) -> bool:
    """Wait until nothing waits; False where it still does after the time for it."""
    load, seen = plan[2], live.observed
    until = time.monotonic() + load.drain_s
    judged_at: float | None = None
    alerts: int | None = None
    quiet_since = time.monotonic()
    while time.monotonic() < until:
        watcher.check()
        fresh, seen = live.observed > seen, live.observed
        if fresh and not live.observer.get("lag"):
            judged_at = judged_at or time.monotonic()
            if live.observer.get("alerts") != alerts:
                alerts, quiet_since = live.observer.get("alerts"), time.monotonic()
            sealed = not live.observer.get("unsealed")
            anchored = not load.anchored or not live.observer.get("unanchored")
            if sealed and anchored and time.monotonic() - quiet_since >= ALERTS_S:
                return True
        on_progress(_progress(live, plan, "draining"))
        time.sleep(POLL_S)
    return judged_at is not None


def _progress(live: _Live, plan: _Plan, phase: str) -> Progress:
    start_ns, count, _load = plan
    said = live.generator
    return Progress(
        elapsed_s=max(0.0, (time.monotonic_ns() - start_ns) / 1e9),
        count=count,
        sent=said.get("sent", 0),
        acknowledged=said.get("acknowledged", 0),
        failed=said.get("failed", 0),
        late_ms=said.get("late_ms", 0.0),
        lag=live.observer.get("lag", 0),
        unsealed=live.observer.get("unsealed"),
        phase=phase,
    )


def _ends(target: Target) -> dict[Place, int]:
    """From where on outputs are this run's."""
    admin = AdminClient({**target.properties, "log_level": 0})
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    places = [(topic, p) for topic in (target.events, target.rejected) for p in range(target.partitions)]
    asked = admin.list_offsets(
        {TopicPartition(*place): latest for place in places},
        isolation_level=IsolationLevel.READ_COMMITTED,
        request_timeout=ASK_S,
    )
    return {(each.topic, each.partition): answer.result(ASK_S).offset for each, answer in asked.items()}
