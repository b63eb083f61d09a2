"""`attestream loadtest`: what a stack bears, and how fast it is meanwhile; its benches are in `loadbench`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.loadbench import bench, costs, profile, scale
from pipeline.cli.loadtold import tell_comparison, tell_run, tell_seals
from pipeline.cli.options import BootstrapServers, CommandConfig, DataDir, settings_from

if TYPE_CHECKING:
    from pipeline.loadtest.run import CorpusOptions

UNLIMITED = -1.0
COMPARED = 100_000
FAILED = 1

Devices = Annotated[int, typer.Option(help="How many devices sign.", min=1)]
BadShare = Annotated[float, typer.Option(help="Share of events whose signature is forged.", min=0.0)]
AccessShare = Annotated[float, typer.Option(help="Share of log-ins among the events.", min=0.0, max=1.0)]
LifecycleShare = Annotated[
    float, typer.Option(help="Share of turns of life (boot, calibration).", min=0.0, max=1.0)
]
RecordSize = Annotated[
    int | None,
    typer.Option(help="Bytes of a telemetry event, grown by readings.  [default: that of 8 readings]", min=1),
]
EventRate = Annotated[
    float, typer.Option(help="Events a second by the devices' own clocks, all together.", min=0.001)
]
Seed = Annotated[int | None, typer.Option(help="Make the same corpus again; the seed is in its folder.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    loadtest = typer.Typer(help="Load tests: corpora, runs, baselines, reports.", no_args_is_help=True)
    loadtest.callback()(_loadtest)
    loadtest.command(name="corpus")(corpus)
    loadtest.command(name="run")(run)
    loadtest.command(name="compare")(compare)
    loadtest.command(name="report")(report)
    for command in (bench, costs, scale, profile):
        loadtest.command(name=command.__name__)(command)
    app.add_typer(loadtest, name="loadtest")


def _loadtest() -> None:
    """Size a deployment: send signed events at a rate, and account for each."""


def corpus(  # noqa: PLR0917 - typer takes every option as a parameter
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the corpus.")],
    devices: Devices = 1000,
    num_records: Annotated[int, typer.Option(help="How many events.", min=1)] = 100_000,
    bad_share: BadShare = 0.01,
    access_share: AccessShare = 0.01,
    lifecycle_share: LifecycleShare = 0.01,
    record_size: RecordSize = None,
    event_rate: EventRate = 20_000.0,
    seed: Seed = None,
    data_dir: DataDir = None,
) -> None:
    """Sign events beforehand, so that signing takes no CPU time from what is measured.

    It can be sent once to a fresh stack, within 30 days (max_behind_s): after that its events are too old.
    """
    from pipeline.loadtest.run import CorpusOptions, make_corpus
    from pipeline.loadtest.show import LoadShow

    options = CorpusOptions(
        devices=devices,
        records=num_records,
        bad_share=bad_share,
        event_rate=event_rate,
        record_size=record_size,
        access_share=access_share,
        lifecycle_share=lifecycle_share,
        seed=seed,
        log_name=settings_from(data_dir).log_name,
    )
    path = make_corpus(out, options, LoadShow())
    print(f"{path}: {path.stat().st_size / 1e6:,.0f} MB")


def run(  # noqa: PLR0917 - typer takes every option as a parameter
    out: Out = Path("loadtest"),
    from_corpus: Annotated[
        Path | None,
        typer.Option("--corpus", help="Folder of a corpus.  [default: one is made now]", exists=True),
    ] = None,
    throughput: Annotated[
        float, typer.Option(help="Records a second; -1: as fast as it goes. With --find-max: where to begin.")
    ] = 1000.0,
    num_records: Annotated[int | None, typer.Option(help="How many records to send.", min=1)] = None,
    duration: Annotated[float | None, typer.Option(help="Seconds to send for.", min=0.1)] = None,
    warmup_records: Annotated[int, typer.Option(help="Leave so many out of the latencies.", min=0)] = 0,
    record_size: RecordSize = None,
    devices: Devices = 1000,
    bad_share: BadShare = 0.01,
    access_share: AccessShare = 0.01,
    lifecycle_share: LifecycleShare = 0.01,
    seed: Seed = None,
    producer_props: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A setting of the producer; repeatable.")
    ] = None,
    partitions: Annotated[
        int | None, typer.Option(help="Of the topics keyed by device.  [default: 8]", min=1)
    ] = None,
    workers: Annotated[int, typer.Option(help="Workers of ingest.", min=1)] = 1,
    monitor: Annotated[bool, typer.Option("--monitor", help="Run the monitor as well.")] = False,
    find_max: Annotated[
        bool, typer.Option("--find-max", help="Search for the highest rate that is sustained.")
    ] = False,
    objective_ms: Annotated[
        float, typer.Option(help="With --find-max: bound of the 99th percentile, until accepted.", min=1.0)
    ] = 1000.0,
    trial_seconds: Annotated[float, typer.Option(help="With --find-max: of one rate.", min=1.0)] = 10.0,
    confirm_seconds: Annotated[
        float, typer.Option(help="With --find-max: the rate found is held so long.", min=1.0)
    ] = 60.0,
    metrics_port: Annotated[
        int | None, typer.Option(help="Serve Prometheus metrics on 127.0.0.1 meanwhile.", min=0, max=65535)
    ] = None,
    bootstrap_servers: BootstrapServers = None,
    command_config: CommandConfig = None,
    data_dir: DataDir = None,
) -> None:
    """Send signed events at a rate, and measure what becomes of them and when.

    A stack of its own is started and taken down, unless one that runs is named with --bootstrap-servers or
    --data-dir. Exit code 1 where a record was lost, judged twice or judged wrongly.
    """
    from pipeline.demo.session import interruptible
    from pipeline.loadtest.run import DEFAULT_SECONDS, RunOptions, pace_of_search
    from pipeline.loadtest.run import run as measure
    from pipeline.loadtest.show import LoadShow
    from pipeline.settings import UsageError, parse_assignments

    if throughput <= 0 and throughput != UNLIMITED:
        raise UsageError(f"--throughput {throughput:g}: more than 0, or -1 for as fast as it goes")
    rate = 0.0 if throughput == UNLIMITED else throughput
    if find_max and not rate:
        raise UsageError("--find-max begins at a rate: give --throughput")
    settings = settings_from(data_dir, bootstrap_servers, command_config)
    if partitions is not None:
        settings = settings.model_copy(update={"partitions": partitions})
    made: CorpusOptions = _made(
        devices=devices,
        records=_records(
            rate, num_records, duration or DEFAULT_SECONDS, confirm_seconds if find_max else 0.0
        ),
        bad_share=bad_share,
        event_rate=pace_of_search(rate, devices) if find_max else rate or 20_000.0,
        record_size=record_size,
        access_share=access_share,
        lifecycle_share=lifecycle_share,
        seed=seed,
        log_name=settings.log_name,
    )
    show = LoadShow()
    options = RunOptions(
        rate=rate,
        records=num_records,
        seconds=duration,
        warmup=warmup_records,
        corpus=from_corpus,
        made=made,
        producer=parse_assignments(producer_props or []),
        workers=workers,
        with_monitor=monitor,
        on_running=data_dir is not None or bootstrap_servers is not None,
        find_max=find_max,
        objective_ms=objective_ms,
        trial_s=trial_seconds,
        confirm_s=confirm_seconds,
        metrics_port=metrics_port,
        out=out,
    )
    with interruptible():
        document = measure(settings, options, show)
    tell_run(document)
    print(f"results in {out}")
    ours = document["attestream"]
    if not (ours["ledger"]["ok"] and ours.get("find_max", {}).get("ok", True)):
        raise typer.Exit(FAILED)


def compare(  # noqa: PLR0917 - typer takes every option as a parameter
    out: Out = Path("loadtest"),
    from_corpus: Annotated[
        Path | None,
        typer.Option("--corpus", help="Folder of a corpus.  [default: one is made now]", exists=True),
    ] = None,
    seal: Annotated[
        bool, typer.Option("--seal", help="Compare seal with Tessera instead; needs Go.")
    ] = False,
    num_records: Annotated[
        int | None,
        typer.Option(help="How many records.  [default: 100000; with --seal 500000]", min=100),
    ] = None,
    devices: Devices = 1000,
    bad_share: BadShare = 0.0,
    partitions: Annotated[
        int | None, typer.Option(help="Of the topics keyed by device.  [default: 8]", min=1)
    ] = None,
    rounds: Annotated[int, typer.Option(help="Medians of so many, each on a fresh stack.", min=1)] = 1,
) -> None:
    """Work off the same records by ingest and by two baselines, one after another on one broker.

    A plain confluent-kafka loop without any guarantee is the upper bound; a tuned Faust application that
    verifies, refuses replays and forwards is what would be built otherwise. With --seal the same leaves are
    sealed by seal and appended by Tessera's POSIX log.
    """
    from pipeline.demo.session import interruptible
    from pipeline.loadtest.compare import compare as measure
    from pipeline.loadtest.run import CorpusOptions, RunOptions, corpus_of
    from pipeline.loadtest.sealing import CORPUS_RECORDS, RECORDS, compare_seals
    from pipeline.loadtest.show import LoadShow
    from pipeline.settings import UsageError

    if seal and partitions is not None:
        raise UsageError("--seal compares one tree with one: leave --partitions out")
    settings = settings_from()
    if partitions is not None:
        settings = settings.model_copy(update={"partitions": partitions})
    show = LoadShow()
    count = num_records or (RECORDS if seal else COMPARED)
    made = CorpusOptions(
        devices=devices,
        records=min(count, CORPUS_RECORDS) if seal else count,
        bad_share=bad_share,
        log_name=settings.log_name,
    )
    with interruptible(), corpus_of(RunOptions(rate=0.0, corpus=from_corpus, made=made), show) as corpus:
        if seal:
            found = compare_seals(settings, corpus, show, rounds, count)
        else:
            found = measure(settings, corpus, show, rounds)
    out.mkdir(parents=True, exist_ok=True)
    (out / "compare.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if seal:
        tell_seals(found)
    else:
        tell_comparison(found)
    print(f"results in {out / 'compare.json'}")


def report(
    results: Annotated[list[Path], typer.Argument(help="Results: folders, or files of JSON.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the page goes.")] = Path("loadtest.html"),
    title: Annotated[str, typer.Option(help="Its title.")] = "Load tests of attestream",
) -> None:
    """Put results together to one HTML page that needs nothing else."""
    from pipeline.loadtest.report import page
    from pipeline.loadtest.resultmodel import read

    found = [read(path) for path in results]
    out.write_text(page(found, title), encoding="utf-8")
    print(f"{out}: {len(found)} runs")


def _made(**given: Any) -> "CorpusOptions":
    from pipeline.loadtest.run import CorpusOptions

    return CorpusOptions(**given)


def _records(rate: float, records: int | None, seconds: float, confirm_s: float) -> int:
    """How many records a corpus must have that is made for this run."""
    if records:
        return records
    if confirm_s:
        # As far as four times where it begins, and then the confirmation.
        return round(rate * (200 + 4 * confirm_s))
    return round(rate * seconds) if rate else 100_000
