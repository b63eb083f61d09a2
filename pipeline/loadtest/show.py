"""What one sees of a load test: a live line on a terminal, plain lines every few seconds anywhere else."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from loadtests.measure import OnProgress
from loadtests.measure import Progress as Moment

PLAIN_EVERY_S = 5.0
WIDTH = 110


class LoadShow:
    """Writes to standard error, so that standard output has the results alone."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, emoji=False)
        if not self.console.is_terminal:
            self.console.width = WIDTH
        self._said, self._said_s = "", 0.0

    def step(self, text: str) -> None:
        """Say what is being done; where nobody watches no more than one line a second."""
        if text != self._said and (self.console.is_terminal or time.monotonic() - self._said_s >= 1.0):
            self._said, self._said_s = text, time.monotonic()
            self.say(text)

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(escape(text), style="dim", soft_wrap=True)

    @contextmanager
    def progress(self, title: str) -> Iterator[OnProgress]:
        """Show a run's progress while the block runs."""
        if not self.console.is_terminal:
            yield self._plainly(title)
            return
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[told]}"),
            console=self.console,
        )
        with bar:
            task = bar.add_task(escape(title), total=None, told="")

            def update(moment: Moment) -> None:
                bar.update(task, total=moment.count, completed=moment.sent, told=told(moment))

            yield update

    def _plainly(self, title: str) -> OnProgress:
        last_s = time.monotonic()

        def update(moment: Moment) -> None:
            nonlocal last_s
            if time.monotonic() - last_s >= PLAIN_EVERY_S:
                last_s = time.monotonic()
                self.say(f"{title}: {told(moment)}")

        return update


def told(moment: Moment) -> str:
    """A moment in one line."""
    if moment.phase == "counting":
        return f"reading back: {moment.sent:,} outputs"
    waits = f"{moment.lag:,} wait for ingest"
    if moment.unsealed is not None:
        waits += f", {moment.unsealed:,} for seal"
    if moment.phase == "draining":
        return f"draining: {waits}"
    failed = f", {moment.failed:,} FAILED" if moment.failed else ""
    late = f", {moment.late_ms:,.0f} ms late" if moment.late_ms >= 50 else ""
    return f"{moment.elapsed_s:.0f} s, {moment.sent:,} of {moment.count:,} sent{late}{failed}; {waits}"
