"""What one sees while the stack starts: a download bar, then what is waited for."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pipeline.cli.options import is_interactive

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from rich.status import Status

MEGABYTE = 1_000_000
PLAIN_STEPS = 10


class StartDisplay:
    """Live on a terminal, plain lines on anything else; everything goes to stderr.

    Hand `on_step` and `on_download` to `LocalStack.start`.
    """

    def __init__(self, *, live: bool | None = None) -> None:
        self._live = is_interactive() if live is None else live
        self._bar: tuple[Progress, TaskID] | None = None
        self._status: Status | None = None
        self._tenths = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_bar()
        if self._status is not None:
            self._status.stop()

    def on_step(self, text: str) -> None:
        """Show what is waited for."""
        if not self._live:
            print(text, file=sys.stderr, flush=True)
            return
        self._end_bar()
        if self._status is None:
            from rich.console import Console

            self._status = Console(stderr=True).status("")
            self._status.start()
        self._status.update(text)

    def on_download(self, done_bytes: int, total_bytes: int) -> None:
        """Show how much of Kafka has arrived."""
        if self._live:
            progress, task = self._bar or self._begin_bar(total_bytes)
            progress.update(task, completed=done_bytes)
            return
        tenths = done_bytes * PLAIN_STEPS // total_bytes
        if tenths > self._tenths:
            self._tenths = tenths
            text = f"fetching Apache Kafka: {done_bytes / MEGABYTE:.0f} of {total_bytes / MEGABYTE:.0f} MB"
            print(text, file=sys.stderr, flush=True)

    def _begin_bar(self, total_bytes: int) -> "tuple[Progress, TaskID]":
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=Console(stderr=True),
        )
        progress.start()
        self._bar = progress, progress.add_task("fetching Apache Kafka (once)", total=total_bytes)
        return self._bar

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar[0].stop()
            self._bar = None
