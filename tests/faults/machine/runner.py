"""Runs lanes beside each other, tallies what they did, and writes `build/faults.json`.

A schedule that finds something is printed with its seed and the command that plays it again.
"""

import contextlib
import json
import queue
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

GRACE_S = 360.0
"""How long a lane may take beyond its time: its last schedule strikes three times, settles, is judged, and
its broker goes. The longest of each: 100 s, 120 s, 60 s."""
TOLD_WITHIN_S = 60.0
"""How long a lane that is ended may take to say what it was doing and to tidy up."""
MAX_TOLD = 300
MAX_TOLD_SCHEDULES = 3


@dataclass(slots=True)
class Lane:
    """One process to run, and how a violation of it is played again."""

    name: str
    command: Sequence[str]
    again: str
    """With {seed} and {kinds}."""


@dataclass(slots=True)
class Tally:
    """What all lanes did."""

    schedules: int = 0
    records: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[dict[str, Any]] = field(default_factory=list)
    void: int = 0
    """Schedules that found something after their broker had broken its own log."""
    told_again: int = 0
    """How often an alert told of a record that another had told of: lanes of alerts count it."""
    broken_lanes: list[str] = field(default_factory=list)
    """Lanes that ended otherwise than by finishing: the machine's own failure."""

    @property
    def ok(self) -> bool:
        """Nothing was violated and every lane ran to its end."""
        return not self.violations and not self.broken_lanes

    def take(self, lane: str, line: dict[str, Any]) -> None:
        """Add one schedule's line."""
        self.schedules += 1
        self.records += int(line["records"])
        self.void += bool(line.get("void"))
        self.told_again += int(line.get("told_again", 0))
        self.faults.update(line["faults"])
        self.violations += [
            {"lane": lane, "seed": line["seed"], "kinds": line["kinds"], **violation}
            for violation in line["violations"]
        ]


def run(lanes: Sequence[Lane], seconds: float, console: Console, *, stop_at_first: bool = False) -> Tally:
    """Run all lanes to their ends, or until the first violation where that is asked for."""
    lines: queue.SimpleQueue[tuple[Lane, dict[str, Any] | None]] = queue.SimpleQueue()
    processes = {lane.name: _start(lane, lines) for lane in lanes}
    tally, running, ends_at = Tally(), len(lanes), time.monotonic() + seconds + GRACE_S
    begun: dict[str, int] = {}
    try:
        while running:
            try:
                lane, line = lines.get(timeout=max(0.0, ends_at - time.monotonic()))
            except queue.Empty:
                tally.broken_lanes += _end_late(processes, lines, begun)
                break
            if line is None:
                running -= 1
                code = processes[lane.name].wait()
                if code:
                    tally.broken_lanes.append(f"{lane.name} ended with {code}")
                continue
            if "records" not in line:
                begun[lane.name] = line.get("begins", begun.get(lane.name, 0))
                continue
            tally.take(lane.name, line)
            _show(console, lane, line, tally)
            if stop_at_first and tally.violations:
                break
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.terminate()
        for process in processes.values():
            process.wait(TOLD_WITHIN_S)
    return tally


def _end_late(
    processes: Mapping[str, "subprocess.Popen[str]"],
    lines: "queue.SimpleQueue[tuple[Lane, dict[str, Any] | None]]",
    begun: Mapping[str, int],
) -> list[str]:
    """End what still runs, and say of each lane in which schedule and where in its code it was."""
    late = [name for name, process in processes.items() if process.poll() is None]
    for name in late:
        processes[name].terminate()
    told: dict[str, str] = {}
    ended: set[str] = set()
    until = time.monotonic() + TOLD_WITHIN_S
    while not ended.issuperset(late) and time.monotonic() < until:
        with contextlib.suppress(queue.Empty):
            lane, line = lines.get(timeout=max(0.0, until - time.monotonic()))
            if line is None:
                ended.add(lane.name)
            elif "ended_in" in line:
                told[lane.name] = line["ended_in"]
    return [
        f"{name} did not end in time: seed {begun.get(name, 0)}, in {told.get(name, 'what does not answer')}"
        for name in late
    ]


def _start(
    lane: Lane, lines: "queue.SimpleQueue[tuple[Lane, dict[str, Any] | None]]"
) -> "subprocess.Popen[str]":
    process = subprocess.Popen(lane.command, stdout=subprocess.PIPE, text=True)

    def listen() -> None:
        assert process.stdout is not None
        for text in process.stdout:
            lines.put((lane, json.loads(text)))
        lines.put((lane, None))

    threading.Thread(target=listen, name=lane.name, daemon=True).start()
    return process


def _show(console: Console, lane: Lane, line: dict[str, Any], tally: Tally) -> None:
    kinds = ", ".join(line["kinds"])
    mark = "[red]✗[/]" if line["violations"] else "[yellow]∅[/]" if line.get("void") else "[green]✓[/]"
    console.print(
        f"{mark} {tally.schedules:4} {lane.name:8} seed {line['seed']:<10} {line['records']:5} records "
        f"{line['seconds']:5.1f} s  {kinds}",
        highlight=False,
    )
    for violation in line["violations"][:5]:
        console.print(
            f"    {violation['invariant']}: {violation['what']}", highlight=False, markup=False, emoji=False
        )
    if line["violations"]:
        again = lane.again.format(seed=line["seed"], kinds=",".join(line["kinds"]))
        console.print(f"    again: {again}", highlight=False)


def report(tally: Tally, seed: int, path: Path, console: Console) -> None:
    """Write the report and print the tally by kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "schedules": tally.schedules,
        "faults": dict(sorted(tally.faults.items())),
        "records": tally.records,
        "told_again": tally.told_again,
        "void": tally.void,
        "violations": tally.violations,
        "seed": seed,
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    table = Table("fault", "times", box=None)
    for kind, times in sorted(tally.faults.items(), key=lambda item: -item[1]):
        table.add_row(kind, str(times))
    console.print(table)
    # Last, since of a long log often only the end is kept.
    for text in [*tally.broken_lanes, *_in_short(tally.violations)]:
        console.print(f"✗ {text}", highlight=False, markup=False, emoji=False)
    console.print(
        f"{tally.schedules} schedules, {sum(tally.faults.values())} faults, {tally.records} records, "
        f"{tally.told_again} told again, {tally.void} void, {len(tally.violations)} violations "
        f"(seed {seed}; {path})"
    )


def _in_short(violations: Sequence[dict[str, Any]]) -> list[str]:
    """Name each schedule that found something once, with its first violation, cut."""
    firsts: dict[tuple[str, int], dict[str, Any]] = {}
    counts: Counter[tuple[str, int]] = Counter()
    for violation in violations:
        key = (violation["lane"], violation["seed"])
        firsts.setdefault(key, violation)
        counts[key] += 1
    told = [
        f"{lane} seed {seed} ({', '.join(first['kinds'])}): {counts[lane, seed]} violations, first "
        f"{first['invariant']}: {first['what']}"[:MAX_TOLD]
        for (lane, seed), first in firsts.items()
    ]
    return told[:MAX_TOLD_SCHEDULES]
