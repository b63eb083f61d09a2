"""What do further workers and partitions give? The same records, worked off by one and by two.

Each time on a stack of its own. The workers run and have their partitions before the first record comes, and
it is measured from when all records are there: so no start and no rebalance is part of it.
"""

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from loadtests.committed import Committed
from loadtests.corpus import Corpus
from loadtests.draining import Drained, watch
from loadtests.errors import LoadTestError, PlanError
from loadtests.pace import loop_ns
from pipeline.loadtest import site
from pipeline.loadtest.compare import fill, worker
from pipeline.loadtest.show import LoadShow
from pipeline.settings import Settings
from pipeline.topics import RAW_TOPICS

READY_S, POLL_S = 60.0, 0.1


@dataclass(frozen=True, slots=True)
class Layout:
    """Workers of ingest, and partitions of each raw topic."""

    workers: int
    partitions: int


@dataclass(frozen=True, slots=True)
class AtLayout:
    """How a layout worked the records off: medians of the rounds."""

    workers: int
    partitions: int
    rate: float
    """Records a second."""
    cpu_us: float
    """Of all workers, for a record."""
    broker_cpu_us: float
    rss_mib: float
    """Of all workers."""
    loop_ns: float

    def to_json(self) -> dict[str, Any]:
        """Members by name, rounded."""
        return {name: round(value, 1) for name, value in asdict(self).items()}


def at_layouts(
    settings: Settings, corpus: Corpus, layouts: Sequence[Layout], show: LoadShow, rounds: int = 1
) -> list[AtLayout]:
    """Work the corpus off in each layout, round after round."""
    for layout in layouts:
        if layout.workers > layout.partitions:
            raise PlanError(
                f"{layout.workers} workers of {layout.partitions} partitions: some have nothing to do"
            )
    found: dict[Layout, list[tuple[Drained, float]]] = {layout: [] for layout in layouts}
    for _ in range(rounds):
        for layout in layouts:
            pace = loop_ns()
            drained = _drained(settings, corpus, layout, show)
            found[layout].append((drained, pace))
            show.say(f"{drained.name}: {drained.rate:,.0f}/s, {drained.cpu_us:,.1f} us CPU a record")
    return [_median(layout, each) for layout, each in found.items()]


def _drained(settings: Settings, corpus: Corpus, layout: Layout, show: LoadShow) -> Drained:
    settings = settings.model_copy(
        update={"log_name": corpus.header.log_name, "partitions": layout.partitions}
    )
    name, count = f"{layout.workers} workers, {layout.partitions} partitions", len(corpus.index)
    with site.temporary(settings, stages=(), on_step=show.step) as stack, ExitStack() as running:
        site.enrol(stack.settings, corpus, show.step)
        pids = {
            f"ingest-{slot}": running.enter_context(worker(stack.settings, "ingest", slot))
            for slot in range(layout.workers)
        }
        _wait_assigned(stack.settings, pids, layout)
        target, broker = stack.target(), stack.pids().get("kafka")
        places = [(topic, number) for topic in target.raw.values() for number in range(target.partitions)]
        fill(target, corpus)
        with closing(Committed(target.properties, target.group, places)) as committed:

            def on_progress(done: int) -> None:
                show.step(f"{name}: {done * 100 // count} % of {count:,}")

            if committed.total() >= count:
                raise PlanError(f"{count:,} records were worked off while they were sent: take more")
            return watch(name, lambda: pids, broker, committed.total, count, on_progress)


def _wait_assigned(settings: Settings, pids: dict[str, int], layout: Layout) -> None:
    """Wait until every worker runs, and all partitions have one; raises LoadTestError."""
    until_s = time.monotonic() + READY_S
    wanted = layout.partitions * len(RAW_TOPICS)
    while True:
        counts = [held(settings.data_dir / "run" / _health(slot)) for slot in range(layout.workers)]
        if all(counts) and sum(counts) == wanted:
            return
        dead = [name for name, pid in pids.items() if not psutil.pid_exists(pid)]
        if dead or time.monotonic() > until_s:
            raise LoadTestError(
                f"{', '.join(dead) or 'the workers'} did not take up their partitions: {counts}"
            )
        time.sleep(POLL_S)


def _health(slot: int) -> str:
    return f"ingest{f'-{slot}' if slot else ''}.health.json"


def held(path: Path) -> int:
    """How many partitions a worker that runs says it has."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return int(str(found["detail"]).split()[0]) if found["state"] == "running" else 0
    except (OSError, ValueError, KeyError, IndexError):
        return 0


def _median(layout: Layout, found: Sequence[tuple[Drained, float]]) -> AtLayout:
    drains = [drained for drained, _pace in found]
    return AtLayout(
        **asdict(layout),
        rate=median(each.rate for each in drains),
        cpu_us=median(each.cpu_us for each in drains),
        broker_cpu_us=median(each.broker_cpu_us for each in drains),
        rss_mib=median(each.rss_mib for each in drains),
        loop_ns=median(pace for _drained, pace in found),
    )
