"""RUN: one load on one stack, or the search for the highest rate that it sustains.

corpus    the one that was named, or one made just now
stack     the one that runs, or one of its own
measure   once, or rate after rate on successive parts of the corpus
tell      a line of summary, JSON, .hgrm files and a page
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from loadtests import findmax, results
from loadtests.corpus import Corpus
from loadtests.corpusmake import make, new_seed
from loadtests.corpusplan import Plan
from loadtests.errors import PlanError
from loadtests.findmax import Found, Trial
from loadtests.legs import ACCEPT
from loadtests.livemetrics import served
from loadtests.measure import Measured, measure
from loadtests.target import Load
from pipeline.loadtest import report, site
from pipeline.loadtest.resultmodel import checked
from pipeline.loadtest.show import LoadShow
from pipeline.loadtest.site import Site
from pipeline.settings import Settings

DEFAULT_SECONDS = 30.0
LAG_OF_OBJECTIVE = 2.0
WARM_UP_S = 30.0
"""At half a rate, for processes and above all the broker's compiler (`site.temporary`)."""
GIVE_UP_S = 6.0
"""A trial that has let so many seconds' worth of records wait is over."""
DRAIN_S = 300.0
PACE_OF_SEARCH, INTERVAL_OF_SEARCH_S = 0.25, 4.0
"""Of the rate that a search begins with, and between two events of a device, by the clocks of its corpus."""


@dataclass(frozen=True, slots=True)
class CorpusOptions:
    """What a corpus is to hold, as the command line says it."""

    devices: int = 1000
    records: int = 100_000
    bad_share: float = 0.01
    event_rate: float = 20_000.0
    record_size: int | None = None
    access_share: float = 0.01
    lifecycle_share: float = 0.01
    seed: int | None = None
    log_name: str = "attestream.local"

    def plan(self) -> Plan:
        """Make a plan whose last event is of now."""
        shares = (1 - self.access_share - self.lifecycle_share, self.access_share, self.lifecycle_share)
        span_us = round(self.records / self.event_rate * 1e6) if self.event_rate > 0 else 0
        return Plan(
            log_name=self.log_name,
            devices=self.devices,
            records=self.records,
            seed=new_seed() if self.seed is None else self.seed,
            first_us=time.time_ns() // 1000 - span_us,
            event_rate=self.event_rate,
            forged_share=self.bad_share,
            shares=shares,
            record_size=self.record_size,
        )


def pace_of_search(rate: float, devices: int) -> float:
    """Return how many events a second devices send, by their own clocks, for a search that begins at `rate`.

    At any rate that is tried these clocks must gain on the broker's, and soon make good what they lose while
    nothing is sent between two trials. Else ingest takes each for a clock that has fallen behind, and judges
    its events alone, for several times the cost.
    """
    return min(rate * PACE_OF_SEARCH, devices / INTERVAL_OF_SEARCH_S)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line asked for."""

    rate: float
    """Records a second; 0: as fast as it goes."""
    records: int | None = None
    seconds: float | None = None
    warmup: int = 0
    corpus: Path | None = None
    made: CorpusOptions = field(default_factory=CorpusOptions)
    producer: Mapping[str, str] = field(default_factory=dict)
    workers: int = 1
    with_monitor: bool = False
    on_running: bool = False
    find_max: bool = False
    objective_ms: float = 1000.0
    trial_s: float = 10.0
    confirm_s: float = 60.0
    metrics_port: int | None = None
    out: Path = Path("loadtest")


def make_corpus(folder: Path, options: CorpusOptions, show: LoadShow) -> Path:
    """Make a corpus and say how far it is."""
    plan = options.plan()
    began_s = time.monotonic()

    def on_progress(done: int) -> None:
        show.step(f"signing: {done * 100 // plan.records} % of {plan.records:,} records")

    path = make(folder, plan, on_progress=on_progress)
    show.say(
        f"{plan.records:,} records of {plan.devices:,} devices signed in {time.monotonic() - began_s:.0f} s"
    )
    return path


@contextmanager
def corpus_of(options: RunOptions, show: LoadShow) -> Iterator[Corpus]:
    """Open the corpus that was named, or one that is made now and gone afterwards."""
    with TemporaryDirectory(prefix="attestream-corpus-") if options.corpus is None else nullcontext() as made:
        if options.corpus is None:
            make_corpus(Path(str(made)), options.made, show)
        corpus = Corpus(options.corpus or Path(str(made)))
        try:
            yield corpus
        finally:
            corpus.close()


@contextmanager
def site_of(settings: Settings, options: RunOptions, corpus: Corpus, show: LoadShow) -> Iterator[Site]:
    """Have a stack up that knows the corpus' devices."""
    settings = settings.model_copy(update={"log_name": corpus.header.log_name})
    late_s = time.time() - corpus.header.first_us / 1e6
    if late_s > settings.max_behind_s:
        raise PlanError(
            f"{corpus.path} begins {late_s / 86400:.1f} days ago, and events older than "
            f"{settings.max_behind_s / 86400:g} days are rejected: make another, or raise max_behind_s"
        )
    if options.on_running:
        found = site.running(settings)
        site.enrol(found.settings, corpus, show.step)
        yield found
        return
    with site.temporary(
        settings,
        workers=options.workers,
        with_monitor=options.with_monitor,
        for_long=options.find_max,
        on_step=show.step,
    ) as found:
        site.enrol(found.settings, corpus, show.step)
        yield found


def run(settings: Settings, options: RunOptions, show: LoadShow) -> dict[str, Any]:
    """Measure, write the results into `options.out`, and return them as a document."""
    with (
        corpus_of(options, show) as corpus,
        site_of(settings, options, corpus, show) as stack,
        served(options.metrics_port) as metrics,
    ):
        runner = Runner(stack, corpus, options, show, metrics)
        found = runner.search() if options.find_max else None
        measured = runner.last if found is not None and runner.last else runner.once(_load(options))
        document = results.document(measured, stack.target(), corpus, _workload(options, corpus))
        if found is not None:
            document["attestream"]["find_max"] = {
                **found.to_json(),
                "lost": runner.lost,
                "duplicated": runner.duplicated,
                "ok": runner.ok,
                "objective_ms": options.objective_ms,
                "confirm_s": options.confirm_s,
            }
    results.save(options.out, measured, document)
    page = report.page([checked(document, "this run")], "Load test of attestream")
    (options.out / "report.html").write_text(page, encoding="utf-8")
    return document


class Runner:
    """Runs loads on one stack, each from where the one before has left off in the corpus."""

    def __init__(
        self, stack: Site, corpus: Corpus, options: RunOptions, show: LoadShow, metrics: Any = None
    ) -> None:
        self._target, self._corpus, self._options, self._show = stack.target(), corpus, options, show
        self._metrics = metrics or (lambda _progress: None)
        self.next = 0
        """The first record that was not sent."""
        self.last: Measured | None = None
        self.lost = self.duplicated = 0
        """In all runs so far."""
        self.ok = True
        """Whether every run's ledger balances."""

    def once(self, load: Load, title: str = "load") -> Measured:
        """Do one run with the next part of the corpus."""
        with self._show.progress(title) as update:

            def on_progress(moment: Any) -> None:
                update(moment)
                self._metrics(moment)

            part = Load(
                rate=load.rate,
                first=self.next,
                count=load.count,
                seconds=load.seconds,
                warmup=load.warmup,
                producer=self._options.producer,
                drain_s=load.drain_s,
                anchored=load.anchored,
                most_lag=load.most_lag,
            )
            measured = measure(self._target, self._corpus, part, on_progress)
        self.next += len(measured.sent)
        self.last = measured
        self.lost += measured.ledger.lost
        self.duplicated += measured.ledger.duplicated
        self.ok = self.ok and measured.ledger.ok
        return measured

    def search(self) -> Found:
        """Search for the highest rate that is sustained; `last` is then the run that confirmed it."""
        options = self._options
        start = options.rate or 1000.0
        # A broker that has just been started is slow, and says nothing about a rate.
        warm_up_s = min(WARM_UP_S, 3 * options.trial_s)
        self.once(Load(start / 2, seconds=warm_up_s, anchored=False), "warming up")

        def trial(rate: float, seconds: float) -> Trial | None:
            is_confirmation = seconds >= options.confirm_s
            # A trial must leave enough to hold its rate afterwards.
            needed = rate * (seconds if is_confirmation else seconds + options.confirm_s)
            if len(self._corpus.index) - self.next < needed:
                return None
            load = Load(
                rate=rate,
                seconds=seconds,
                warmup=round(rate * min(2.0, seconds / 5)),
                most_lag=round(rate * GIVE_UP_S),
                drain_s=DRAIN_S,
                anchored=is_confirmation,
            )
            return judge(self.once(load, f"{rate:,.0f}/s for {seconds:g} s"), options.objective_ms)

        def on_trial(found: Trial) -> None:
            verdict = "sustained" if found.sustained else f"not sustained: {found.why_not}"
            self._show.say(f"{found.rate:,.0f}/s: p99 {found.p99_ms:,.0f} ms, {verdict}")

        return findmax.find_max(trial, start, options.trial_s, options.confirm_s, on_trial=on_trial)


def judge(measured: Measured, objective_ms: float) -> Trial:
    """Say whether a rate was sustained: sent on time, judged within the objective, nothing lost."""
    load, sent = measured.load, measured.sent
    latencies = measured.legs[ACCEPT].latencies
    p99_ms = latencies.at(99)
    lag_then = [each.raw for each in measured.sightings.lag if each.at_ns <= sent.acknowledged_ns.max()]
    lag = lag_then[-1] if lag_then else 0
    bound = max(1000.0, load.rate * LAG_OF_OBJECTIVE * objective_ms / 1000)
    why_not = ""
    if measured.given_up:
        why_not = f"{lag:,} records waited, and it was given up"
    elif measured.seconds > 1.05 * len(sent) / load.rate + 0.5:
        why_not = "the generator did not keep up"
    elif not p99_ms <= objective_ms:
        why_not = f"the objective is {objective_ms:g} ms"
    elif lag > bound:
        why_not = f"{lag:,} records waited at the end"
    elif not measured.ledger.ok:
        why_not = "the ledger does not balance"
    return Trial(load.rate, measured.seconds, round(p99_ms, 1), lag, not why_not, why_not)


def _load(options: RunOptions) -> Load:
    seconds = options.seconds or 0.0
    if not options.records and not seconds and options.rate:
        seconds = DEFAULT_SECONDS
    return Load(
        rate=options.rate,
        count=options.records or 2**62,
        seconds=seconds,
        warmup=options.warmup,
        drain_s=DRAIN_S,
    )


def _workload(options: RunOptions, corpus: Corpus) -> str:
    rate = f"{options.rate:,.0f}/s" if options.rate else "as fast as it goes"
    forged = corpus.header.forged / max(1, corpus.header.records)
    return f"{corpus.header.devices:,} devices, {rate}, {forged:.1%} bad signatures"
