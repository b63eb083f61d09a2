"""`make faults ARGS="--seconds 300 --seed 7"`: run the fault machine and write `build/faults.json`."""

import argparse
import secrets
import sys
from pathlib import Path

from rich.console import Console

from tests.faults.machine import runner


def main(arguments: list[str]) -> int:
    """Entry point; 0 when no invariant was violated."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=None, help="default: a fresh one, which is printed")
    parser.add_argument("--lanes", type=int, default=3, help="worlds that run beside each other")
    parser.add_argument("--kinds", default="", help="only these kinds of fault")
    parser.add_argument("--report", type=Path, default=Path("build/faults.json"))
    parser.add_argument("--keep", type=Path, default=Path("build/faults"), help="logs of what failed")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else secrets.randbits(32)
    console = Console(soft_wrap=True)
    console.print(f"fault machine: {options.seconds:.0f} s, {options.lanes} worlds, seed {seed}")
    more = ("--kinds", options.kinds, "--keep", str(options.keep))
    tally = runner.run(
        runner.world_lanes(options.lanes, options.seconds, seed, *more), options.seconds, console
    )
    runner.report(tally, seed, options.report, console)
    return 0 if tally.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
