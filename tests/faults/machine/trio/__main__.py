"""`python -m tests.faults.machine.trio --kills 20 --seed 7`: take brokers away, write `build/trio.json`."""

import argparse
import json
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.faults.machine.lane import say
from tests.faults.machine.trio.roles import TARGETS
from tests.faults.machine.trio.run import Trio


def main(arguments: list[str]) -> int:
    """Entry point; 0 when service came back every time and no invariant was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.machine.trio", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None, help="default: a fresh one, which is printed")
    parser.add_argument("--target", choices=[*TARGETS, "mixed"], default="coordinator")
    parser.add_argument("--report", type=Path, default=Path("build/trio.json"))
    parser.add_argument("--keep", type=Path, default=Path("build/trio"), help="logs of a run that failed")
    parser.add_argument(
        "--lines", action="store_true", help="print one JSON line, as a lane of the fault machine does"
    )
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else secrets.randbits(32)
    console = Console(soft_wrap=True, stderr=options.lines)  # a lane's standard output is its runner's
    console.print(f"three brokers: {options.kills} times the {options.target}, seed {seed}")
    targets = list(TARGETS) if options.target == "mixed" else [options.target]
    with tempfile.TemporaryDirectory(prefix="attestream-trio-") as name:
        with Trio(Path(name), seed, console) as trio:
            report = trio.run(options.kills, targets)
        if report.violations:
            options.keep.mkdir(parents=True, exist_ok=True)
            for log in [*Path(name).glob("*.log"), *Path(name).glob("broker-*/kafka.log")]:
                shutil.copy(log, options.keep / f"{log.parent.name}-{log.name}")
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
    console.print(
        f"{len(report.kills)} brokers taken away, gap p50 {report.gap_s.get('p50')} s, "
        f"max {report.gap_s.get('max')} s; "
        f"{report.session_failures} sessions failed, {report.worker_restarts} workers ended, "
        f"{report.watchdog_ends} of them by the watchdog; {report.records} records, "
        f"{len(report.violations)} violations ({options.report})",
        highlight=False,
    )
    if options.lines:
        say(**report.to_line())
        return 0  # whoever reads the line judges it
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
