"""Entry point: `python -m tests.faults.machine.syscalls`."""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.machine.syscalls.crosscheck import cross_check
from tests.faults.machine.syscalls.powercut import cut_power, cut_power_after_kill
from tests.faults.machine.syscalls.shim import ToolMissingError
from tests.faults.machine.syscalls.sweep import BLOWS, strike
from tests.faults.machine.syscalls.worlds import Worlds


def main(arguments: list[str]) -> int:
    """Run one sweep and print its tally as one JSON object; 1 where an invariant was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.machine.syscalls", description=__doc__)
    parser.add_argument("--stage", choices=("seal", "anchor"), required=True)
    parser.add_argument("--action", choices=sorted(BLOWS), default="kill")
    parser.add_argument("--power-cuts", action="store_true", help="what a power cut leaves, at each call")
    parser.add_argument(
        "--power-cuts-after-kill", action="store_true", help="the same in a run that follows a kill"
    )
    parser.add_argument("--check-with-strace", action="store_true", help="does the shim see every call?")
    parser.add_argument("--resume", type=int, default=40, help="go on from images of so many cuts")
    parser.add_argument("--sample", type=int, help="at so many calls instead of all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--broken", default="", help="a deliberate fault of the build")
    options = parser.parse_args(arguments)
    began, rng = time.monotonic(), random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="attestream-syscalls-") as folder:
        try:
            with Worlds(options.stage, Path(folder), options.broken) as worlds:
                if options.check_with_strace:
                    cross_check(worlds)
                elif options.power_cuts:
                    cut_power(worlds, options.resume, rng)
                elif options.power_cuts_after_kill:
                    cut_power_after_kill(worlds, options.sample, rng)
                else:
                    strike(worlds, options.action, options.sample, rng)
        except ToolMissingError as error:
            sys.stderr.write(f"{error}\n")
            return 2
    tally = worlds.tally
    fault = "power cut" if options.power_cuts else options.action
    if options.check_with_strace:
        fault = "none, under strace"
    if options.power_cuts_after_kill:
        fault = "power cut after a kill"
    for violation in tally.violations[:20]:
        sys.stderr.write(f"{violation.invariant}: {violation.what}\n")
    report = {
        "stage": options.stage,
        "fault": fault,
        "calls": tally.points,
        "runs": tally.runs,
        "struck": tally.struck,
        "endings": dict(tally.endings),
        "images": tally.images,
        "resumed": tally.resumed,
        "violations": len(tally.violations),
        "seed": options.seed,
        "seconds": round(time.monotonic() - began, 1),
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
