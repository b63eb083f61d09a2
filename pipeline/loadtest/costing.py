"""COSTS: the constants of the cost model, measured on a stack of its own and written into one file.

    idle       what each process takes while nothing comes
    load       what it takes at a rate that is held, whose difference is what an event adds
    logs       bytes in Kafka's logs for what was sent
    loop       ingest's loop without a broker, in processes of their own: memory and disk of a device

With the crate's verifier too, where it is installed. All but the loop is done in rounds, and medians count.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from loadtests import results
from loadtests.corpus import KINDS, Corpus
from loadtests.costs import (
    Costs,
    KafkaCost,
    Leaves,
    Memory,
    Mix,
    Origin,
    StageCost,
    Stages,
    write_costs,
)
from loadtests.errors import LoadTestError
from loadtests.measure import Measured
from loadtests.pace import loop_ns
from loadtests.processes import MIB, Watch, machine
from loadtests.target import Load
from pipeline import topics
from pipeline.kafka import admin, end_offsets
from pipeline.loadtest import site
from pipeline.loadtest.bench import CRATE, verifier
from pipeline.loadtest.ingestloop import AtDevices
from pipeline.loadtest.run import DRAIN_S, CorpusOptions, Runner, RunOptions, corpus_of
from pipeline.loadtest.scaledevices import STEADY_BLOCKS, at_devices
from pipeline.loadtest.show import LoadShow
from pipeline.settings import Settings
from schemas.envelope import PayloadKind
from schemas.records import encode_leaf

WARM_UP_S = 10.0
OTHERS = ("seal", "profile", "correlate", "anchor")
TYPICAL_OFFSET = 10**9
"""An offset takes more bytes in a leaf the larger it is: that of a shard that is no longer new."""
FRAME_BYTES = 2


@dataclass(frozen=True, slots=True)
class CostOptions:
    """How much is measured."""

    devices: int = 1000
    rate: float = 5000.0
    """High enough that what a batch and a publication cost by themselves is spread over many events."""
    load_s: float = 20.0
    idle_s: float = 6.0
    rounds: int = 3
    few_devices: int = 2000
    many_devices: int = 10_000
    """A device's memory is the difference between so many and so few, in batches of the same size: what a
    batch takes while it is worked off is no part of it."""
    out: Path = Path("build/costs.json")


@dataclass(frozen=True, slots=True)
class Round:
    """One stack, idle and under load."""

    idle: Mapping[str, float]
    """Cores by process."""
    stages: Mapping[str, Mapping[str, Any]]
    """As `results.stages_of` has them."""
    rate: float
    """Events judged a second."""
    counted: Mapping[str, float]
    """Decisions and findings, for an event."""
    kafka: KafkaCost
    event_bytes: float

    def of(self, name: str, *, of_own: bool) -> tuple[float, float]:
        """Return what a process takes when idle, and CPU us for an event, or for what it counts itself."""
        stage = self.stages.get(name, {})
        idle, busy = self.idle.get(name, 0.0), float(stage.get("cores") or 0.0)
        rate = self.rate
        if of_own and stage.get("cpu_us"):
            rate = busy / float(stage["cpu_us"]) * 1e6
        return idle, max(0.0, busy - idle) / rate * 1e6 if rate else 0.0


def measure(settings: Settings, options: CostOptions, show: LoadShow) -> Costs:
    """Measure, write the file, and return what it holds."""
    load_before, began_s = os.getloadavg()[0], time.time()
    loops = [loop_ns()]
    count = round(options.rate * (WARM_UP_S + options.load_s))
    crate: list[Round] = []
    wheel: list[Round] = []
    for number in range(options.rounds):
        for choice, rounds in (("require", crate), ("off", wheel)):
            if choice == "require" and find_spec(CRATE) is None:
                continue
            show.say(f"round {number + 1} of {options.rounds}, {'crate' if choice == 'require' else 'wheel'}")
            made = CorpusOptions(
                devices=options.devices,
                records=count,
                bad_share=0.0,
                event_rate=options.rate,
                log_name=settings.log_name,
            )
            with verifier(choice), corpus_of(RunOptions(rate=0.0, made=made), show) as corpus:
                rounds.append(_round(settings, corpus, options, show))
        loops.append(loop_ns())
    show.say("ingest's loop without a broker")
    batch = options.few_devices
    few, many = (_alone(devices, batch) for devices in (options.few_devices, options.many_devices))
    costs = Costs(
        format="attestream costs 1",
        origin=_origin(options, began_s, load_before, median(loops)),
        mix=Mix(
            devices=options.devices,
            rate=options.rate,
            seconds=options.load_s,
            event_bytes=round(wheel[0].event_bytes, 1),
            access_share=made.access_share,
            lifecycle_share=made.lifecycle_share,
            partitions=settings.partitions,
        ),
        stages=Stages(
            ingest_wheel=_stage(wheel, "ingest"),
            ingest_crate=_stage(crate, "ingest") if crate else None,
            seal=_stage(wheel, "seal", of_own=True),
            profile=_stage(wheel, "profile"),
            correlate=_stage(wheel, "correlate"),
            anchor=_stage(wheel, "anchor"),
            broker=_stage(wheel, "kafka"),
        ),
        kafka=_middle_kafka([each.kafka for each in wheel], many),
        leaves=Leaves(
            decisions_per_access=_middle(wheel, lambda each: each.counted["decisions"]) / made.access_share,
            findings_per_event=_middle(wheel, lambda each: each.counted["findings"]),
            entry_bytes=FRAME_BYTES + len(encode_leaf(TYPICAL_OFFSET, round(began_s * 1000), bytes(32))),
        ),
        memory=_memory(wheel, options, few, many),
        rocksdb_bytes=round(many.state_bytes),
    )
    write_costs(options.out, costs)
    return costs


def _round(settings: Settings, corpus: Corpus, options: CostOptions, show: LoadShow) -> Round:
    with site.temporary(settings, on_step=show.step) as stack:
        site.enrol(stack.settings, corpus, show.step)
        runner = Runner(stack, corpus, RunOptions(rate=options.rate), show)
        # Also before the idle part: what a process loads at its first event is no cost of being idle.
        runner.once(Load(options.rate, seconds=WARM_UP_S, drain_s=DRAIN_S, anchored=False), "warming up")
        show.say(f"idle for {options.idle_s:g} s")
        idle = _idle(stack, options.idle_s)
        measured = runner.once(Load(options.rate, drain_s=DRAIN_S, anchored=False), "load")
        if not runner.ok:
            raise LoadTestError(f"the ledger does not balance: {measured.ledger.to_json()}")
        stages = results.stages_of(measured)
        before, after = measured.marks
        judged = max(1, stages["ingest"]["done"])
        sent = slice(0, runner.next)
        return Round(
            idle=idle,
            stages=stages,
            rate=judged / max(1e-9, after.at_s - before.at_s),
            counted={
                name: _rise(measured, f"attestream_{name}_total") / judged
                for name in ("decisions", "findings")
            },
            kafka=_logs(stack.settings, corpus, sent),
            event_bytes=float(corpus.index.sizes[sent].mean()),
        )


def _idle(stack: site.Site, seconds: float) -> dict[str, float]:
    with Watch(stack.pids, stack.ports) as watch:
        before = watch.mark()
        time.sleep(seconds)
        after = watch.mark()
    took_s = after.at_s - before.at_s
    return {
        name: max(0.0, cpu_s - before.cpu_s.get(name, cpu_s)) / took_s for name, cpu_s in after.cpu_s.items()
    }


def _rise(measured: Measured, counter: str) -> float:
    before, after = measured.marks
    return sum(
        now.get(counter, 0.0) - before.counted.get(name, {}).get(counter, 0.0)
        for name, now in after.counted.items()
    )


def _logs(settings: Settings, corpus: Corpus, sent: slice) -> KafkaCost:
    """Measure the broker's logs on disk: what is in them went over the wire as it lies there."""
    folder = settings.data_dir / "kafka" / "data"

    def bytes_of(*names: str) -> int:
        return sum(
            path.stat().st_size
            for name in names
            for place in folder.glob(f"{name}-*")
            if place.name.removeprefix(f"{name}-").isdigit()
            for path in place.glob("*.log")
        )

    sizes, kinds = corpus.index.sizes[sent], corpus.index.kinds[sent]
    events, value_bytes = len(sizes), int(sizes.sum())
    accesses = int((kinds == KINDS.index(PayloadKind.ACCESS)).sum())
    checkpoints = end_offsets(admin(settings), [(topics.CHECKPOINTS, 0)])[topics.CHECKPOINTS, 0]
    changelogs = [topics.changelog_of(name) for name in (*topics.RAW_TOPICS, topics.DECISIONS, topics.PRINTS)]
    return KafkaCost(
        raw_overhead=max(0.0, (bytes_of(*topics.RAW_TOPICS) - value_bytes) / events),
        events_overhead=max(0.0, (bytes_of(topics.EVENTS) - value_bytes) / events),
        decision=bytes_of(topics.DECISIONS) / max(1, accesses),
        findings=bytes_of(topics.FINDINGS) / events,
        prints=bytes_of(topics.PRINTS) / events,
        changelog=bytes_of(*changelogs) / events,
        changelog_kept=0.0,
        checkpoint=bytes_of(topics.CHECKPOINTS) / max(1, checkpoints),
    )


def _alone(devices: int, batch: int) -> AtDevices:
    """Run the loop in a process of its own, whose memory is then that of these devices only."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(at_devices, devices, batch, STEADY_BLOCKS).result()


def _origin(options: CostOptions, began_s: float, load_before: float, pace_ns: float) -> Origin:
    facts = machine()
    defaults, told = CostOptions(), ""
    for name in ("devices", "rate", "rounds", "many_devices"):
        if getattr(options, name) != getattr(defaults, name):
            told += f" --{name.replace('_', '-')} {getattr(options, name):g}"
    return Origin(
        date=time.strftime("%Y-%m-%d", time.gmtime(began_s)),
        command=f"attestream loadtest costs{told}",
        cpu=str(facts["cpu"]),
        cores=int(facts["cores"] or 1),
        python=str(facts["python"]),
        load_before=round(load_before, 2),
        loop_ns=round(pace_ns, 1),
    )


def _stage(rounds: Sequence[Round], name: str, *, of_own: bool = False) -> StageCost:
    idle, cpu_us = (
        median(each) for each in zip(*(one.of(name, of_own=of_own) for one in rounds), strict=True)
    )
    return StageCost(idle_cores=round(idle, 4), cpu_us=round(cpu_us, 2))


def _middle(rounds: Sequence[Round], figure: Callable[[Round], float]) -> float:
    return round(median(figure(each) for each in rounds), 6)


def _middle_kafka(found: Sequence[KafkaCost], many: AtDevices) -> KafkaCost:
    middle = {
        name: round(median(getattr(each, name) for each in found), 2) for name in KafkaCost.model_fields
    }
    return KafkaCost(**{**middle, "changelog_kept": round(many.state_bytes)})


def _memory(rounds: Sequence[Round], options: CostOptions, few: AtDevices, many: AtDevices) -> Memory:
    """Tell what is there for nothing from what a device adds, by the difference between many and few."""
    further = max(1, many.devices - few.devices)
    registry = max(0.0, (many.registry_rss * many.devices - few.registry_rss * few.devices) / further)
    state = max(0.0, (many.state_rss * many.kept - few.state_rss * few.kept) / max(1, many.kept - few.kept))

    def resident(name: str) -> float:
        return median(float(each.stages.get(name, {}).get("rss_mib", 0.0)) for each in rounds)

    return Memory(
        ingest_base_mib=round(max(0.0, resident("ingest") - options.devices * (registry + state) / MIB), 1),
        registry_bytes=round(registry),
        state_bytes=round(state),
        others_mib=round(sum(resident(name) for name in OTHERS), 1),
        broker_mib=round(resident("kafka"), 1),
    )
