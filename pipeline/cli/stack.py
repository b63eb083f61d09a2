"""`attestream up`, `down` and `status`: the local stack on this machine."""

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.display import StartDisplay
from pipeline.cli.options import DataDir, is_interactive, on_kafka, settings_from

if TYPE_CHECKING:
    from rich.table import Table

    from pipeline.local.stack import LocalStack
    from pipeline.local.status import StackStatus
    from pipeline.settings import Settings

REFRESH_S = 0.5
UNWELL = 1
NOT_RUNNING = 3
UNDONE = 4
"""Every process is well, and one of them says that it cannot do its work."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(up)
    app.command()(down)
    app.command()(status)


@on_kafka
def up(
    settings: "Settings",
    *,
    kafka_port: Annotated[
        int | None, typer.Option(help="Port of the local Kafka.  [default: the last one, or a free one]")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Start only this stage; repeatable.  [default: all]")
    ] = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay until Ctrl-C, then stop.")] = False,
    seconds: Annotated[float | None, typer.Option(help="With --foreground: stop after so long.")] = None,
) -> None:
    """Start Kafka, the ledger stand-in and every stage; return when all are ready."""
    from pipeline.local import stackfile
    from pipeline.local.plan import STAGES
    from pipeline.local.stack import LocalStack
    from pipeline.settings import UsageError

    unknown = set(only or ()) - {row.stage for row in STAGES}
    if unknown:
        known = ", ".join(row.stage for row in STAGES)
        raise UsageError(f"--only {', '.join(sorted(unknown))}: there are {known}")
    if not foreground and stackfile.supervisor_of(settings.data_dir) is not None:
        print(f"already up in {settings.data_dir}")
        _show(settings.data_dir)
        return
    stack = LocalStack(settings, kafka_port=kafka_port, stages=only, detached=not foreground)
    started_s = time.monotonic()
    with StartDisplay() as display:
        stack.start(on_step=display.on_step, on_download=display.on_download)
    found = stack.status()
    seconds_taken = time.monotonic() - started_s
    print(f"up in {seconds_taken:.1f} s: Kafka {found.bootstrap_servers}, data in {stack.data_dir}")
    if foreground:
        try:
            _watch(stack, seconds)
        finally:
            stack.stop()


def down(data_dir: DataDir = None) -> None:
    """Stop the local stack; its data stays."""
    from pipeline.local.stack import LocalStack

    stack = LocalStack(settings_from(data_dir))
    print("down" if stack.stop() else f"nothing was up in {stack.data_dir}")


def status(
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show every process, whether it is well and does its work, and if not why.

    Exit code 0: all is well; 1: a process is not; 3: nothing is up; 4: all are, and one cannot do its work,
    such as a shard that stopped or an anchor that is not placed.
    """
    from pipeline.local.status import read_status

    settings = settings_from(data_dir)
    if as_json:
        found = read_status(settings.data_dir)
        print(json.dumps(found.to_json(), indent=1))
    else:
        found = _show(settings.data_dir)
    if not found.healthy:
        raise typer.Exit(NOT_RUNNING if found.phase == "down" else UNWELL)
    if found.alarms:
        raise typer.Exit(UNDONE)


def _show(data_dir: Path) -> "StackStatus":
    from rich.console import Console

    from pipeline.local.status import read_status

    found = read_status(data_dir)
    if found.phase == "down":
        print(f"{data_dir}: down" + (f"; it said last: {found.message}" if found.message else ""))
    else:
        Console().print(_table(found, data_dir))
        for alarm in found.alarms:
            print(alarm, file=sys.stderr)
    return found


def _watch(stack: "LocalStack", seconds: float | None) -> None:
    """Show the table until the time is over or the user interrupts."""
    from rich.live import Live

    deadline_s = time.monotonic() + (seconds if seconds is not None else float("inf"))
    with contextlib.suppress(KeyboardInterrupt):
        if not is_interactive():
            print("Ctrl-C stops it", file=sys.stderr)
            while time.monotonic() < deadline_s and stack.alive():
                time.sleep(REFRESH_S)
            return
        with Live(_table(stack.status(), stack.data_dir), auto_refresh=False) as live:
            while time.monotonic() < deadline_s and stack.alive():
                live.update(_table(stack.status(), stack.data_dir), refresh=True)
                time.sleep(REFRESH_S)


def _table(found: "StackStatus", data_dir: Path) -> "Table":
    from rich.table import Table
    from rich.text import Text

    title = f"{data_dir}: {found.phase}"
    caption = " ".join(part for part in (found.message, found.step) if part)
    if found.bootstrap_servers:
        title += f", Kafka at {found.bootstrap_servers}"
    table = Table(title=title, title_justify="left", caption=caption or None, caption_justify="left")
    for heading in ("name", "pid", "state", "last beat", "restarts", "why"):
        table.add_column(heading, justify="right" if heading in {"pid", "last beat", "restarts"} else "left")
    for row in found.processes:
        beat = "" if row.beat_age_s is None else f"{row.beat_age_s:.1f} s"
        is_red = row.alarm or not row.well
        state = Text(row.state, style="red" if is_red else "green" if row.ready else "yellow")
        table.add_row(row.name, str(row.pid or ""), state, beat, str(row.restarts), Text(row.why))
    return table
