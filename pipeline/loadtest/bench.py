"""BENCH: the figures that the documents quote, in one command.

    seals      seal works off a backlog, and Tessera appends the same leaves; no verifier has a part in it
    drain      ingest, a plain loop and Faust work off the same records; and ingest once more with forgeries
    search     the highest rate that the whole stack sustains, held for a minute, with nothing lost
    half       latencies of each leg at half that rate
    many       memory of a worker that knows 100,000 devices

All else with the wheel's verifier, and before that with the crate's where it is installed.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from loadtests import results
from loadtests.corpus import Corpus
from loadtests.measure import Measured
from loadtests.pace import loop_ns
from loadtests.processes import machine
from loadtests.target import Load
from pipeline.loadtest import compare, report, sealing, site
from pipeline.loadtest.compare import FAUST, OURS, PLAIN
from pipeline.loadtest.resultmodel import checked
from pipeline.loadtest.run import CorpusOptions, Runner, RunOptions, make_corpus, pace_of_search
from pipeline.loadtest.show import LoadShow
from pipeline.settings import Settings
from processors.detect.blocks import BLOCK
from schemas.native import VARIABLE

CRATE = "attestream_fast"
KEYS = (
    "ingest_cpu_us", "ingest_cpu_us_bad1pct", "seal_cpu_us", "tessera_cpu_us", "seal_cpu_us_sustained",
    "sustained_per_s", "lost", "duplicated", "faust_cpu_ratio", "plain_loop_share", "accepted_p99_ms",
    "alert_p99_ms", "checkpoint_p99_ms", "rss_mib_100k",
)  # fmt: skip
OF_SEARCH = (
    "seal_cpu_us_sustained", "sustained_per_s", "lost", "duplicated", "accepted_p99_ms", "alert_p99_ms",
    "checkpoint_p99_ms",
)  # fmt: skip
BAD_SHARE = 0.01
BEGIN_SHARE = 0.4
"""The search begins at this share of the rate at which ingest alone works off a backlog."""
SUSTAINED_SHARE = 0.55
"""No more of that rate is sustained while everything else runs, too."""
HALF_WARM_UP_S = 15.0
"""By then each device is known, at any rate that is worth while."""
MOST_RECORDS = 4_000_000


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """How much is measured."""

    rounds: int = 3
    """Of the drains; medians count."""
    drain_records: int = 100_000
    seal_records: int = sealing.RECORDS
    devices: int = 1000
    trial_s: float = 10.0
    confirm_s: float = 60.0
    half_s: float = 30.0
    objective_ms: float = 1000.0
    many_devices: int = 100_000
    """0: not measured."""
    out: Path = Path("build")


@dataclass(slots=True)
class Figures:
    """What was measured with one verifier, by the names of `KEYS`, and why the rest was not."""

    values: dict[str, float | None] = field(default_factory=lambda: dict.fromkeys(KEYS))
    why_not: dict[str, str] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    faust_cpu_us: float | None = None
    loop_ns: dict[str, float] = field(default_factory=dict)
    """CPU of a step of a plain loop after each part: the pace that the machine had."""

    def to_json(self) -> dict[str, Any]:
        """Figures by name; what was not measured is null, with its reason."""
        return {**self.values, "not_measured": self.why_not, "loop_ns": self.loop_ns}

    def at_pace(self, part: str) -> None:
        """Note the machine's pace after `part`."""
        self.loop_ns[part] = round(loop_ns(), 1)


def bench(settings: Settings, options: BenchOptions, show: LoadShow) -> dict[str, Any]:
    """Measure, write `bench.json` and `bench.html` into `options.out`, and return the document."""
    began_s = time.time()
    seals = compare_seals(settings, options, show)
    by_crate = None
    if find_spec(CRATE) is not None:
        with verifier("require"):
            by_crate = Bench(settings, options, show).run()
    with verifier("off"):
        by_wheel = Bench(settings, options, show, by_crate.faust_cpu_us if by_crate else None).run()
    best = by_crate or by_wheel
    for each in (best, by_wheel):
        _take_seals(each, seals)
    document = {
        "native": by_crate is not None,
        **best.to_json(),
        "wheels_only": {"native": False, **by_wheel.to_json()},
        "seals": seals,
        "machine": machine(),
        "began": began_s,
        "seconds": round(time.time() - began_s),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    results.write_json(options.out / "bench.json", document)
    runs = [checked(each, "this run") for each in best.runs]
    page = report.page(runs, "Bench of attestream", [table_of(by_crate, by_wheel)])
    (options.out / "bench.html").write_text(page, encoding="utf-8")
    return document


def compare_seals(settings: Settings, options: BenchOptions, show: LoadShow) -> dict[str, Any]:
    """Let seal and Tessera make logs of the same leaves."""
    records = min(options.seal_records, sealing.CORPUS_RECORDS)
    with bench_corpus(settings, show, records, options.devices) as corpus:
        return sealing.compare_seals(settings, corpus, show, options.rounds, options.seal_records)


def _take_seals(figures: Figures, seals: Mapping[str, Any]) -> None:
    for name, contender in (("seal_cpu_us", sealing.SEAL), ("tessera_cpu_us", sealing.TESSERA)):
        if contender in seals["contenders"]:
            figures.values[name] = seals["contenders"][contender]["cpu_us"]
        else:
            figures.why_not[name] = seals["not_measured"][contender]


def table_of(by_crate: Figures | None, by_wheel: Figures) -> str:
    """The figures of both verifiers as a table, beside each other."""
    rows = []
    for name in KEYS:
        found = ["" if each is None else _shown(each.values[name]) for each in (by_crate, by_wheel)]
        rows.append((name, *found, by_wheel.why_not.get(name, "")))
    for part in by_wheel.loop_ns:
        found = ["" if each is None else _shown(each.loop_ns.get(part)) for each in (by_crate, by_wheel)]
        rows.append(("loop_ns", *found, f"a step of a plain loop {part}: the machine's pace"))
    table = report.table(("", "with the crate", "wheels only", "remark"), rows)
    return f'<div class="remarked">{table}</div>'


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:,.6g}"


@contextmanager
def verifier(choice: str) -> Iterator[None]:
    """Let all processes that are started take one verifier."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = choice
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


class Bench:
    """All figures with one verifier."""

    def __init__(
        self, settings: Settings, options: BenchOptions, show: LoadShow, faust_cpu_us: float | None = None
    ) -> None:
        """`faust_cpu_us` is Faust's as measured before: it has the wheel's verifier whatever ingest has."""
        self._settings, self._options, self._show = settings, options, show
        self._found = Figures(faust_cpu_us=faust_cpu_us)

    def run(self) -> Figures:
        """Measure one after another."""
        self._found.at_pace("at the beginning")
        rate = self._drains()
        self._found.at_pace("after the drains")
        self._search(rate)
        if self._options.many_devices:
            self._many()
        else:
            self._found.why_not["rss_mib_100k"] = "left out by --many-devices 0"
        return self._found

    def _drains(self) -> float:
        """Let all work off clean records, and ingest those with forgeries; return ingest's rate."""
        options, values = self._options, self._found.values
        faust = (FAUST,) if self._found.faust_cpu_us is None else ()
        pace = float(options.devices)
        with self._corpus(options.drain_records, options.devices, event_rate=pace) as corpus:
            clean = compare.compare(self._settings, corpus, self._show, options.rounds, (PLAIN, *faust, OURS))
        with self._corpus(options.drain_records, options.devices, BAD_SHARE, pace) as corpus:
            forged = compare.compare(self._settings, corpus, self._show, options.rounds, (OURS,))
        ours: Mapping[str, float] = clean["contenders"][OURS]
        values["ingest_cpu_us"] = ours["cpu_us"]
        values["ingest_cpu_us_bad1pct"] = forged["contenders"][OURS]["cpu_us"]
        values["plain_loop_share"] = clean["ratios"]["plain_loop_share"]
        if faust:
            self._found.faust_cpu_us = clean["contenders"][FAUST]["cpu_us"]
        if self._found.faust_cpu_us is not None and ours["cpu_us"]:
            values["faust_cpu_ratio"] = round(self._found.faust_cpu_us / ours["cpu_us"], 2)
        return ours["rate"]

    def _search(self, rate: float) -> None:
        """Find the rate that the whole stack sustains, then measure the legs at half of it."""
        options, values = self._options, self._found.values
        begin = max(50.0, rate * BEGIN_SHARE)
        # A warm-up, trials, and the confirmation twice, all below the rate at which ingest alone works.
        seconds = 2 * options.confirm_s + 8 * options.trial_s
        records = min(MOST_RECORDS, round(SUSTAINED_SHARE * rate * seconds))
        pace = pace_of_search(begin, options.devices)
        with (
            self._corpus(records, options.devices, BAD_SHARE, pace) as corpus,
            self._stack(corpus, for_long=True) as stack,
        ):
            asked = RunOptions(
                rate=begin,
                objective_ms=options.objective_ms,
                trial_s=options.trial_s,
                confirm_s=options.confirm_s,
            )
            runner = Runner(stack, corpus, asked, self._show)
            found = runner.search()
            self._count(runner)
            if found.confirmed is None or runner.last is None:
                for name in OF_SEARCH:
                    self._found.why_not[name] = found.why_not
                return
            self._keep(runner.last, stack, corpus, "sustained", found.to_json())
            values["sustained_per_s"] = found.confirmed.rate
            values["seal_cpu_us_sustained"] = results.stages_of(runner.last)["seal"]["cpu_us"]
        self._found.at_pace("after the search")
        self._half(found.confirmed.rate / 2)
        self._found.at_pace("after half the rate")

    def _half(self, rate: float) -> None:
        """Measure the legs on a stack of its own, with attacks all the time.

        That is over in a minute, for all of which a broker that runs for long would compile.
        """
        options, values = self._options, self._found.values
        warm_up = round(rate * min(HALF_WARM_UP_S, options.half_s))
        records = warm_up + round(rate * options.half_s)
        with self._corpus(records, options.devices, BAD_SHARE, rate) as corpus, self._stack(corpus) as stack:
            runner = Runner(stack, corpus, RunOptions(rate=rate), self._show)
            runner.once(Load(rate, count=warm_up, anchored=False), "warming up")
            measured = runner.once(Load(rate), "half the rate")
            self._count(runner)
            self._keep(measured, stack, corpus, "half the sustained rate")
        for name in ("accepted", "alert", "checkpoint"):
            leg = measured.legs[name]
            values[f"{name}_p99_ms"] = leg.to_json()["99pct"]
            if leg.missing:
                self._found.why_not[f"{name}_p99_ms"] = f"{leg.missing:,} that did not come are left out"

    def _count(self, runner: Runner) -> None:
        """Add up what all runs of a stack lost and doubled."""
        values = self._found.values
        values["lost"] = (values["lost"] or 0) + runner.lost
        values["duplicated"] = (values["duplicated"] or 0) + runner.duplicated

    def _many(self) -> None:
        """Let a worker judge a block of events of each of many devices; its memory is what counts.

        By then a state has its parts. It grows up to the 64th event, of which `loadtest scale` tells.
        """
        devices = self._options.many_devices
        with self._corpus(devices * BLOCK, devices) as corpus:
            found = compare.compare(self._settings, corpus, self._show, 1, (OURS,))
        self._found.values["rss_mib_100k"] = found["contenders"][OURS]["rss_mib"]
        if devices != 100_000:
            self._found.why_not["rss_mib_100k"] = f"measured at {devices:,} devices"

    def _keep(
        self,
        measured: Measured,
        stack: site.Site,
        corpus: Corpus,
        workload: str,
        search: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep a run for the page."""
        document = results.document(
            measured, stack.target(), corpus, f"{workload}, {measured.load.rate:,.0f}/s"
        )
        if search is not None:
            document["attestream"]["find_max"] = {**search, "objective_ms": self._options.objective_ms}
        self._found.runs.append(document)

    def _corpus(
        self, records: int, devices: int, bad_share: float = 0.0, event_rate: float = 20_000.0
    ) -> AbstractContextManager[Corpus]:
        return bench_corpus(self._settings, self._show, records, devices, bad_share, event_rate)

    @contextmanager
    def _stack(self, corpus: Corpus, *, for_long: bool = False) -> Iterator[site.Site]:
        with site.temporary(self._settings, for_long=for_long, on_step=self._show.step) as stack:
            site.enrol(stack.settings, corpus, self._show.step)
            yield stack


@contextmanager
def bench_corpus(  # noqa: PLR0917 - for what, and of what
    settings: Settings,
    show: LoadShow,
    records: int,
    devices: int,
    bad_share: float = 0.0,
    event_rate: float = 20_000.0,
) -> Iterator[Corpus]:
    """Make a corpus that is gone after the block."""
    asked = CorpusOptions(
        devices=devices,
        records=records,
        bad_share=bad_share,
        event_rate=event_rate,
        log_name=settings.log_name,
    )
    with TemporaryDirectory(prefix="attestream-corpus-") as made:
        make_corpus(Path(made), asked, show)
        corpus = Corpus(Path(made))
        try:
            yield corpus
        finally:
            corpus.close()
