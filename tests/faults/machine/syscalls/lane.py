"""A lane of blows at single system calls: sweeps over samples of calls, a JSON line for each, as `lane` does.

    python -m tests.faults.machine.syscalls.lane --seconds 60 --seed 7 [--kinds kill_anchor_at_calls,...]

Each sweep strikes at calls that its seed draws; `python -m tests.faults.machine.syscalls` leaves none out.
"""

import itertools
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random

from tests.faults.machine.lane import end_tidily, lane_parser, say
from tests.faults.machine.syscalls.powercut import cut_power, cut_power_after_kill
from tests.faults.machine.syscalls.sweep import BLOWS, strike
from tests.faults.machine.syscalls.worlds import Tally, Worlds

SAMPLE = 6
KILLS_BEFORE_A_CUT = 2
"""Each is followed by a look at every cut of a whole run."""
STAGES = ("seal", "anchor")
Sweep = Callable[[Worlds, Random], None]


def _blow(name: str, worlds: Worlds, rng: Random) -> None:
    strike(worlds, name, SAMPLE, rng)


def _power_cuts(worlds: Worlds, rng: Random) -> None:
    cut_power(worlds, SAMPLE, rng)


def _power_cuts_after_kill(worlds: Worlds, rng: Random) -> None:
    cut_power_after_kill(worlds, KILLS_BEFORE_A_CUT, rng)


SWEEPS: dict[str, tuple[str, Sweep]] = {
    **{f"{blow}_{stage}_at_calls": (stage, partial(_blow, blow)) for blow in BLOWS for stage in STAGES},
    **{f"power_cut_{stage}": (stage, _power_cuts) for stage in STAGES},
    "power_cut_after_kill_seal": ("seal", _power_cuts_after_kill),
}
"""Each kind with the stage that it strikes."""


def main(arguments: list[str]) -> int:
    """Entry point."""
    end_tidily()
    options = lane_parser(__doc__).parse_args(arguments)
    kinds = [kind for kind in options.kinds.split(",") if kind in SWEEPS] or list(SWEEPS)
    seeds, ends_at = Random(options.seed), time.monotonic() + options.seconds
    seeds.shuffle(kinds)
    with ExitStack() as stack:
        worlds: dict[str, Worlds] = {}
        for number, kind in enumerate(itertools.cycle(kinds)):
            if time.monotonic() >= ends_at or number == options.schedules:
                break
            stage, sweep = SWEEPS[kind]
            if stage not in worlds:
                folder = Path(
                    stack.enter_context(
                        tempfile.TemporaryDirectory(prefix="attestream-calls-", ignore_cleanup_errors=True)
                    )
                )
                worlds[stage] = stack.enter_context(Worlds(stage, folder, options.broken))
            seed = options.replay if options.replay is not None else seeds.getrandbits(32)
            _run(worlds[stage], kind, sweep, seed)
    return 0


def _run(worlds: Worlds, kind: str, sweep: Sweep, seed: int) -> None:
    began_s, tally = time.monotonic(), Tally()
    worlds.tally = tally
    say(begins=seed)
    sweep(worlds, Random(seed))
    say(
        seed=seed,
        kinds=[kind],
        records=0,
        seconds=time.monotonic() - began_s,
        violations=[{"invariant": each.invariant, "what": each.what} for each in tally.violations],
        faults={kind: tally.struck + tally.images},
        restarts=tally.runs + tally.resumed,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
