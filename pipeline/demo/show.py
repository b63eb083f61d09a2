"""What one sees of the demo: phases with ticks, a live board on a terminal, plain lines anywhere else."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.status import Status
from rich.table import Table
from rich.text import Text

PLAIN_EVERY_S = 5.0
PLAIN_UPDATE_EVERY_S = 1.0
MAX_WIDTH = 110


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Figures of one moment of the stream."""

    elapsed_s: float
    seconds: float
    devices: int
    produced: int
    rate_hz: float
    accepted: int
    rejected: Mapping[str, int]
    in_flight: int
    permitted: int
    denied: int
    access: str
    """How far the access scene is."""
    findings: Mapping[str, int]
    alerts: int
    told: Mapping[str, int]
    """Alerts that each output of the party was told of."""
    shards: int
    leaves: int
    submitted: int
    confirmed: int
    anchored: int
    anchor_age_s: float | None
    attacks: tuple[int, int, int]
    """Found, launched, planned."""
    unwell: Sequence[str] = field(default_factory=tuple)
    """Processes of the stack that are not ready, and why."""


class Phase:
    """One step of the demo's story, as it runs."""

    def __init__(self, show: "Show", title: str) -> None:
        self._show, self._title = show, title
        self.outcome = ""
        """What came of it, told beside the tick."""
        self.notes: list[tuple[str, str]] = []
        """Lines that stand below it: mark, and text in markup."""
        self.failed = False
        self._status: Status | None = None
        self._said, self._said_s = "", 0.0

    def update(self, text: str) -> None:
        """Say what is being waited for."""
        if self._show.live:
            if self._status is None:
                self._status = self._show.console.status(self._title)
                self._status.start()
            self._status.update(f"{self._title}: [dim]{escape(text)}[/]")
        elif text != self._said and time.monotonic() - self._said_s >= PLAIN_UPDATE_EVERY_S:
            self._show.say(escape(text), indent=4)
            self._said, self._said_s = text, time.monotonic()

    def fail(self, why: str) -> None:
        """Say that it did not succeed; the demo goes on."""
        self.failed, self.outcome = True, why

    def end(self) -> None:
        """Take a spinner away."""
        if self._status is not None:
            self._status.stop()
            self._status = None


class Show:
    """Writes to stdout; `live` on a terminal only."""

    def __init__(self, console: Console | None = None) -> None:
        found = console or Console(highlight=False, emoji=False)
        if found.width > MAX_WIDTH or not found.is_terminal:
            found.width = min(found.width, MAX_WIDTH) if found.is_terminal else MAX_WIDTH
        self.console = found
        self.live = found.is_terminal
        unicode = "utf" in found.encoding.lower()
        self.tick, self.cross, self.dot = ("✓", "✗", "·") if unicode else ("ok", "FAILED", "-")

    def say(self, text: str = "", *, mark: str = "", indent: int = 0) -> None:
        """Print a line of markup, behind a mark; a terminal wraps it by words, a file keeps it whole."""
        if not self.live:
            self.console.print(" " * indent + f"{mark} {text}".lstrip(), soft_wrap=True)
            return
        line: RenderableType = Text.from_markup(text)
        if mark:
            grid = Table.grid(padding=(0, 1))
            grid.add_row(mark, line)
            line = grid
        self.console.print(Padding(line, (0, 0, 0, indent)))

    def intro(self, devices: int, seconds: float, attacks: int, data_dir: str) -> None:
        """Say what is going to happen."""
        mixed = f"mixes in {attacks} kinds of attack" if attacks else "mixes in no attacks"
        text = (
            f"[bold]attestream demo[/]: {devices} bedside monitors replay a real intensive-care record, on a "
            f"real Kafka, for {seconds:g} s. Each event is signed by its device. The pipeline accepts or "
            "rejects it, puts it into a Merkle log, and anchors the log's root on a ledger: here a local "
            f"stand-in with the interface of Hedera. The demo {mixed}. Beside that a ward asks for access, "
            "and a security centre is told of alerts, though its receivers fail. Then it checks from outside "
            "that each attack was found, that access was decided by the policies, that no alert was lost, "
            "that every record was judged exactly once, and that what was logged cannot change."
        )
        self.console.print(Panel(text, padding=(0, 1), border_style="cyan"))
        self.say(f"[dim]files in {data_dir}[/]")

    @contextmanager
    def phase(self, title: str, begun_s: float | None = None) -> Iterator[Phase]:
        """Surround a step: a tick with its time and outcome at the end, a cross when it raises.

        `begun_s` (monotonic) is of a step that was announced before.
        """
        phase = Phase(self, title)
        resumed, begun_s = begun_s is not None, begun_s or time.monotonic()
        if not self.live and not resumed:
            self.say(title, mark="[dim]..[/]")
        try:
            yield phase
        except BaseException:
            phase.end()
            self.say(title, mark=self.mark(good=False))
            raise
        phase.end()
        outcome = f": {escape(phase.outcome)}" if phase.outcome else ""
        took = f" [dim]({time.monotonic() - begun_s:.1f} s)[/]"
        self.say(f"{title}{outcome}{took}", mark=self.mark(good=not phase.failed))
        for mark, note in phase.notes:
            self.say(note, mark=mark, indent=4)

    @contextmanager
    def board(self, title: str) -> Iterator["Board"]:
        """Show figures while the stream runs."""
        if not self.live:
            self.say(title, mark="[dim]..[/]")
            yield Board(self, None)
            return
        with Live(console=self.console, refresh_per_second=8, transient=True) as live:
            yield Board(self, live)

    def fault(self, text: str) -> None:
        """Name something that is wrong."""
        self.say(escape(text), mark=self.mark(good=False), indent=2)

    def table(
        self,
        title: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        keep_whole: Sequence[str] = (),
    ) -> None:
        """Print a table; the last column is right-aligned. Without column names it has no header.

        Columns in `keep_whole` are never wrapped: others give way.
        """
        table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
        table.show_header = any(columns)
        for index, column in enumerate(columns):
            last = index == len(columns) - 1
            table.add_column(
                column, justify="right" if last else "left", no_wrap=column in keep_whole or last
            )
        for row in rows:
            table.add_row(*row)
        self.say()
        self.console.print(table)

    def mark(self, *, good: bool) -> str:
        """A coloured tick or cross."""
        return f"[green]{self.tick}[/]" if good else f"[red]{self.cross}[/]"


class Board:
    """The live view of the stream; plain lines every few seconds where there is no terminal."""

    def __init__(self, show: Show, live: Live | None) -> None:
        self._show, self._live, self._said_s = show, live, time.monotonic()

    def update(self, snapshot: Snapshot) -> None:
        """Show the figures of now."""
        if self._live is not None:
            self._live.update(_panel(snapshot, self._show.dot))
        elif time.monotonic() - self._said_s >= PLAIN_EVERY_S:
            self._said_s = time.monotonic()
            self._show.say(_line(snapshot), indent=4)


def _counts(counts: Mapping[str, int], dot: str) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return f" {dot} ".join(f"{name} {count:,}" for name, count in ordered) or "none"


def _anchor(snapshot: Snapshot) -> str:
    if not snapshot.confirmed:
        return f"{snapshot.submitted} submitted, none confirmed yet"
    age = "" if snapshot.anchor_age_s is None else f", the last {snapshot.anchor_age_s:.0f} s ago"
    return f"{snapshot.confirmed} confirmed{age}, up to checkpoint {snapshot.anchored:,}"


def _panel(snapshot: Snapshot, dot: str) -> Panel:
    found, launched, planned = snapshot.attacks
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column()
    grid.add_row(
        "events",
        f" {dot} ".join(
            (
                f"{snapshot.produced:,} produced ({snapshot.rate_hz:,.0f}/s)",
                f"{snapshot.accepted:,} accepted",
                f"{sum(snapshot.rejected.values()):,} rejected",
                f"{snapshot.in_flight:,} in flight",
            )
        ),
    )
    grid.add_row("rejected", _counts(snapshot.rejected, dot))
    now = f" [dim]({snapshot.access})[/]" if snapshot.access else ""
    grid.add_row("access", f"{snapshot.permitted:,} permitted {dot} {snapshot.denied:,} denied{now}")
    grid.add_row("findings", _counts(snapshot.findings, dot))
    told = "".join(f" {dot} {count:,} by {name}" for name, count in snapshot.told.items())
    grid.add_row("alerts", f"{snapshot.alerts:,}{told}")
    grid.add_row("log", f"{snapshot.leaves:,} leaves in {snapshot.shards} trees, signed")
    grid.add_row("anchors", _anchor(snapshot))
    if planned:
        grid.add_row("attacks", f"{launched} of {planned} launched, {found} found")
    if snapshot.unwell:
        grid.add_row("[red]unwell[/]", escape(f" {dot} ".join(snapshot.unwell)))
    bar = Table.grid(padding=(0, 1), expand=True)
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True, style="dim")
    bar.add_row(
        ProgressBar(total=snapshot.seconds, completed=snapshot.elapsed_s),
        f"{snapshot.elapsed_s:.0f} of {snapshot.seconds:.0f} s",
    )
    title = f"[bold]{snapshot.devices} monitors streaming[/]"
    return Panel(Group(bar, grid), title=title, title_align="left", border_style="cyan")


def _line(snapshot: Snapshot) -> str:
    found, launched, planned = snapshot.attacks
    parts = [
        f"{snapshot.elapsed_s:.0f} s  produced {snapshot.produced:,} ({snapshot.rate_hz:,.0f}/s)",
        f"accepted {snapshot.accepted:,}",
        f"rejected {sum(snapshot.rejected.values()):,}",
        f"permitted {snapshot.permitted:,}",
        f"denied {snapshot.denied:,}",
        f"findings {sum(snapshot.findings.values()):,}",
        f"alerts {snapshot.alerts:,}",
        f"leaves {snapshot.leaves:,}",
        f"anchors {snapshot.confirmed}",
    ]
    if planned:
        parts.append(f"attacks {found} found of {launched}")
    if snapshot.unwell:
        parts.append(escape("unwell: " + ", ".join(snapshot.unwell)))
    return ", ".join(parts)
