"""The supervisor: brings the stack up in order, keeps it up, takes it down in reverse order.

It is one small loop on the main thread. Nothing it starts outlives it: in order it stops the
children itself; killed, the kernel ends them (`tether`) or they see their leash let go (`leash`).
What it knows it writes to `<data>/run/supervisor.json`, which is all that `up` and `status` read.
"""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from pipeline.local.child import Child
from pipeline.local.errors import StackFailedError
from pipeline.local.files import write_json
from pipeline.local.leash import Leash, hold_leash
from pipeline.local.process import tail
from pipeline.local.spec import ProcessSpec

REPORT = "supervisor.json"
TICK_S = 0.1
REPORT_EVERY_S = 1.0
FAILURES_BEFORE_READY = 3


@dataclass(frozen=True, slots=True)
class Step:
    """Something done once, between groups; it raises when the stack cannot come up."""

    title: str
    run: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Start:
    """Processes started together, and stopped together: those that were started last are stopped first."""

    specs: Sequence[ProcessSpec]


@dataclass(frozen=True, slots=True)
class Await:
    """The plan goes on when these, started before, are ready. Until then nothing is told of them."""

    title: str
    specs: Sequence[ProcessSpec]


Plan = Sequence[Step | Start | Await]


class Supervisor:
    """Runs a plan until it is told to stop, then leaves nothing behind."""

    def __init__(self, run_dir: Path, plan: Plan) -> None:
        self._run_dir = run_dir
        self._plan = plan
        self._leash = Leash()
        self._groups: list[list[Child]] = []
        self._awaited: set[str] = set()
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._phase, self._step, self._message = "starting", "", ""
        self._reported = ""
        self._reported_at_s = 0.0

    def run(self) -> int:
        """Come up, stay up, go down; returns the exit code. Call it on the main thread."""
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, self._on_signal)
        hold_leash(self._stop.set)
        failed = False
        try:
            self._come_up()
            while not self._stop.is_set():
                self._tick()
        except Exception as error:  # noqa: BLE001 - whatever it is, the children must go and the user must know
            failed = True
            self._message = str(error) or repr(error)
        self._go_down("failed" if failed else "stopping")
        self._phase = "failed" if failed else "stopped"
        self._report()
        return 1 if failed else 0

    def _on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def _come_up(self) -> None:
        for item in self._plan:
            if self._stop.is_set():
                return
            if isinstance(item, Start):
                self._start(item.specs)
                continue
            self._step = item.title
            self._report()
            if isinstance(item, Step):
                item.run()
            else:
                self._wait_for(item.specs)
        if not self._stop.is_set():
            self._phase, self._step = "ready", ""
            self._report()

    def _start(self, specs: Sequence[ProcessSpec]) -> None:
        group = [Child(spec, self._run_dir / f"{spec.name}.log", self._leash) for spec in specs]
        self._groups.append(group)
        for child in group:
            child.tick(time.monotonic())

    def _wait_for(self, specs: Sequence[ProcessSpec]) -> None:
        names = {spec.name for spec in specs}
        self._awaited |= names
        waited_for = [child for group in self._groups for child in group if child.spec.name in names]
        while not self._stop.is_set() and not all(_is_well(child) for child in waited_for):
            self._tick()
            for child in waited_for:
                _give_up_on_repeated_failure(child)

    def _tick(self) -> None:
        for group in self._groups:
            for child in group:
                child.tick(time.monotonic())
        self._report()
        self._stop.wait(TICK_S)

    def _go_down(self, phase: str) -> None:
        self._phase, self._step = phase, "stopping"
        for group in reversed(self._groups):
            self._report()
            for child in group:
                child.ask_to_stop()
            started_s = time.monotonic()
            while not self._hurry.is_set() and not all(child.has_ended() for child in group):
                waited_s = time.monotonic() - started_s
                if waited_s >= max(child.spec.stop_grace_s for child in group):
                    break
                self._hurry.wait(TICK_S / 2)
            for child in group:
                child.finish(patience_s=0)
        self._leash.release()

    def _report(self) -> None:
        """Replace the report when it changed, and once a second as a sign of life."""
        children = [child for group in self._groups for child in group]
        rows = [child.report() for child in children if child.spec.name in self._awaited]
        state = {"phase": self._phase, "step": self._step, "message": self._message, "processes": rows}
        shown = json.dumps({**state, "processes": [{**row, "beat_s": None} for row in rows]})
        now_s = time.monotonic()
        if shown == self._reported and now_s - self._reported_at_s < REPORT_EVERY_S:
            return
        self._reported, self._reported_at_s = shown, now_s
        with contextlib.suppress(OSError):  # a full disk must not take the stack down
            write_json(self._run_dir / REPORT, {**state, "pid": os.getpid(), "beat_s": time.time()})


def _is_well(child: Child) -> bool:
    return child.verdict.ready or not child.spec.restart


def _give_up_on_repeated_failure(child: Child) -> None:
    if child.spec.restart and child.failures >= FAILURES_BEFORE_READY:
        raise StackFailedError(
            f"{child.spec.name} ended {child.failures} times before it was ready "
            f"({child.verdict.why.split(';')[0]}); the end of {child.log_path}:\n{tail(child.log_path)}"
        )
