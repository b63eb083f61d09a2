"""Writes the tables of docs/sizing.md anew from the measured files in loadtests/data.

Run `python -m tests.kit.sizing_tables` in the project's folder. What `make bench-costs` and
`make bench-scale` have left in build/ becomes the measured files first. Read the difference before it is
committed.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from loadtests.costs import SHIPPED, Costs, read_costs
from loadtests.sizeplan import Fleet
from loadtests.sizing import size
from pipeline.loadtest.scale import ScaleOptions, cells, remarks, rows_of
from pipeline.loadtest.sizetable import in_bytes
from tests.kit.regenerate_formats import DOCS, TABLE

DOCUMENT = DOCS / "sizing.md"
BUILD = DOCS.parent / "build"
SCALE = SHIPPED.with_name("scale.json")
FLEETS = (1_000, 10_000, 100_000)


def tables() -> dict[str, str]:
    """Every table by its name."""
    costs, scale = read_costs(), json.loads(SCALE.read_text(encoding="utf-8"))
    return {
        "origin": _origin(costs),
        "stages": _stages(costs),
        "bytes": _bytes(costs),
        "fleets": _fleets(costs),
        "prices": _prices(costs),
        **{name: _scaled(scale, name) for name in ("devices", "leaves", "workers")},
        "verdict": _verdict(scale),
    }


def regenerated(document: str) -> str:
    """The document with its tables as the measured files make them; KeyError for an unknown name."""
    made = tables()

    def table(found: re.Match[str]) -> str:
        return f"<!-- table: {found['name']} -->\n{made[found['name']]}<!-- end -->"

    return TABLE.sub(table, document)


def _origin(costs: Costs) -> str:
    origin, mix = costs.origin, costs.mix
    return (
        f"Measured {origin.date} by `{origin.command}`, {mix.rate:,.0f} events/s of {mix.devices:,} devices, "
        f"on {origin.cores} cores of {origin.cpu}, Python {origin.python}. A step of a plain loop took "
        f"{origin.loop_ns:.0f} ns beside it; load before: {origin.load_before:g}."
        f"{_busy(origin.load_before)}\n"
    )


def _stages(costs: Costs) -> str:
    rows = []
    for name, stage in costs.stages:
        of = "leaf" if name == "seal" else "event"
        said = (
            ("not measured", "")
            if stage is None
            else (f"{stage.idle_cores:.3f}", f"{stage.cpu_us:.1f} / {of}")
        )
        rows.append((name.replace("_", ", "), *said))
    return _table(("stage", "cores when idle", "us CPU more"), rows)


def _bytes(costs: Costs) -> str:
    kafka, memory, event = costs.kafka, costs.memory, costs.mix.event_bytes
    rows = (
        ("a signed event", f"{event:,.0f}"),
        ("its record in a raw topic", f"{event + kafka.raw_overhead:,.0f}"),
        ("its record in `device.events`", f"{event + kafka.events_overhead:,.0f}"),
        ("changelog of an event, as written", f"{kafka.changelog:,.0f}"),
        ("changelog of a device, compacted", f"{kafka.changelog_kept:,.0f}"),
        ("decisions of an access event", f"{kafka.decision:,.0f}"),
        ("findings of an event, without faults", f"{kafka.findings:,.2f}"),
        ("prints of noise of an event", f"{kafka.prints:,.2f}"),
        ("a checkpoint in `log.checkpoints`", f"{kafka.checkpoint:,.0f}"),
        ("a leaf in its entry bundle", f"{costs.leaves.entry_bytes:,.0f}"),
        ("state of a device in RocksDB", f"{costs.rocksdb_bytes:,.0f}"),
        ("state of a device in a worker's memory", f"{memory.state_bytes:,.0f}"),
        ("a registered device in each worker's memory", f"{memory.registry_bytes:,.0f}"),
        ("a worker of ingest without devices", in_bytes(memory.ingest_base_mib * 2**20)),
    )
    return _table(("what", "bytes"), rows)


def _fleets(costs: Costs) -> str:
    sized = [size(Fleet(devices=each, rate=1.0), costs) for each in FLEETS]
    rows = (
        ("cores, with the wheel", *(f"{each.cores_with_wheel:,.1f}" for each in sized)),
        ("cores, with the crate", *(_or_not(each.cores_with_crate, ",.1f") for each in sized)),
        ("workers of ingest, wheel", *(f"{each.workers['ingest, wheel']:,}" for each in sized)),
        ("workers of ingest, crate", *(_or_not(each.workers["ingest, crate"], ",") for each in sized)),
        ("partitions", *(f"{each.partitions:,}" for each in sized)),
        ("brokers", *(f"{each.brokers:,}" for each in sized)),
        ("memory of a worker", *(in_bytes(each.worker_mib * 2**20) for each in sized)),
        ("Kafka a day, 3 replicas", *(in_bytes(each.kafka_bytes_a_day) for each in sized)),
        ("Kafka kept, 90 days", *(in_bytes(each.kafka_bytes_kept) for each in sized)),
        ("tiles a day", *(in_bytes(each.tile_bytes_a_day) for each in sized)),
        ("network into the brokers", *(f"{in_bytes(each.network_in)}/s" for each in sized)),
        ("anchors a month", *(f"${each.anchor_dollars_a_month:,.2f}" for each in sized)),
    )
    return _table(("devices, 1 event/s each", *(f"{each:,}" for each in FLEETS)), rows)


def _prices(costs: Costs) -> str:
    sized = [size(Fleet(devices=each, rate=1.0), costs).prices for each in FLEETS]
    rows = [
        (f"{at[0].checkpoint_interval_s:g} s", *(f"${each.dollars_a_month:,.2f}" for each in at))
        for at in zip(*sized, strict=True)
    ]
    return _table(("checkpoint interval", *(f"{each:,} devices" for each in FLEETS)), rows)


def _scaled(scale: Mapping[str, Any], name: str) -> str:
    if name not in scale:
        return "Not measured in this run.\n"
    titles, rows = cells(name, rows_of(scale, name))
    return _table(titles, rows)


def _verdict(scale: Mapping[str, Any]) -> str:
    machine = scale["machine"]
    said = f"Measured {scale['date']} on {machine['cores']} cores of {machine['cpu']}; load before: "
    load = machine["load_before"][0]
    said += f"{load:g}.{_busy(load)}"
    if scale["devices"]["rows"][-1]["devices"] < ScaleOptions().devices[-1]:
        said += " A small run: by default there are up to 100,000 devices and 50,000,000 leaves."
    return "\n".join((said, "", *(f"- {each}" for each in remarks(scale)), ""))


def _or_not(value: float | None, form: str) -> str:
    return "not measured" if value is None else format(value, form)


def _busy(load: float) -> str:
    """Say that figures are too high where the machine had other work."""
    return " Other work ran beside it, so that figures are too high." if load > 1 else ""


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    ruler = ["---", *("---:" for _ in titles[1:])]
    return "".join(f"| {' | '.join(row)} |\n" for row in (titles, ruler, *rows))


def main() -> None:
    """Take over what was measured last, and write the document."""
    for path in (SHIPPED, SCALE):
        fresh = BUILD / path.name
        if fresh.exists():
            shutil.copyfile(fresh, path)
    DOCUMENT.write_text(regenerated(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
