"""A stack under load: a temporary one of its own, or one that runs; its devices are those of a corpus.

What `loadtests` needs to know of a stack it is told as a `Target`; nothing there imports a stage.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtests.corpus import Corpus
from loadtests.corpusplan import device_ward, nurse_ward
from loadtests.errors import PlanError
from loadtests.fleet import KEY_ID
from loadtests.target import Target
from pipeline import topics
from pipeline.authority import Authority, NewKey
from pipeline.kafka import admin
from pipeline.local.stack import LocalStack
from pipeline.local.status import read_status
from pipeline.membership import group_of
from pipeline.policies import SHIPPED, PolicyAuthority, shipped
from pipeline.settings import Settings

STAGES = ("ingest", "profile", "seal", "anchor", "correlate", "route", "deliver")
"""All that a record passes; the monitor is another party's and reads everything once more."""
SILENCE_S = 86_400.0
"""A temporary stack is left alone between runs, which is no silence of its devices."""
ENROL_AT_ONCE = 5000
MONITOR = {"kind": "bedside monitor", "manufacturer": "Example Medical", "model": "VM-4", "firmware": "4.2.1"}
AROUND_THE_CLOCK = "00:00-00:00"

OnStep = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Site:
    """A stack that is up."""

    settings: Settings
    stages: tuple[str, ...]
    """Those that run, as far as is known."""

    def target(self) -> Target:
        """Say what is to be measured here."""
        settings = self.settings
        log = settings.data_dir / "log"
        absent = {}
        for leg, stage in (("checkpoint", "seal"), ("anchored", "anchor"), ("alert", "correlate")):
            if self.stages and stage not in self.stages:
                absent[leg] = f"the stage {stage} does not run"
            elif leg != "alert" and not log.exists() and not self.stages:
                absent[leg] = f"the published logs are not in {log}"
        return Target(
            properties={"bootstrap.servers": settings.bootstrap(), **settings.kafka_properties()},
            raw={kind.value: topic for topic, kind in topics.RAW_TOPICS.items()},
            events=topics.EVENTS,
            rejected=topics.REJECTED,
            checkpoints=topics.CHECKPOINTS,
            anchors=topics.ANCHORS,
            alerts=topics.ALERTS,
            partitions=settings.partitions,
            group=group_of(settings, "ingest"),
            log_name=settings.log_name,
            log="" if "checkpoint" in absent else str(log),
            pids=self.pids,
            ports=self.ports,
            absent={**absent, **({"anchored": absent["checkpoint"]} if "checkpoint" in absent else {})},
        )

    def pids(self) -> Mapping[str, int]:
        """Return the processes of the stack on this machine, by name."""
        rows = read_status(self.settings.data_dir).processes
        return {row.name: row.pid for row in rows if row.pid is not None and row.state != "finished"}

    def ports(self) -> Mapping[str, int]:
        """Return where stages on this machine have their metrics, by name."""
        found = {}
        for path in (self.settings.data_dir / "run").glob("*.health.json"):
            try:
                port = json.loads(path.read_text(encoding="utf-8")).get("metrics_port")
            except (OSError, ValueError):
                continue  # being replaced
            if isinstance(port, int):
                found[path.name.removesuffix(".health.json")] = port
        return found


@contextmanager
def temporary(
    settings: Settings,
    *,
    workers: int = 1,
    with_monitor: bool = False,
    stages: tuple[str, ...] | None = None,
    for_long: bool = False,
    on_step: OnStep = lambda _text: None,
) -> Iterator[Site]:
    """Run a stack in a folder of its own, which is gone afterwards.

    `for_long` is for what begins to count after half a minute: until then the broker's compiler is at work.
    """
    chosen = stages if stages is not None else (*STAGES, *(("monitor",) if with_monitor else ()))
    with tempfile.TemporaryDirectory(prefix="attestream-loadtest-") as made:
        given = settings.model_copy(
            update={
                "data_dir": Path(made),
                "bootstrap_servers": "",
                "silence_after_s": SILENCE_S,
                "local_kafka_for_long": for_long,
            }
        )
        chosen = tuple(each for each in chosen if each not in ("route", "deliver"))
        with closing_stack(LocalStack(given, stages=chosen, workers=workers), on_step):
            yield Site(given, chosen)


@contextmanager
def closing_stack(stack: LocalStack, on_step: OnStep) -> Iterator[LocalStack]:
    """Have a stack up inside the block."""

    def on_download(done_bytes: int, total_bytes: int) -> None:
        on_step(f"fetching Apache Kafka, once: {done_bytes * 10 // max(1, total_bytes) * 10} %")

    try:
        stack.start(on_step, on_download)
        yield stack
    finally:
        stack.stop()


def running(settings: Settings) -> Site:
    """Take a stack that runs; raises PlanError where its topics are not as they should be."""
    problems = topics.check(admin(settings), settings)
    if problems:
        raise PlanError(f"{settings.bootstrap()} is no stack for this: {problems[0]}")
    rows = read_status(settings.data_dir).processes
    known = {row.name for row in rows}
    return Site(settings, tuple(stage for stage in (*STAGES, "monitor") if stage in known))


def enrol(settings: Settings, corpus: Corpus, on_step: OnStep = lambda _text: None) -> int:
    """Register the devices and nurses of a corpus as far as they are not, and publish the shipped policies.

    Returns how many were registered. Raises PlanError where the corpus is another log's, and what the
    authority raises, such as UsageError where its key is not here.
    """
    header = corpus.header
    if header.log_name != settings.log_name:
        raise PlanError(
            f"{corpus.path} is signed for the log {header.log_name!r}, this one is {settings.log_name!r}"
        )
    registered = 0
    with closing(Authority(settings)) as authority:
        known = authority.refresh()
        for start in range(0, header.devices + header.nurses, ENROL_AT_ONCE):
            on_step(f"registering devices: {start:,} of {header.devices + header.nurses:,}")
            numbers = range(start, min(start + ENROL_AT_ONCE, header.devices + header.nurses))
            missing = [each for each in (_subject(corpus, n) for n in numbers) if not known.subject(each[0])]
            authority.enroll_many(missing)
            registered += len(missing)
    with closing(PolicyAuthority(settings)) as policies:
        if registered:
            policies.publish(SHIPPED, shipped(".cedar"), shipped(".cedarschema"))
    return registered


def _subject(corpus: Corpus, number: int) -> tuple[str, NewKey, Mapping[str, str]]:
    did, key = corpus.did(number), corpus.device_key(number)
    nurse = number - corpus.header.devices
    if nurse < 0:
        return did, NewKey(KEY_ID, key), {**MONITOR, "ward": device_ward(number)}
    about = {
        "name": f"nurse {nurse + 1}",
        "kind": "clinician",
        "roles": "nurse",
        "wards": nurse_ward(nurse),
        "shift": AROUND_THE_CLOCK,
    }
    return did, NewKey(KEY_ID, key, "APPROVAL"), about
