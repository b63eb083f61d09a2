"""`attestream loadtest bench|costs|scale`: the figures that the documents quote, measured anew."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import settings_from

FAILED = 1


def bench(  # noqa: PLR0917 - typer takes every option as a parameter
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of bench.json and bench.html.")] = Path(
        "build"
    ),
    rounds: Annotated[int, typer.Option(help="Of working off a backlog; medians count.", min=1)] = 3,
    drain_records: Annotated[int, typer.Option(help="Records of such a backlog.", min=1000)] = 100_000,
    seal_records: Annotated[
        int, typer.Option(help="Leaves of seal's backlog, and of Tessera's.", min=1000)
    ] = 300_000,
    devices: Annotated[int, typer.Option(help="How many devices sign.", min=1)] = 1000,
    trial_seconds: Annotated[float, typer.Option(help="Of one rate of the search.", min=1.0)] = 10.0,
    confirm_seconds: Annotated[float, typer.Option(help="The rate found is held so long.", min=1.0)] = 60.0,
    half_seconds: Annotated[float, typer.Option(help="At half that rate.", min=1.0)] = 30.0,
    objective_ms: Annotated[float, typer.Option(help="Bound of the p99 until accepted.", min=1.0)] = 1000.0,
    many_devices: Annotated[
        int, typer.Option(help="Devices for a worker's memory; 0 leaves it out.", min=0)
    ] = 100_000,
) -> None:
    """Measure the figures that the documents quote: CPU time, sustained rate, latencies, memory, baselines.

    With the native verifier where it is installed, and without.
    """
    from pipeline.demo.session import interruptible
    from pipeline.loadtest.bench import KEYS, BenchOptions
    from pipeline.loadtest.bench import bench as measure
    from pipeline.loadtest.show import LoadShow

    options = BenchOptions(
        rounds=rounds,
        drain_records=drain_records,
        seal_records=seal_records,
        devices=devices,
        trial_s=trial_seconds,
        confirm_s=confirm_seconds,
        half_s=half_seconds,
        objective_ms=objective_ms,
        many_devices=many_devices,
        out=out,
    )
    with interruptible():
        found = measure(settings_from(), options, LoadShow())
    for title, figures in (
        ("native" if found["native"] else "no crate", found),
        ("wheels", found["wheels_only"]),
    ):
        print(f"{title}: " + ", ".join(f"{name} {figures[name]}" for name in KEYS))
    print(f"results in {out / 'bench.json'} and {out / 'bench.html'}")
    if found["lost"] or found["duplicated"]:
        raise typer.Exit(FAILED)


def profile(
    py_spy: Annotated[Path, typer.Option(help="The program that looks: `make profile` fetches it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture.")] = Path("build/ingest.svg"),
    num_records: Annotated[int, typer.Option(help="Records of the backlog.", min=1000)] = 100_000,
    devices: Annotated[int, typer.Option(help="How many devices sign.", min=1)] = 1000,
    bad_share: Annotated[float, typer.Option(help="Share of forgeries.", min=0.0, max=1.0)] = 0.0,
) -> None:
    """Draw where the CPU time of ingest goes, as a flame graph, while it works off a backlog."""
    from pipeline.demo.session import interruptible
    from pipeline.loadtest.profiling import profile as draw
    from pipeline.loadtest.run import CorpusOptions, RunOptions, corpus_of
    from pipeline.loadtest.show import LoadShow

    settings, show = settings_from(), LoadShow()
    made = CorpusOptions(
        devices=devices,
        records=num_records,
        bad_share=bad_share,
        event_rate=float(devices),
        log_name=settings.log_name,
    )
    with interruptible(), corpus_of(RunOptions(rate=0.0, made=made), show) as corpus:
        found = draw(settings, corpus, show, py_spy, out)
    print(f"{found.cpu_us:,.1f} us CPU an envelope while py-spy looked on, {found.rate:,.0f}/s; {out}")


def costs(  # noqa: PLR0917 - typer takes every option as a parameter
    out: Annotated[Path, typer.Option("--out", "-o", help="The file of costs.")] = Path("build/costs.json"),
    devices: Annotated[int, typer.Option(help="How many devices report.", min=1)] = 1000,
    rate: Annotated[float, typer.Option(help="Events a second, all together.", min=1.0)] = 5000.0,
    load_seconds: Annotated[float, typer.Option(help="Under load, after ten to warm up.", min=5.0)] = 20.0,
    idle_seconds: Annotated[float, typer.Option(help="While nothing comes.", min=1.0)] = 6.0,
    rounds: Annotated[int, typer.Option(help="Medians of so many stacks.", min=1)] = 3,
    many_devices: Annotated[
        int, typer.Option(help="For the memory of a device, against a fifth of it.", min=50)
    ] = 10_000,
) -> None:
    """Measure what the cost model reckons with, for `attestream size --costs FILE`.

    CPU time of each stage when idle and for an event, bytes in Kafka, memory and disk of a device.
    """
    from pipeline.demo.session import interruptible
    from pipeline.loadtest.costing import CostOptions, measure
    from pipeline.loadtest.show import LoadShow

    options = CostOptions(
        devices=devices,
        rate=rate,
        load_s=load_seconds,
        idle_s=idle_seconds,
        rounds=rounds,
        few_devices=many_devices // 5,
        many_devices=many_devices,
        out=out,
    )
    with interruptible():
        found = measure(settings_from(), options, LoadShow())
    for name, stage in found.stages:
        said = (
            "not measured"
            if stage is None
            else f"{stage.idle_cores:.3f} cores, {stage.cpu_us:.1f} us CPU more"
        )
        print(f"{name}: {said}")
    print(f"costs in {out}")


def scale(  # noqa: PLR0917 - typer takes every option as a parameter
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of scale.json.")] = Path("build"),
    devices: Annotated[
        str, typer.Option(help="Numbers of devices at which an event is measured; empty: none.")
    ] = "1000,10000,100000",
    warm_events: Annotated[int, typer.Option(help="Of each device before, in eights.", min=8)] = 40,
    leaves: Annotated[
        str, typer.Option(help="Sizes of the tree at which a leaf is measured; empty: none.")
    ] = "1000000,10000000,50000000",
    window: Annotated[
        int, typer.Option(help="Leaves that are measured at once, five times.", min=100)
    ] = 200_000,
    workers: Annotated[
        bool, typer.Option("--workers", help="Also one and two workers, and one to eight partitions.")
    ] = False,
    worker_records: Annotated[
        int, typer.Option(help="With --workers: records to work off.", min=100)
    ] = 200_000,
    rounds: Annotated[int, typer.Option(help="With --workers: medians of so many.", min=1)] = 3,
) -> None:
    """Measure whether costs grow linearly: an event at many devices, a leaf in a large tree, more workers."""
    from pipeline.demo.session import interruptible
    from pipeline.loadtest.scale import ScaleOptions, tell
    from pipeline.loadtest.scale import scale as measure
    from pipeline.loadtest.show import LoadShow

    options = ScaleOptions(
        devices=_numbers("--devices", devices),
        warm_events=warm_events,
        leaves=_numbers("--leaves", leaves),
        window=window,
        workers=workers,
        worker_records=worker_records,
        rounds=rounds,
        out=out,
    )
    with interruptible():
        found = measure(settings_from(), options, LoadShow())
    tell(found)
    print(f"results in {out / 'scale.json'}")


def _numbers(option: str, text: str) -> tuple[int, ...]:
    """Read whole numbers that rise, with commas between them."""
    from pipeline.settings import UsageError

    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if not all(part.isascii() and part.isdigit() and len(part) < 12 for part in parts):
        raise UsageError(f"{option} {text[:60]!a}: whole numbers with commas between them")
    found = tuple(int(part) for part in parts)
    if list(found) != sorted(set(found)) or 0 in found:
        raise UsageError(f"{option} {text[:60]!a}: they must be above 0 and rise")
    return found
