"""COMPARE: the same records, on the same broker, worked off by ingest and by what would be built otherwise.

fill       all records are in the raw topics before anybody reads
drain      each contender works them off alone, as fast as it can, in one process
compare    rate, and CPU time for a record, over the part in which it is warm
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from loadtests import openloop
from loadtests.baselines.work import Job
from loadtests.children import Child
from loadtests.committed import Committed
from loadtests.corpus import Corpus
from loadtests.draining import Drained, watch
from loadtests.errors import LoadTestError
from loadtests.target import Target
from pipeline.kafka import admin
from pipeline.loadtest import site
from pipeline.loadtest.show import LoadShow
from pipeline.loadtest.site import Site
from pipeline.local.leash import Leash
from pipeline.local.plan import PYTHON
from pipeline.local.process import ProcessId, spawn
from pipeline.local.stack import settings_environment
from pipeline.settings import Settings
from schemas.native import VARIABLE

OURS, PLAIN, FAUST = "attestream ingest", "plain loop", "Faust"
BASELINES = {PLAIN: "loadtests.baselines.plain_loop", FAUST: "loadtests.baselines.faust_ingest"}
TOPICS = {PLAIN: "loadtest.plain.events", FAUST: "loadtest.faust.events"}
ENVIRONMENT: Mapping[str, Mapping[str, str]] = {PLAIN: {}, FAUST: {VARIABLE: "off"}}
"""Nobody who builds on Faust has our crate; the plain loop has whatever ingest has, to be its upper bound."""
END_S = 30.0
FILL_S = 600.0
ASK_S = 20.0


def compare(
    settings: Settings,
    corpus: Corpus,
    show: LoadShow,
    rounds: int = 1,
    contenders: Sequence[str] = (FAUST, PLAIN, OURS),
) -> dict[str, Any]:
    """Measure all contenders, each round on a fresh stack; return medians and ratios as a document."""
    found: dict[str, list[Drained]] = {name: [] for name in contenders}
    settings = settings.model_copy(update={"log_name": corpus.header.log_name})
    for number in range(rounds):
        with site.temporary(settings, stages=(), on_step=show.step) as stack:
            site.enrol(stack.settings, corpus, show.step)
            show.say(f"round {number + 1} of {rounds}: filling the raw topics")
            fill(stack.target(), corpus)
            for name in contenders:
                drained = drain(stack, corpus, name, show)
                found[name].append(drained)
                show.say(f"{name}: {drained.rate:,.0f}/s, {drained.cpu_us:,.1f} us CPU an envelope")
    return {
        "contenders": {name: medians(each) for name, each in found.items()},
        "rounds": [{name: found[name][number].to_json() for name in contenders} for number in range(rounds)],
        "ratios": ratios({name: medians(each) for name, each in found.items()}),
    }


def ratios(found: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Return Faust's CPU time over ours, and our rate over the plain loop's; None where one is missing."""

    def over(above: str, below: str, what: str) -> float | None:
        if above not in found or below not in found or not found[below][what]:
            return None
        return round(float(found[above][what]) / float(found[below][what]), 2)

    return {"faust_cpu_ratio": over(FAUST, OURS, "cpu_us"), "plain_loop_share": over(OURS, PLAIN, "rate")}


def fill(target: Target, corpus: Corpus) -> None:
    """Send the whole corpus as fast as it goes. Raises LoadTestError where not all of it is acknowledged."""
    said: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="attestream-fill-") as made:
        job = openloop.Job(
            corpus=str(corpus.path),
            first=0,
            count=len(corpus.index),
            rate=0.0,
            seconds=0.0,
            topics=dict(target.raw),
            partitions=target.partitions,
            properties=target.properties,
            out=str(Path(made, "sent.npz")),
        )
        with Child("loadtests.openloop", asdict(job), said.update) as generator:
            generator.wait_ready()
            generator.tell("0")
            generator.join(FILL_S)
    if said.get("acknowledged") != len(corpus.index):
        raise LoadTestError(f"{said.get('acknowledged', 0):,} of {len(corpus.index):,} records were taken")


def drain(stack: Site, corpus: Corpus, name: str, show: LoadShow) -> Drained:
    """Let one contender work off what lies in the raw topics."""
    broker = stack.pids().get("kafka")
    count, target = len(corpus.index), stack.target()

    def on_progress(done: int) -> None:
        show.step(f"{name}: {done * 100 // count} % of {count:,}")

    if name == OURS:
        with worker(stack.settings, "ingest") as pid, closing(committed(target)) as done_by:
            return watch(name, lambda: {name: pid}, broker, done_by.total, count, on_progress)
    _create(admin(stack.settings), TOPICS[name], target.partitions)
    said: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="attestream-baseline-") as folder:
        job = Job(
            corpus=str(corpus.path),
            properties=target.properties,
            raw=target.raw,
            partitions=target.partitions,
            out=TOPICS[name],
            count=count,
            folder=folder,
        )
        with Child(BASELINES[name], asdict(job), said.update, ENVIRONMENT[name]) as child:

            def done() -> int:
                child.check()
                # Before it is over its last records are not acknowledged.
                return int(said.get("done", 0)) if said.get("over") else min(count - 1, said.get("done", 0))

            drained = watch(name, lambda: {name: child.pid}, broker, done, count, on_progress)
            child.end()
    expected = count - corpus.header.forged
    if said.get("accepted") != expected:
        raise LoadTestError(f"{name} accepted {said.get('accepted', 0):,} records, not {expected:,}")
    return drained


@contextmanager
def worker(settings: Settings, stage: str, slot: int = 0) -> Iterator[int]:
    """Run a worker of a stage; gives its process id."""
    argv = [*PYTHON, "pipeline.cli.main", "run", stage, "--slot", str(slot)]
    leash = Leash()
    log = settings.data_dir / "run" / f"{stage}-{slot}.compared.log"
    process = spawn(argv, log, env=settings_environment(settings), leash=leash)
    try:
        yield process.pid
    finally:
        ProcessId.of(process.pid).end(END_S)
        process.wait()
        leash.release()


def committed(target: Target) -> Committed:
    """Tell how far ingest has come."""
    places = [(topic, number) for topic in target.raw.values() for number in range(target.partitions)]
    return Committed(target.properties, target.group, places)


def _create(client: AdminClient, topic: str, partitions: int) -> None:
    for answer in client.create_topics([NewTopic(topic, partitions, 1)], operation_timeout=ASK_S).values():
        try:
            answer.result(ASK_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # of an earlier comparison
                raise


def medians(found: Sequence[Drained]) -> dict[str, Any]:
    """Return the medians of several rounds by name."""
    documents = [each.to_json() for each in found]
    return {
        name: round(median(each[name] for each in documents), 1)
        for name in ("rate", "cpu_us", "broker_cpu_us", "rss_mib")
    }
