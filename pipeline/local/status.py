"""How the local stack is: what the supervisor last reported, and whether it lives to report more."""

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.local import stackfile
from pipeline.local.files import read_json
from pipeline.local.spec import STALE_BEAT_S
from pipeline.local.supervisor import REPORT

FULL_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process of the stack."""

    name: str
    pid: int | None
    state: str
    ready: bool
    """Does its work now."""
    well: bool
    """Shows signs of life; one that restores is well and not ready."""
    beat_age_s: float | None
    restarts: int
    why: str
    """Why it is not ready, or a detail of its own."""
    alarm: str
    """What of its work it cannot do, in few words; it may be well all the same."""
    log: str


@dataclass(frozen=True, slots=True)
class StackStatus:
    """The whole stack of one data directory."""

    phase: str
    """down, starting, ready, unhealthy, stopping or failed."""
    step: str
    message: str
    bootstrap_servers: str
    supervisor_pid: int | None
    processes: tuple[ProcessStatus, ...]

    @property
    def healthy(self) -> bool:
        """Whether the stack came up and every process shows signs of life."""
        return self.phase == "ready"

    @property
    def alarms(self) -> tuple[str, ...]:
        """What processes cannot do, each behind its name."""
        return tuple(f"{row.name}: {row.alarm}" for row in self.processes if row.alarm)

    def process(self, name: str) -> ProcessStatus:
        """The row of one process; KeyError when the stack has none of that name."""
        for row in self.processes:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """The form of `attestream status --json`."""
        return asdict(self)


def read_status(data_dir: Path) -> StackStatus:
    """Status of the stack of `data_dir`, from its files and the process table."""
    supervisor = stackfile.supervisor_of(data_dir)
    report = read_json(data_dir / "run" / REPORT)
    message = str(report.get("message", ""))
    if supervisor is None:
        return StackStatus("down", "", message, "", None, ())
    found = read_json(stackfile.path(data_dir))
    if report.get("pid") != supervisor.pid:  # it has not come to its first report
        report, message = {"phase": "starting", "processes": []}, ""
    rows = tuple(_process(row) for row in report["processes"])
    phase = str(report["phase"])
    age_s = time.time() - float(report.get("beat_s", time.time()))
    if age_s > STALE_BEAT_S:
        phase, message = "unhealthy", f"the supervisor has not reported for {age_s:.0f} s"
        if shutil.disk_usage(data_dir).free < FULL_BYTES:  # neither it nor the stages can write a report
            message += f"; no space is left under {data_dir}, and the rows are old"
    elif phase == "ready" and not all(row.well for row in rows):
        phase = "unhealthy"
    return StackStatus(
        phase=phase,
        step=str(report.get("step", "")),
        message=message,
        bootstrap_servers=str(found.get("bootstrap_servers", "")),
        supervisor_pid=supervisor.pid,
        processes=rows,
    )


def _process(row: dict[str, Any]) -> ProcessStatus:
    beat_s = row["beat_s"]
    return ProcessStatus(
        name=row["name"],
        pid=row["pid"],
        state=row["state"],
        ready=row["ready"],
        well=row["well"],
        beat_age_s=None if beat_s is None else max(0.0, time.time() - float(beat_s)),
        restarts=row["restarts"],
        why=row["why"],
        alarm=row.get("alarm", ""),
        log=row["log"],
    )
