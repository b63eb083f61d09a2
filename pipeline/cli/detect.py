"""`attestream detect replay`: recorded data before the detectors, and a page of what they find."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import is_interactive, on_kafka

if TYPE_CHECKING:
    from pipeline.detectreplay import OnJudged, Recording
    from pipeline.settings import Settings
    from processors.model import VerifiedEvent

REFRESH_EVERY_S, PLAIN_EVERY_S = 0.1, 5.0
PAGE = Path("detect-replay.html")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    detect = typer.Typer(help="Detectors.", no_args_is_help=True)
    detect.callback()(_detect)
    detect.command(name="replay")(replay)
    app.add_typer(detect, name="detect")


def _detect() -> None:
    """Try detectors on recorded data."""


@on_kafka
def replay(
    settings: "Settings",
    what: Annotated[
        str, typer.Argument(metavar="FILE|TOPIC", help="A CSV or NDJSON file as for send; or events.")
    ],
    *,
    out: Annotated[Path, typer.Option("--out", help="Where the page goes.")] = PAGE,
    config: Annotated[
        Path | None, typer.Option("--config", help="Configuration of the detectors.  [default: ours]")
    ] = None,
    interval: Annotated[
        float, typer.Option("--interval", help="Seconds between rows of a file without times.")
    ] = 1.0,
    silence_after: Annotated[
        float | None,
        typer.Option("--silence-after", help="Seconds without a reading that are silence.  [default: never]"),
    ] = None,
) -> None:
    """Run the detectors over recorded readings; write a page with the signals and the findings on them.

    A topic (events: those accepted) is read from its beginning to its present end. Nothing is published.
    """
    from collections import Counter

    from pipeline.detectpage import episodes, page
    from pipeline.detectreplay import read_config
    from pipeline.detectreplay import replay as judge
    from pipeline.settings import UsageError
    from processors.detect import DetectError, SilenceRule

    if not 0 < interval <= 86_400:
        raise UsageError(f"--interval {interval:g}: must be above 0, at most a day")
    try:
        silence = None if silence_after is None else SilenceRule(silence_after)
    except DetectError as error:
        raise UsageError(f"--silence-after: {error}") from error
    total, events = _events(settings, what, interval)
    with _progress(total) as on_judged:
        recording = judge(events, read_config(config), silence=silence, on_judged=on_judged)
    _write(out, page(recording, f"Detectors on {what}"))
    rules = Counter(each.opened.rule for each in episodes(recording.findings))
    _tell(recording, dict(sorted(rules.items())), out)


def _events(
    settings: "Settings", what: str, interval_s: float
) -> "tuple[int | None, Iterator[VerifiedEvent]]":
    """How many events there are, where that is known before, and the events."""
    from pipeline.cli import tail
    from pipeline.detectreplay import events_of_file, events_of_records
    from pipeline.sendinput import scan
    from pipeline.settings import UsageError
    from pipeline.topics import EVENTS
    from schemas.envelope import PayloadKind

    path = Path(what)
    if path.is_file():
        return scan(path, PayloadKind.TELEMETRY).events, events_of_file(path, interval_s)
    if what not in ("events", EVENTS):
        raise UsageError(f"{what}: no such file; the topic that can be replayed is events ({EVENTS})")
    return None, events_of_records(tail.records(settings, EVENTS, last=None, follow=False))


def _write(path: Path, text: str) -> None:
    """Write a page that only its owner may read: it shows measured values."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _tell(recording: "Recording", rules: dict[str, int], out: Path) -> None:
    found = ", ".join(f"{rule} {count}" for rule, count in rules.items()) or "none"
    print(f"judged    {recording.events:,} events of {len(recording.tracks):,} devices")
    if recording.was_cut:
        print("          the beginning only: there are more")
    print(f"findings  {found}")
    print(f"page      {out}")


@contextmanager
def _progress(total: int | None) -> "Iterator[OnJudged]":
    """A bar on a terminal, a line now and then on anything else; both on stderr."""
    said_s = time.monotonic()
    if not is_interactive():

        def tell(count: int) -> None:
            nonlocal said_s
            if time.monotonic() - said_s >= PLAIN_EVERY_S:
                said_s = time.monotonic()
                of = "" if total is None else f" of {total:,}"
                print(f"{count:,}{of} events judged", file=sys.stderr, flush=True)

        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("judging", total=total)

        def show(count: int) -> None:
            nonlocal said_s
            if (now_s := time.monotonic()) - said_s > REFRESH_EVERY_S or count == total:
                said_s = now_s
                progress.update(task, completed=count)

        yield show
