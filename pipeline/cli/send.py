"""`attestream send`: the way in for a user's own readings and access events."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import is_interactive, on_kafka

if TYPE_CHECKING:
    from pipeline.send import OnSent, Sent
    from pipeline.settings import Settings

PLAIN_EVERY_S = 5.0
REFRESH_EVERY_S = 0.1


class Kind(StrEnum):
    """What the file holds."""

    TELEMETRY = "telemetry"
    ACCESS = "access"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(send)


@on_kafka
def send(  # noqa: PLR0917 - typer takes every option as a parameter
    settings: "Settings",
    file: Annotated[Path, typer.Argument(help="CSV with a header line, or NDJSON.")],
    device: Annotated[Path, typer.Option("--device", help="Key file of the device that signs.")],
    kind: Annotated[Kind, typer.Option(help="What the file holds.")] = Kind.TELEMETRY,
    rate: Annotated[
        float | None, typer.Option(help="Events a second.  [default: as fast as it goes]")
    ] = None,
    boot: Annotated[
        str, typer.Option(help="Boot number of the device, or auto: go on where the last send ended.")
    ] = "auto",
) -> None:
    """Sign and publish a file of readings or access events.

    Columns: `time` (seconds since 1970, or ISO 8601 with its offset) or `t_s` (seconds into the record,
    which then ends now), both optional. For telemetry the signals by name (HR, SpO2, ...) or MDC code; a
    blank is left out. For access: subject, action, resource, outcome, and purpose and session if you like.
    """
    from pipeline.identity import load_identity
    from pipeline.send import SendJob
    from pipeline.send import send as send_file
    from pipeline.sendinput import scan
    from pipeline.settings import UsageError
    from schemas.envelope import PayloadKind

    if rate is not None and not 0 < rate <= 1e6:
        raise UsageError(f"--rate {rate:g}: must be above 0, at most a million")
    if boot != "auto" and not (boot.isascii() and boot.isdigit() and len(boot) < 20):
        raise UsageError(f"--boot {boot}: expected auto or a number")
    settings.bootstrap()
    identity = load_identity(device)
    job = SendJob(
        file, device, identity, PayloadKind(kind.value), rate, None if boot == "auto" else int(boot)
    )
    summary = scan(file, job.kind)
    started_s = time.monotonic()
    with _progress(summary.events + summary.empty_rows) as on_sent:
        sent = send_file(settings, job, summary, on_sent=on_sent)
    print(_told(sent, time.monotonic() - started_s))


def _told(sent: "Sent", took_s: float) -> str:
    empty = f" ({_count(sent.empty_rows, 'row')} without a reading left out)" if sent.empty_rows else ""
    if sent.first_offset is None:
        return f"nothing to send{empty}"
    first, last = sent.first_offset, sent.last_offset
    return "\n".join(
        (
            f"sent {_count(sent.delivered, 'event')} in {took_s:.1f} s{empty}",
            f"  device    {sent.device_id}",
            f"  numbers   boot {sent.boot}, sequence {sent.first_sequence} to {sent.last_sequence}",
            f"  where     {sent.topic}, partition {sent.partition}, offsets {first} to {last}",
            "  judged    accepted ones are in device.events, others in device.rejected with a reason",
        )
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


@contextmanager
def _progress(total: int) -> Iterator["OnSent"]:
    """A bar on a terminal, a line now and then on anything else; both on stderr."""
    if not is_interactive():
        yield _PlainProgress(total)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("signing and publishing", total=total)
        shown_s = 0.0

        def on_sent(count: int) -> None:
            nonlocal shown_s
            if (now_s := time.monotonic()) - shown_s > REFRESH_EVERY_S or count == total:
                shown_s = now_s
                progress.update(task, completed=count)

        yield on_sent


class _PlainProgress:
    def __init__(self, total: int) -> None:
        self._total, self._said_s = total, time.monotonic()

    def __call__(self, count: int) -> None:
        if time.monotonic() - self._said_s >= PLAIN_EVERY_S:
            self._said_s = time.monotonic()
            print(f"{count:,} of {self._total:,} rows sent", file=sys.stderr, flush=True)
