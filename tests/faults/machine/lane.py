"""A lane: one process that runs schedules one after another and prints a JSON line for each.

    python -m tests.faults.machine.lane --seconds 60 --seed 7 [--broken NAME] [--kinds a,b] [--schedules N]

Lanes run beside each other, since a schedule mostly waits. Each world takes a number of schedules on its
growing log and then makes room for a fresh one.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from types import FrameType

from tests.faults.machine.faults import FAULTS, storage
from tests.faults.machine.schedule import run_schedule
from tests.faults.machine.world import World
from tests.faults.machine.zygote import Zygote

SCHEDULES_A_WORLD = 15
INNERMOST = 8
"""Calls that a lane names when it is ended from outside."""


def say(**line: object) -> None:
    """Write one line to the runner."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def end_tidily() -> None:
    """Let SIGTERM, by which the runner ends a lane, leave no folder behind and tell what it was doing."""

    def leave(_number: int, frame: FrameType | None) -> None:
        calls = traceback.extract_stack(frame)[-INNERMOST:]
        say(ended_in=" > ".join(f"{Path(call.filename).stem}:{call.lineno} {call.name}" for call in calls))
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)


def main(arguments: list[str]) -> int:
    """Entry point."""
    options = lane_parser(__doc__).parse_args(arguments)
    end_tidily()
    seeds = random.Random(options.seed)
    ends_at = time.monotonic() + options.seconds
    left = options.schedules
    with Zygote(("ingest", "seal"), environment=storage.environment()) as zygote:
        while time.monotonic() < ends_at and left != 0:
            with tempfile.TemporaryDirectory(prefix="attestream-faults-") as folder:
                left = _run_world(options, zygote, Path(folder), seeds, ends_at, left)
    return 0


def _run_world(
    options: argparse.Namespace,
    zygote: Zygote,
    folder: Path,
    seeds: random.Random,
    ends_at: float,
    left: int,
) -> int:
    kinds = [kind for kind in options.kinds.split(",") if kind]
    seams = [at for at in options.seams.split(",") if at]
    told: Counter[str] = Counter()
    with World(folder, zygote, seeds.getrandbits(32), options.broken, seams) as world:
        for _ in range(SCHEDULES_A_WORLD):
            if time.monotonic() >= ends_at or left == 0:
                break
            seed = options.replay if options.replay is not None else seeds.getrandbits(32)
            say(begins=seed)
            result = run_schedule(world, seed, kinds)
            new = Counter(world.faults) - told
            told += new
            say(**result.to_json(), faults=dict(new), restarts=world.restarts)
            left -= 1
            if result.violations or result.void:
                keep_logs(folder, result.seed, options.keep)
                break  # what follows would only repeat it
            if any(FAULTS[kind].ends_world for kind in result.kinds):
                break
    return left


def keep_logs(world_folder: Path, seed: int, keep: str) -> None:
    """Copy what a person needs to look into a violation: logs, signs of life, and the broker's own bytes.

    The last as they are on its disk, for Kafka's `DumpLogSegments`: markers and offsets that no client sees.
    """
    if not keep:
        return
    target = Path(keep) / str(seed)
    target.mkdir(parents=True, exist_ok=True)
    for log in [*world_folder.glob("*.log"), *world_folder.glob("data/run/*")]:
        (target / log.name).write_bytes(log.read_bytes())
    broker = world_folder / "data" / "kafka"
    for log in broker.rglob("*.log"):
        copy = target / "kafka" / log.relative_to(broker)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(log.read_bytes())


def lane_parser(text: str | None) -> argparse.ArgumentParser:
    """Take the options that every lane has."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", type=int, help="the seed of one schedule, run again and again")
    parser.add_argument("--schedules", type=int, default=-1, help="at most so many")
    parser.add_argument("--kinds", default="", help="only these kinds of fault, in this order")
    parser.add_argument("--seams", default="", help="named points at which ingest and seal are struck")
    parser.add_argument("--broken", default="", help="a deliberate fault of the build")
    parser.add_argument("--keep", default="", help="folder for the logs of a schedule that found something")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
