"""SCALE: does cost grow linearly? Devices, leaves, workers and partitions, in one document.

devices    CPU time of an event in ingest at growing numbers of devices
leaves     CPU time of a leaf in seal at growing sizes of the tree
workers    rates of one and two workers, of one to eight partitions
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests import results
from loadtests.processes import machine
from pipeline.loadtest import scaledevices, scaleleaves, scaleworkers
from pipeline.loadtest.run import CorpusOptions, RunOptions, corpus_of
from pipeline.loadtest.scaleworkers import Layout
from pipeline.loadtest.show import LoadShow
from pipeline.settings import Settings
from processors.detect.blocks import BLOCK
from schemas.ed25519 import VERIFIER

FORMAT = "attestream scale 1"
MOST_SPREAD = 0.2
"""Costs that differ by less are called linear."""
PARTITIONS = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class ScaleOptions:
    """What is measured; an empty list leaves a part out."""

    devices: tuple[int, ...] = (1_000, 10_000, 100_000)
    warm_events: int = scaledevices.WARM_BLOCKS * BLOCK
    """Of each device, before it is measured; a multiple of a block."""
    leaves: tuple[int, ...] = (1_000_000, 10_000_000, 50_000_000)
    window: int = scaleleaves.WINDOW_LEAVES
    workers: bool = False
    worker_records: int = 200_000
    worker_devices: int = 2_000
    rounds: int = 3
    """Of workers and partitions."""
    out: Path = Path("build")


def scale(settings: Settings, options: ScaleOptions, show: LoadShow) -> dict[str, Any]:
    """Measure, write `scale.json` into `options.out`, and return the document."""
    began_s = time.time()
    document: dict[str, Any] = {
        "format": FORMAT,
        "date": time.strftime("%Y-%m-%d", time.gmtime(began_s)),
        "machine": machine(),
        "verifier": VERIFIER,
    }
    if options.devices:
        document["devices"] = _devices(settings, options, show)
    if options.leaves:
        options.out.mkdir(parents=True, exist_ok=True)
        found = scaleleaves.at_leaves(options.leaves, options.out, show.step, options.window)
        document["leaves"] = part([each.to_json() for each in found], window=options.window)
    if options.workers:
        document["workers"] = _workers(settings, options, show)
    document["seconds"] = round(time.time() - began_s)
    options.out.mkdir(parents=True, exist_ok=True)
    results.write_json(options.out / "scale.json", document)
    return document


def _devices(settings: Settings, options: ScaleOptions, show: LoadShow) -> dict[str, Any]:
    """Measure batches as a fleet that reports makes them, and of small fleets those of a backlog too.

    A device that reports once a second comes once in a batch, which is held open for a part of one. A backlog
    fills a batch; where that is larger than the fleet it has several events of a device, whose state is
    written once for all of them. That is a saving of small fleets, not a cost that grows.
    """
    full, rows, backlog = settings.batch_records, [], []
    warm_blocks = max(1, round(options.warm_events / BLOCK))
    for devices in options.devices:
        show.say(f"{devices:,} devices: {devices * BLOCK * (warm_blocks + 1):,} events a run")
        rows.append(scaledevices.median_run(devices, min(devices, full), warm_blocks).to_json())
        show.say(f"{devices:,} devices: {rows[-1]['cpu_us']:.1f} us CPU an event")
        is_once = devices >= full
        backlog.append(rows[-1] if is_once else scaledevices.median_run(devices, full, warm_blocks).to_json())
    return {**part(rows, warm_events=warm_blocks * BLOCK), "backlog": part(backlog)}


def part(rows: Sequence[Mapping[str, Any]], **about: Any) -> dict[str, Any]:
    """Put rows together with their spread, also of what they cost over a small one in the same minutes."""
    return {
        **about,
        "rows": list(rows),
        "spread": spread([row["cpu_us"] for row in rows]),
        "spread_of_ratios": spread([row["cpu_us"] / row["beside_us"] for row in rows]),
    }


def spread(values: Sequence[float]) -> float:
    """By how much the largest is above the smallest, as a share of that."""
    return round(max(values) / min(values) - 1, 4) if values and min(values) > 0 else 0.0


def _workers(settings: Settings, options: ScaleOptions, show: LoadShow) -> dict[str, Any]:
    made = CorpusOptions(
        devices=options.worker_devices,
        records=options.worker_records,
        bad_share=0.0,
        log_name=settings.log_name,
    )
    layouts = [Layout(1, partitions) for partitions in PARTITIONS] + [Layout(2, PARTITIONS[-1])]
    with corpus_of(RunOptions(rate=0.0, made=made), show) as corpus:
        found = scaleworkers.at_layouts(settings, corpus, layouts, show, options.rounds)
    rows = [each.to_json() for each in found]
    one, two = rows[-2:]
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "records": options.worker_records,
        "devices": options.worker_devices,
        "rounds": options.rounds,
        "rows": rows,
        "rate_of_two": round(two["rate"] / one["rate"], 3),
        "cpu_of_two": round(two["cpu_us"] / one["cpu_us"], 3),
    }


COLUMNS: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "devices": (
        ("devices", "devices", ",.0f"),
        ("batch", "records a batch", ",.0f"),
        ("touched", "states written, for an event", ".2f"),
        ("judge_us", "judging, us", ".1f"),
        ("outputs_us", "outputs, us", ".1f"),
        ("changes_us", "states, us", ".1f"),
        ("store_us", "RocksDB, us", ".1f"),
        ("cpu_us", "all, us CPU an event", ".1f"),
        ("beside_us", "of a small fleet beside it", ".1f"),
        ("rss_mib", "MiB of the process", ",.0f"),
        ("loop_ns", "plain loop, ns", ".0f"),
    ),
    "leaves": (
        ("leaves", "leaves", ",.0f"),
        ("append_us", "appending, us", ".2f"),
        ("publish_us", "publishing, us", ".2f"),
        ("behind_us", "RocksDB afterwards, us", ".2f"),
        ("clean_us", "partial tiles, us", ".2f"),
        ("cpu_us", "all, us CPU a leaf", ".2f"),
        ("beside_us", "of a small tree beside it", ".2f"),
        ("loop_ns", "plain loop, ns", ".0f"),
    ),
    "workers": (
        ("workers", "workers", ",.0f"),
        ("partitions", "partitions", ",.0f"),
        ("rate", "records a second", ",.0f"),
        ("cpu_us", "us CPU a record", ".1f"),
        ("broker_cpu_us", "of the broker's", ".1f"),
        ("rss_mib", "MiB, all workers", ",.0f"),
        ("loop_ns", "plain loop, ns", ".0f"),
    ),
}
"""For each part of the document: member, title and form of each column."""


def cells(name: str, rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Titles of a part's columns, and its rows written out."""
    columns = COLUMNS[name]
    return [title for _, title, _ in columns], [
        [format(row[member], form) for member, _, form in columns] for row in rows
    ]


def rows_of(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Return a part's rows; of devices also those of a backlog's batches."""
    found = list(document[name]["rows"])
    if name == "devices":
        found += [row for row in document[name]["backlog"]["rows"] if row not in found]
        found.sort(key=lambda row: (row["devices"], row["batch"]))
    return found


def remarks(document: Mapping[str, Any]) -> list[str]:
    """Say what came of it, in a sentence a part."""
    said = []
    for name, what in (("devices", "An event"), ("leaves", "A leaf")):
        if name in document:
            said.append(f"{what}: {_verdict(document[name])}.")
    if "devices" in document and (saved := _saved(document["devices"])) is not None:
        said.append(
            f"A backlog of the smallest fleet, whose batches have several events of each device, is cheaper "
            f"by {saved:.1%}: a state is written once for all of them."
        )
    if "workers" in document:
        found = document["workers"]
        said.append(
            f"Two workers work off {found['rate_of_two']:.2f} times what one does, "
            f"at {found['cpu_of_two']:.2f} times its CPU time for a record, "
            f"with the broker on the same {document['machine']['cores']} cores ({found['date']})."
        )
    return said


def _saved(devices: Mapping[str, Any]) -> float | None:
    """By how much the smallest fleet's event is cheaper in a backlog; None where batches are the same."""
    live, backlog = devices["rows"][0], devices["backlog"]["rows"][0]
    if live == backlog:
        return None
    cost, usual = (float(each["cpu_us"]) / float(each["beside_us"]) for each in (backlog, live))
    return 1 - cost / usual


def _verdict(found: Mapping[str, Any]) -> str:
    held = "less" if found["spread_of_ratios"] < MOST_SPREAD else "NOT less"
    return (
        f"over what a small one cost in the same minutes, costs differ by {found['spread_of_ratios']:.1%}, "
        f"{held} than {MOST_SPREAD:.0%}; as they were measured by {found['spread']:.1%}"
    )


def tell(document: Mapping[str, Any], console: Console | None = None) -> None:
    """Print tables and remarks."""
    console = console or Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = 140
    for name in COLUMNS:
        if name in document:
            titles, rows = cells(name, rows_of(document, name))
            table = Table(title=name, title_justify="left")
            for title in titles:
                table.add_column(title, justify="right")
            for row in rows:
                table.add_row(*row)
            console.print(table)
    for each in remarks(document):
        console.print(each)
