"""A lane of correlate, route and deliver: one process that prints a JSON line for each schedule.

python -m tests.faults.machine.notify.lane --seconds 60 --seed 7 [--kinds a,b] [--replay SEED]
"""

import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.machine.faults.notify import run_notify_schedule
from tests.faults.machine.lane import end_tidily, keep_logs, lane_parser, say
from tests.faults.machine.notify.workers import STAGES
from tests.faults.machine.notify.world import PRELOADED, NotifyWorld
from tests.faults.machine.zygote import Zygote

SCHEDULES_A_WORLD = 15


def main(arguments: list[str]) -> int:
    """Entry point."""
    end_tidily()
    options = lane_parser(__doc__).parse_args(arguments)
    kinds = [kind for kind in options.kinds.split(",") if kind]
    seeds, ends_at = random.Random(options.seed), time.monotonic() + options.seconds
    left = options.schedules
    with Zygote(STAGES, preload=PRELOADED) as zygote:
        while time.monotonic() < ends_at and left != 0:
            with (
                tempfile.TemporaryDirectory(prefix="attestream-notify-faults-") as folder,
                NotifyWorld(Path(folder), zygote, seeds.getrandbits(32), options.broken) as world,
            ):
                for _ in range(SCHEDULES_A_WORLD):
                    if time.monotonic() >= ends_at or left == 0:
                        break
                    left -= 1
                    seed = options.replay if options.replay is not None else seeds.getrandbits(32)
                    if not _run(world, seed, kinds, options.keep):
                        break  # what follows would only repeat it
    return 0


def _run(world: NotifyWorld, seed: int, kinds: list[str], keep: str) -> bool:
    began_s, faults, restarts = time.monotonic(), Counter(world.faults), world.workers.restarts
    told = world.oracle.told
    records, told_again = told.sources, told.told_again
    say(begins=seed)
    found = run_notify_schedule(world, random.Random(seed), kinds)
    say(
        seed=seed,
        kinds=world.chosen,
        records=told.sources - records,
        seconds=time.monotonic() - began_s,
        violations=[{"invariant": each.invariant, "what": each.what} for each in found],
        faults=dict(Counter(world.faults) - faults),
        restarts=world.workers.restarts - restarts,
        told_again=told.told_again - told_again,
        healed_in_s=world.healed_in_s[-1] if world.healed_in_s else None,
    )
    if found:
        keep_logs(world.folder, seed, keep)
    return not found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
