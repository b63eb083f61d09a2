"""`make faults ARGS="--seconds 300 --seed 7"`: run the fault machine and write `build/faults.json`."""

import argparse
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from rich.console import Console

from pipeline.settings import Settings
from tests.faults.machine import runner
from tests.faults.machine.faults import FAULTS
from tests.faults.machine.faults.ledger import LEDGER_FAULTS
from tests.faults.machine.faults.notify import NOTIFY_FAULTS
from tests.faults.machine.syscalls import shim
from tests.faults.machine.syscalls.lane import SWEEPS

MACHINE = "tests.faults.machine"
LANES: dict[str, tuple[str, Mapping[str, object]]] = {
    "world": (f"{MACHINE}.lane", FAULTS),
    "ledger": (f"{MACHINE}.ledgers.lane", LEDGER_FAULTS),
    "notify": (f"{MACHINE}.notify.lane", NOTIFY_FAULTS),
    "calls": (f"{MACHINE}.syscalls.lane", SWEEPS),
}
"""Sorts of lanes with their kinds of fault: ingest and seal on a broker, anchor on a ledger, what tells of
alerts, single system calls."""


def main(arguments: list[str]) -> int:
    """Entry point; 0 when no invariant was violated, 1 otherwise, 2 where a tool is missing."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=None, help="default: a fresh one, which is printed")
    parser.add_argument(
        "--worlds", type=int, default=3, help="lanes with a broker that run beside each other"
    )
    parser.add_argument(
        "--ledgers", type=int, default=4, help="lanes of anchor alone, whose schedules mostly wait"
    )
    parser.add_argument(
        "--notifies", type=int, default=0, help="lanes of correlate, route and deliver, with a broker each"
    )
    parser.add_argument("--trio", type=int, default=0, help="three brokers besides, so many taken away")
    parser.add_argument("--only", choices=LANES, default="", help="only this sort of lane")
    parser.add_argument("--kinds", default="", help="only these kinds of fault, with commas")
    parser.add_argument("--report", type=Path, default=Path("build/faults.json"))
    parser.add_argument("--keep", type=Path, default=Path("build/faults"), help="logs of what failed")
    options = parser.parse_args(arguments)
    kinds = [kind for kind in options.kinds.split(",") if kind]
    unknown = [kind for kind in kinds if not any(kind in known for _, known in LANES.values())]
    if unknown:
        parser.error(f"no such kind of fault: {', '.join(unknown)}")
    seed = options.seed if options.seed is not None else secrets.randbits(32)
    console = Console(soft_wrap=True)
    lanes = _lanes(options, kinds, Random(seed))
    if not is_ready(console):
        return 2
    names = ", ".join(lane.name for lane in lanes)
    console.print(f"fault machine: {options.seconds:.0f} s, seed {seed}, lanes {names}", highlight=False)
    tally = runner.run(lanes, options.seconds, console)
    runner.report(tally, seed, options.report, console)
    return 0 if tally.ok else 1


def is_ready(console: Console) -> bool:
    """Make what every lane needs; say so, and return False, where a tool is missing."""
    try:
        shim.build()
    except shim.ToolMissingError as error:
        console.print(str(error), highlight=False)
        return False
    # Before any world counts seconds: it halves a broker's start.
    command = [sys.executable, "-m", "pipeline.local.aot_train", str(Settings().cache_dir)]
    subprocess.run(command, stderr=subprocess.DEVNULL, check=False)
    return True


def _lanes(options: argparse.Namespace, kinds: Sequence[str], rng: Random) -> list[runner.Lane]:
    lanes = []
    for sort, (module, known) in LANES.items():
        ours = [kind for kind in kinds if kind in known]
        if (kinds and not ours) or options.only not in ("", sort):
            continue
        is_asked_for = bool(ours) or options.only == sort
        notifies = max(options.notifies, 1 if is_asked_for else 0)
        counts = {"world": options.worlds, "ledger": options.ledgers, "notify": notifies}
        for number in range(counts.get(sort, 1)):
            command = [
                sys.executable, "-m", module, "--seconds", str(options.seconds),
                "--seed", str(rng.getrandbits(32)), "--kinds", ",".join(ours), "--keep", str(options.keep),
            ]  # fmt: skip
            again = f"python -m {module} --schedules 3 --replay {{seed}} --kinds {{kinds}}"
            lanes.append(runner.Lane(f"{sort}-{number}", command, again))
    if options.trio:
        command = [
            sys.executable, "-m", f"{MACHINE}.trio", "--lines", "--target", "mixed",
            "--kills", str(options.trio), "--seed", str(rng.getrandbits(32)),
        ]  # fmt: skip
        again = f"python -m {MACHINE}.trio --target mixed --kills {options.trio} --seed {{seed}}"
        lanes.append(runner.Lane("trio", command, again))
    return lanes


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
