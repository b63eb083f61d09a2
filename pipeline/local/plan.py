"""The table of the local stack: which processes, in which order, how many of each.

A new stage is one line of `STAGES`.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

from pipeline.local.errors import StackFailedError
from pipeline.local.files import accepts, choose_ports
from pipeline.local.kafka import Broker
from pipeline.local.spec import ProcessSpec, asks, finishes, health_file
from pipeline.local.stackfile import StackFile
from pipeline.local.supervisor import Await, Plan, Start, Step
from pipeline.settings import Settings

PYTHON = (sys.executable, "-P", "-m")
LOWEST_PRIORITY = 19
CONNECT_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class StageRow:
    """One stage and how many of its workers run; each worker is a slot with a number of its own."""

    stage: str
    slots: int = 1
    for_parties: bool = False
    """Only where there is a parties file: nobody else would be told."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is particular to one start of the stack."""

    kafka_port: int | None = None
    """None: the port of last time, or a free one."""
    stages: tuple[str, ...] | None = None
    """Only these stages, so that another can be run by hand; None: all of them."""
    workers: int = 1
    """Of ingest."""


STAGES = (
    StageRow("ingest"),
    StageRow("profile"),
    StageRow("seal"),
    StageRow("anchor"),
    StageRow("correlate"),
    StageRow("route", for_parties=True),
    StageRow("deliver", for_parties=True),
    StageRow("monitor"),
)


def local_plan(settings: Settings, choice: Choice, stack_file: StackFile, resources: ExitStack) -> Plan:
    """Kafka and the ledger stand-in, then topics and keys, then every stage.

    `resources` is closed when the stack is down. Raises StackBusyError when the broker is not ours.
    """
    first: list[ProcessSpec] = []
    before: list[Step] = []
    helpers: list[ProcessSpec] = []
    if settings.bootstrap_servers:
        stack_file.update(bootstrap_servers=settings.bootstrap_servers)
    else:
        broker = Broker(settings.data_dir, cache_dir=settings.cache_dir, port=choice.kafka_port)
        broker.runs_for_long = settings.local_kafka_for_long
        resources.enter_context(broker.owned())
        before.append(Step("preparing Kafka", broker.prepare))
        first.append(_kafka(broker, stack_file))
        helpers.append(_aot_training(settings))
    if not settings.ledger_nodes:
        first.append(_ledger(settings, stack_file))
    rows = [_as_many(row, choice) for row in STAGES if _is_wanted(row, settings, choice)]
    stages = [spec for row in rows for spec in _stage(settings, row)]
    stack_file.update(stages=[spec.name for spec in stages])
    return [
        *before,
        Start(first),
        # While the broker comes up they load their code, which takes as long, and then wait for topics.
        Start(stages),
        Await("starting " + " and ".join(spec.name for spec in first), first),
        Step("creating topics and keys", lambda: _set_up(settings, stack_file)),
        Await("starting the stages", stages),
        Start(helpers),
        Await("", helpers),
    ]


def _is_wanted(row: StageRow, settings: Settings, choice: Choice) -> bool:
    from pipeline.parties import has_parties

    if choice.stages is not None:
        return row.stage in choice.stages
    return not row.for_parties or has_parties(settings)


def _as_many(row: StageRow, choice: Choice) -> StageRow:
    return replace(row, slots=choice.workers) if row.stage == "ingest" else row


def _kafka(broker: Broker, stack_file: StackFile) -> ProcessSpec:
    def started(pid: int) -> None:
        broker.record(pid)
        stack_file.update(bootstrap_servers=broker.bootstrap_servers)

    return ProcessSpec(
        name="kafka",
        argv=broker.argv_for,
        probe=asks(broker.is_ready, what="does not answer"),
        on_start=started,
    )


def _ledger(settings: Settings, stack_file: StackFile) -> ProcessSpec:
    ports = choose_ports(settings.data_dir / "ledger" / "ports.json", {"grpc_port": None, "rest_port": None})
    stack_file.update(ledger=ports)
    return ProcessSpec(
        name="ledger",
        argv=lambda _failures: [
            *PYTHON, "pipeline.cli.main", "ledger", "serve", "--data-dir", str(settings.data_dir),
            "--grpc-port", str(ports["grpc_port"]), "--rest-port", str(ports["rest_port"]),
        ],
        probe=asks(lambda: all(accepts(port) for port in ports.values()), what="does not answer"),
    )  # fmt: skip


def _stage(settings: Settings, row: StageRow) -> Iterator[ProcessSpec]:
    for slot in range(row.slots):
        name = row.stage if slot == 0 else f"{row.stage}-{slot}"
        argv = [
            *PYTHON, "pipeline.cli.main", "run", row.stage,
            "--data-dir", str(settings.data_dir), "--slot", str(slot), "--when-set-up",
        ]  # fmt: skip
        yield ProcessSpec(
            name=name,
            argv=lambda _failures, argv=argv: argv,  # type: ignore[misc]
            probe=health_file(settings.data_dir / "run" / f"{name}.health.json"),
        )


def _aot_training(settings: Settings) -> ProcessSpec:
    """The broker's AOT cache, made while the stack runs; ends at once where there is one."""
    return ProcessSpec(
        name="kafka-aot",
        argv=lambda _failures: [*PYTHON, "pipeline.local.aot_train", str(settings.cache_dir)],
        probe=finishes(),
        restart=False,
        niceness=LOWEST_PRIORITY,
    )


def _set_up(settings: Settings, stack_file: StackFile) -> None:
    from confluent_kafka import KafkaException

    from pipeline import kafka, topics, trust

    try:
        client = kafka.admin(settings)
        client.list_topics(timeout=CONNECT_TIMEOUT_S)
    except KafkaException as error:
        raise StackFailedError(f"Kafka at {settings.bootstrap()} cannot be reached: {error}") from error
    topics.apply(client, settings)
    trust.init_local(settings)
    stack_file.update(is_set_up=True)
