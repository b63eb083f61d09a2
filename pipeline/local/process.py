"""Processes of the local stack: how one is started, recognised again, and ended.

A process is known by pid *and* start time, never by pid or name alone: after a crash or a reboot
the pid in a file may belong to a stranger, and a stranger is never signalled.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from pipeline.local.leash import Leash

# The kernel counts starts from boot; psutil adds the boot time, which moves by up to a second when
# the clock is disciplined.
START_TOLERANCE_S = 2.0
LOG_ROTATE_BYTES = 8 << 20
TETHER = Path(__file__).with_name("tether.py")


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process of this machine, for good: a pid and the time it was started."""

    pid: int
    started_s: float
    """Unix time of its start, as the kernel tells it."""

    @classmethod
    def of(cls, pid: int) -> Self:
        """The identity of the process that has `pid` now; ProcessLookupError when there is none."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess as error:
            raise ProcessLookupError(pid) from error

    @classmethod
    def from_json(cls, value: Any) -> Self | None:
        """Read what `to_json` gave; None when it is anything else."""
        try:
            return cls(int(value["pid"]), float(value["started_s"]))
        except (KeyError, TypeError, ValueError):
            return None

    def to_json(self) -> dict[str, float]:
        """The form that pid files hold."""
        return {"pid": self.pid, "started_s": self.started_s}

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        return self._process() is not None

    def end(self, grace_s: float) -> None:
        """SIGTERM, up to `grace_s` seconds of patience, then SIGKILL. Returns when it is gone."""
        process = self._process()
        if process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(grace_s)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(grace_s)

    def _process(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started_s) <= START_TOLERANCE_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def spawn(
    argv: Sequence[str],
    log_path: Path,
    *,
    env: Mapping[str, str] | None = None,
    leash: Leash | None = None,
    niceness: int = 0,
) -> "subprocess.Popen[bytes]":
    """Start `argv` tied to this process's life, its output appended to `log_path`.

    `env` is added to our own environment. Call it from a thread that lives as long as the child
    should (see `tether`). The child is in a session of its own, so that a Ctrl-C at the terminal
    reaches only us and the order of shutdown stays ours.
    """
    mode = "exec" if sys.platform == "linux" else "guard"
    command = [sys.executable, "-I", "-S", str(TETHER), mode, str(os.getpid()), str(niceness), *argv]
    environment = {**os.environ, **(env or {})}
    if leash is not None:
        environment.update(leash.environment())
    with _open_log(log_path) as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=(leash.read_fd,) if leash is not None else (),
            start_new_session=True,
        )


def stop(process: "subprocess.Popen[bytes]", grace_s: float) -> int:
    """End our own child: SIGTERM, patience, SIGKILL. Returns its exit code."""
    process.terminate()
    try:
        return process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def tail(log_path: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message; empty when there is no log."""
    try:
        with log_path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 16_384))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _open_log(log_path: Path) -> Any:
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if log_path.stat().st_size > LOG_ROTATE_BYTES:
            log_path.replace(log_path.with_name(log_path.name + ".1"))
    return log_path.open("ab")
