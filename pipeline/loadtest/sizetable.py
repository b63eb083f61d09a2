"""A sized fleet for people: tables, and every assumption by name."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table

from loadtests import sizing
from loadtests.costs import Costs
from loadtests.sizeplan import Fleet
from loadtests.sizing import Sized

WIDTH = 110
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def assumptions(fleet: Fleet, costs: Costs) -> list[str]:
    """Say what a reckoning rests on."""
    origin, mix = costs.origin, costs.mix
    cpu = (
        f"CPU time is that of one core of {origin.cpu or 'an unnamed processor'}, measured {origin.date} by "
        f"`{origin.command}` with {mix.devices:,} devices at {mix.rate:,.0f} events/s. "
        "Other cores need more or less."
    )
    event = (
        f"An event is as measured: {mix.event_bytes:,.0f} bytes, {mix.access_share:.1%} access, "
        f"{mix.lifecycle_share:.1%} lifecycle. Another size or share changes bytes and leaves, not CPU time."
    )
    partitions = (
        f"Partitions: {sizing.PARTITIONS_A_WORKER} for each worker, a power of two, "
        f"at least {sizing.LEAST_PARTITIONS}; they cannot be changed later."
    )
    faults = (
        f"A fleet without faults: no forgeries, {costs.leaves.findings_per_event:.2g} findings an event. "
        "Alerts, and with them route and deliver, are few and left out, as is the monitor."
    )
    kept = (
        f"Raw topics are kept {sizing.RAW_DAYS:.0f} days and prints {sizing.PRINTS_DAYS:.0f}, as the table "
        "of topics has it. What is kept for ever is told for a year. Kafka's indexes are left out."
    )
    replicas = (
        f"Each of {fleet.replication} replicas holds all bytes; a further replica costs the brokers half the "
        "CPU time of the first."
    )
    memory = (
        f"A worker keeps up to {sizing.CACHED_DEVICES:,} states in memory (`cached_devices`), and all the "
        "registry."
    )
    objects = (
        "An object store is written as the folder is: an object for each tile, an entry bundle for "
        f"{sizing.TILE_WIDTH} leaves, and at each publication of a shard that has grown its checkpoint, its "
        "bundle and a partial tile of each level. Storage and traffic have prices of their own."
    )
    prices = (
        f"1,000 writes cost ${fleet.put_price:g} (the default is the list price of S3 Standard, us-east-1), "
        f"a message to the ledger ${fleet.message_price:g} (the default is about Hedera's fee for a "
        "ConsensusSubmitMessage). A month has 30 days."
    )
    return [
        cpu,
        event,
        "Costs grow linearly with events: `make bench-scale` measures how far that is so.",
        f"Workers and machines are planned to {sizing.UTILIZATION:.0%} of their cores; a worker has one.",
        partitions,
        "Devices are spread evenly over partitions, partitions over workers; no peaks, no retries.",
        faults,
        kept,
        replicas,
        memory,
        objects,
        prices,
    ]


def document(fleet: Fleet, sized: Sized, costs: Costs) -> dict[str, Any]:
    """Put all of it together as JSON has it."""
    return {
        "fleet": asdict(fleet),
        "needs": asdict(sized),
        "measured": costs.origin.model_dump(),
        "assumptions": assumptions(fleet, costs),
    }


def tell(fleet: Fleet, sized: Sized, costs: Costs, console: Console | None = None) -> None:
    """Print the tables."""
    console = console or Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(Group(*_parts(fleet, sized)))
    console.print("Assumptions")
    for each in assumptions(fleet, costs):
        console.print(f"- {each}", markup=False)


def _parts(fleet: Fleet, sized: Sized) -> Iterable[RenderableType]:
    yield _table(
        f"{fleet.devices:,} devices, {_rate(sized.events_a_second)} events a second",
        ("", ""),
        (
            ("leaves a second", _rate(sized.leaves_a_second)),
            ("workers of ingest, wheel's verifier", f"{sized.workers['ingest, wheel']:,}"),
            ("workers of ingest, crate's verifier", _count(sized.workers["ingest, crate"])),
            ("workers of seal", f"{sized.workers['seal']:,}"),
            ("partitions, at least", f"{sized.partitions:,}"),
            (f"machines of {fleet.cores_per_machine} cores for the stages", f"{sized.machines:,}"),
            ("brokers", f"{sized.brokers:,}"),
            ("memory of a worker of ingest", in_bytes(sized.worker_mib * sizing.MIB)),
            ("memory of all other stages", in_bytes(sized.others_mib * sizing.MIB)),
        ),
    )
    yield _table(
        "CPU",
        ("stage", "cores"),
        (
            *(
                (name, "not measured" if cores is None else f"{cores:,.2f}")
                for name, cores in sized.cores.items()
            ),
            ("all, with the wheel", f"{sized.cores_with_wheel:,.2f}"),
            (
                "all, with the crate",
                "not measured" if sized.cores_with_crate is None else f"{sized.cores_with_crate:,.2f}",
            ),
        ),
    )
    yield _table(
        f"Kafka, {fleet.replication} replicas",
        ("topics", "written a day", "kept for", "bytes kept"),
        (
            *(
                (each.name, in_bytes(each.bytes_a_day), _days(each), in_bytes(each.bytes_kept))
                for each in sized.kafka
            ),
            ("all", in_bytes(sized.kafka_bytes_a_day), "", in_bytes(sized.kafka_bytes_kept)),
        ),
    )
    yield _table(
        "Disks and network",
        ("", ""),
        (
            ("RocksDB of ingest, all workers", in_bytes(sized.ingest_rocksdb_bytes)),
            ("RocksDB of seal", f"{in_bytes(sized.seal_rocksdb_bytes_a_day)} a day"),
            ("tiles", f"{in_bytes(sized.tile_bytes_a_day)} a day in {sized.tile_objects_a_day:,.0f} objects"),
            ("network into the brokers", f"{in_bytes(sized.network_in)}/s"),
            ("network between the brokers", f"{in_bytes(sized.network_between)}/s"),
            ("network out of the brokers", f"{in_bytes(sized.network_out)}/s"),
        ),
    )
    yield _table(
        "Writes into an object store",
        ("checkpoint interval", "writes a month", "price a month"),
        (
            (
                f"{each.checkpoint_interval_s:g} s" + (" *" if each == sized.object_writes else ""),
                f"{each.writes_a_month:,.0f}",
                f"${each.dollars_a_month:,.2f}",
            )
            for each in sized.prices
        ),
    )
    yield _table(
        f"Anchors every {fleet.anchor_interval_s:g} s",
        ("messages a month", "price a month"),
        ((f"{sized.anchors_a_month:,.0f}", f"${sized.anchor_dollars_a_month:,.2f}"),),
    )


def in_bytes(number: float) -> str:
    """Write bytes in decimal units, three digits."""
    for unit in _UNITS:
        if number < 999.5 or unit == _UNITS[-1]:
            return f"{number:.3g} {unit}" if number < 999.5 else f"{number:,.0f} {unit}"
        number /= 1000
    raise AssertionError  # the last unit takes all


def _rate(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _count(number: int | None) -> str:
    return "not measured" if number is None else f"{number:,}"


def _days(family: sizing.Family) -> str:
    if family.retention_days is not None:
        return f"{family.retention_days:g} days"
    return "compacted" if family.name.startswith("changelogs") else "ever (told: a year)"


def _table(title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", show_header=any(columns), min_width=60
    )
    for at, column in enumerate(columns):
        table.add_column(column, justify="right" if at else "left")
    for row in rows:
        table.add_row(*row)
    return table
