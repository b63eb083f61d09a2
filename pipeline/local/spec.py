"""What the supervisor runs: a process, how it is started and how it tells that it is well."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

STALE_BEAT_S = 10.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a probe found out about a process that is alive."""

    ready: bool
    """Does its work now."""
    well: bool
    """Shows signs of life; one that restores is well and not ready."""
    state: str
    """In the process's own words: starting, restoring, running, draining."""
    why: str = ""
    """Why it is not ready, or a detail of its own; empty when there is nothing to say."""
    alarm: str = ""
    """What of its work it cannot do, in few words."""
    beat_s: float | None = None
    """Unix time of the last sign of life; None where liveness is asked for instead."""


Probe = Callable[[int], Verdict]
"""Looks at the process of a pid; returns within about a second and never raises."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process of the stack."""

    name: str
    argv: Callable[[int], list[str]]
    """The command, given how many starts in a row came to nothing."""
    probe: Probe
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the supervisor's environment."""
    on_start: Callable[[int], None] = lambda _pid: None
    """Called with the pid of each started process."""
    restart: bool = True
    """False for a helper that does its work once: it counts neither for readiness nor for health."""
    stop_grace_s: float = 10.0
    niceness: int = 0


def health_file(path: Path) -> Probe:
    """A probe that reads the health file which a stage replaces at least once a second.

    `{"pid", "state", "beat_s", "detail", "alarm", ...}`; one of another pid is left over from the last start.
    """

    def look(pid: int) -> Verdict:
        try:
            health = json.loads(path.read_text("utf-8"))
            if health["pid"] != pid:
                return Verdict(ready=False, well=False, state="starting", why="no sign of life yet")
            state, beat_s = str(health["state"]), float(health["beat_s"])
            detail, alarm = str(health.get("detail", "")), str(health.get("alarm", ""))
        except FileNotFoundError:
            return Verdict(ready=False, well=False, state="starting", why="no sign of life yet")
        except (OSError, ValueError, KeyError, TypeError) as error:
            return Verdict(ready=False, well=False, state="unknown", why=f"{path} cannot be read: {error!r}")
        age_s = time.time() - beat_s
        if age_s > STALE_BEAT_S:
            return Verdict(
                ready=False,
                well=False,
                state=state,
                why=f"its loop stands still for {age_s:.0f} s",
                beat_s=beat_s,
            )
        return Verdict(
            ready=state == "running", well=True, state=state, why=detail, alarm=alarm, beat_s=beat_s
        )

    return look


def asks(is_ready: Callable[[], bool], *, what: str) -> Probe:
    """A probe for a process that keeps no health file: ready when `is_ready` says so."""

    def look(_pid: int) -> Verdict:
        if is_ready():
            return Verdict(ready=True, well=True, state="running", beat_s=time.time())
        return Verdict(ready=False, well=False, state="starting", why=what)

    return look


def finishes() -> Probe:
    """A probe for a helper of which nothing is asked but that it ends."""
    return lambda _pid: Verdict(ready=True, well=True, state="working")
