"""`attestream log fsck` and `attestream log checkpoint`: recompute a published log; show where it stands."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.acceptshard import accept_shard
from pipeline.cli.logkey import rotate_key
from pipeline.cli.options import DataDir, is_interactive, on_kafka, settings_from

if TYPE_CHECKING:
    from pipeline.believed import Believed
    from pipeline.fsck import LogReport, Progress, Report
    from pipeline.settings import Settings

SHOWN_FAULTS = 10
JOBS_FOR_URL = 8

Place = Annotated[
    str | None,
    typer.Argument(
        metavar="[DIR|URL]",
        help="A published log, or the folder of them all.  [default: what this deployment publishes]",
        show_default=False,
    ),
]
LogKey = Annotated[str | None, typer.Option("--log-key", help="The log's verifier key, NAME+HASH+KEY.")]
Trust = Annotated[
    Path | None, typer.Option("--trust", help="A trust file.  [default: that of this deployment]")
]
Origin = Annotated[
    str | None, typer.Option("--origin", help="Whose log it must be, when it is a single one.")
]
AsJson = Annotated[bool, typer.Option("--json", help="The result as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    log = typer.Typer(help="The published log.", no_args_is_help=True)
    log.callback()(_log)
    log.command(name="fsck")(fsck)
    log.command(name="checkpoint")(checkpoint)
    log.command(name="rotate-key")(rotate_key)
    log.command(name="accept-shard")(accept_shard)
    app.add_typer(log, name="log")


def _log() -> None:
    """Check the published log as a stranger would."""


@on_kafka
def fsck(  # noqa: PLR0917 - typer takes every option as a parameter
    settings: "Settings",
    place: Place = None,
    log_key: LogKey = None,
    trust: Trust = None,
    origin: Origin = None,
    with_kafka: Annotated[
        bool, typer.Option("--kafka", help="Also hold every leaf against its record in the topic.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes.  [default: one a core, 8 for a URL]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute a published log from its entries: every tile, root, signature and offset.

    Exit code 0: it holds. 1: something does not, and is named. 2: it could not be checked.
    """
    import os

    from pipeline.fsck import fsck as check

    where = place or str(settings.data_dir / "log")
    believed = _believed(settings, log_key, trust)
    jobs = jobs or (JOBS_FOR_URL if "://" in where else os.cpu_count() or 1)
    with _progress("recomputing the tree") as on_progress:
        report = check(where, believed, origin=origin, jobs=jobs, on_progress=on_progress)
    if with_kafka:
        from pipeline.fscktopic import check_topics

        with _progress("comparing with the topics") as on_progress:
            check_topics(report, where, believed, settings, jobs=jobs, on_progress=on_progress)
    if as_json:
        print(json.dumps(_as_json(report, where)))
    else:
        _show(report, where, with_kafka=with_kafka)
    if not report.holds:
        raise typer.Exit(1)


def checkpoint(  # noqa: PLR0917
    place: Place = None,
    topic: Annotated[str | None, typer.Option(help="Only the shards of this topic.")] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Only this partition.")] = None,
    log_key: LogKey = None,
    trust: Trust = None,
    origin: Origin = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Print the published checkpoints whose signatures hold. Exit code 1 when one does not."""
    from pipeline.fsck import checkpoints

    settings = settings_from(data_dir)
    where = place or str(settings.data_dir / "log")
    found = checkpoints(where, _believed(settings, log_key, trust), origin=origin)
    wanted = [each for each in found if _is_wanted(each.path, topic, partition)]
    if not wanted:
        from pipeline.settings import UsageError

        raise UsageError(
            f"no checkpoint of {topic or 'any topic'}[{partition if partition is not None else '*'}]"
        )
    if as_json:
        print(json.dumps({"checkpoints": [_log_json(each) for each in wanted]}))
    else:
        for each in map(_log_json, wanted):
            size, root = f"{each['size']:,} leaves", each["root"]
            print(
                f"{each['origin']}: {size}, root {root}, signed by the log" if root else f"{each['origin']}:"
            )
            for fault in each["faults"]:
                print(f"       {fault['path']} {fault['reason']}")
    if any(each.faults for each in wanted):
        raise typer.Exit(1)


def _is_wanted(path: str, topic: str | None, partition: int | None) -> bool:
    found_topic, _, number = path.rpartition("/")
    return (topic is None or topic == found_topic) and (partition is None or str(partition) == number)


def _believed(settings: "Settings", log_key: str | None, trust: Path | None) -> "Believed":
    from pipeline.believed import Believed
    from pipeline.settings import UsageError
    from pipeline.trust import load_trust, trust_path

    if log_key is not None and trust is not None:
        raise UsageError("--log-key and --trust both say whom to believe: give one")
    if log_key is not None:
        return Believed.from_vkey(log_key)
    return Believed.from_trust(load_trust(trust or trust_path(settings)))


@contextmanager
def _progress(what: str) -> Iterator["Progress"]:
    """A bar where a person watches; nothing elsewhere."""
    if not is_interactive():
        yield lambda _done, _known: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("leaves"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, known: bar.update(task, completed=done, total=known)


def _show(report: "Report", where: str, *, with_kafka: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
    for log in report.logs:
        mark = Text("FAIL", style="bold red") if log.faults else Text(" ok ", style="bold green")
        console.print(mark, Text(f"{log.origin}: {_told(log, with_kafka=with_kafka)}"))
        for fault in log.faults[:SHOWN_FAULTS]:
            place = f"{log.path}/{fault.path}" if log.path else fault.path
            console.print(Text(f"       {place}, leaf {fault.index}: {fault.reason}", style="red"))
        if len(log.faults) > SHOWN_FAULTS:
            console.print(Text(f"       and {len(log.faults) - SHOWN_FAULTS} more"))
    if report.foreign:
        console.print(
            Text(f"{report.foreign} entries of the epoch log are not in the log's name: they prove nothing")
        )
    trees = _count(len(report.logs), "tree", "trees")
    leaves, faulty = sum(log.size for log in report.logs), sum(bool(log.faults) for log in report.logs)
    if report.holds:
        console.print(Text(f"\n{where} holds: {trees}, {_count(leaves, 'leaf', 'leaves')}.", style="bold"))
    else:
        console.print(Text(f"\n{where} does NOT hold: {faulty} of {trees}.", style="bold red"))


def _told(log: "LogReport", *, with_kafka: bool) -> str:
    if log.checkpoint is None:
        return "no checkpoint that can be believed"
    parts = [_count(log.size, "leaf", "leaves")]
    if log.is_closed:
        return f"{parts[0]}, closed: another shard took its place ({log.path})"
    if log.recorded is not None and log.recorded < log.size:
        parts.append(f"{log.recorded:,} of them in the epoch log so far")
    if with_kafka:
        parts.append(f"{log.records_checked:,} held against their records")
    if log.records_gone:
        parts.append(f"{log.records_gone:,} not checkable: retention has taken the records")
    return ", ".join(parts)


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _as_json(report: "Report", where: str) -> dict[str, Any]:
    return {
        "holds": report.holds,
        "place": where,
        "leaves": sum(log.size for log in report.logs),
        "foreign_entries": report.foreign,
        "logs": [_log_json(log) for log in report.logs],
    }


def _log_json(log: "LogReport") -> dict[str, Any]:
    import base64

    return {
        "origin": log.origin,
        "path": log.path,
        "size": log.size,
        "root": base64.b64encode(log.checkpoint.root).decode() if log.checkpoint else None,
        "closed": log.is_closed,
        "recorded": log.recorded,
        "records_checked": log.records_checked,
        "records_gone": log.records_gone,
        "faults": [
            {"index": f.index, "path": f.path, "kind": f.kind.value, "reason": f.reason} for f in log.faults
        ],
    }
