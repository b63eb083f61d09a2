"""A lane of the ledger's faults: one process that prints a JSON line for each schedule, as `lane` does.

python -m tests.faults.machine.ledgers.lane --seconds 60 --seed 7 [--kinds a,b] [--replay SEED]
"""

import itertools
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import structlog

from tests.faults.machine.faults.ledger import LEDGER_FAULTS, run_ledger_schedule, schedules
from tests.faults.machine.lane import end_tidily, keep_logs, lane_parser, say
from tests.faults.machine.ledgers.world import PRELOADED, LedgerWorld
from tests.faults.machine.zygote import Zygote

SCHEDULES_A_WORLD = 30


def main(arguments: list[str]) -> int:
    """Entry point."""
    end_tidily()
    parser = lane_parser(__doc__)
    parser.add_argument("--singly", action="store_true", help="one kind of fault after the other")
    options = parser.parse_args(arguments)
    # Standard output belongs to the runner.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    given = [kind for kind in options.kinds.split(",") if kind]
    singly = (
        ([kind] for kind in itertools.cycle(LEDGER_FAULTS)) if options.singly else itertools.repeat(given)
    )
    seeds, ends_at, left = schedules(options.seed), time.monotonic() + options.seconds, options.schedules
    with Zygote(("anchor",), preload=PRELOADED) as zygote:
        while time.monotonic() < ends_at and left != 0:
            with (
                tempfile.TemporaryDirectory(prefix="attestream-ledger-faults-") as folder,
                LedgerWorld(Path(folder), zygote, next(seeds), options.broken) as world,
            ):
                for _ in range(SCHEDULES_A_WORLD):
                    if time.monotonic() >= ends_at or left == 0:
                        break
                    left -= 1
                    if not _run(world, options.replay or next(seeds), next(singly), options.keep):
                        break  # what follows would only repeat it
    return 0


def _run(world: LedgerWorld, seed: int, kinds: list[str], keep: str) -> bool:
    told, size, restarts, began_s = (
        Counter(world.faults),
        world.size,
        world.workers.restarts,
        time.monotonic(),
    )
    say(begins=seed)
    found = run_ledger_schedule(world, random.Random(seed), kinds)
    say(
        seed=seed,
        kinds=world.chosen,
        records=world.size - size,
        seconds=time.monotonic() - began_s,
        violations=[{"invariant": each.invariant, "what": each.what} for each in found],
        faults=dict(Counter(world.faults) - told),
        restarts=world.workers.restarts - restarts,
        healed_in_s=world.healed_in_s[-1] if world.healed_in_s else None,
    )
    if found:
        keep_logs(world.folder, seed, keep)
    return not found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
