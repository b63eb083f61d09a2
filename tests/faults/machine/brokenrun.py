"""`make faults-broken`: shows that the machine finds each build that is broken on purpose (broken.py).

    python -m tests.faults.machine.brokenrun [--only NAME] [--seconds-each 90] [--seed N]

Each build runs under the kinds of fault that bring it to light, pointed at the place that it breaks, until an
invariant is violated that the broken rule stands for: a crash or a stall is not enough, since it would also
follow from a break that does not fit the product any more. As a control the right build goes through the same
faults and must be clean.
"""

import argparse
import secrets
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from random import Random

from rich.console import Console
from rich.table import Table

from tests.faults.machine import runner
from tests.faults.machine.__main__ import LANES, is_ready

AT_ONCE = 2
SCHEDULES = 6
"""At most so many for one build; most take one."""


@dataclass(frozen=True, slots=True)
class Case:
    """A build, what is done to it, and by what it must be found. The control has neither name nor finding."""

    sort: str
    """Of lane, as in `LANES`."""
    kinds: tuple[str, ...]
    by: tuple[str, ...] = ()
    """Invariants, one of which must be violated."""
    seams: tuple[str, ...] = ()
    schedules: int = SCHEDULES
    broken: str = ""

    @property
    def name(self) -> str:
        """As the table says it."""
        return self.broken or f"control, {self.sort}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case."""

    case: Case
    tally: runner.Tally
    seconds: float

    @property
    def found(self) -> list[str]:
        """Invariants that were violated."""
        return sorted({violation["invariant"] for violation in self.tally.violations})

    @property
    def ok(self) -> bool:
        """Found by what it must be found by; of a control, that it ran and was clean."""
        if not self.case.broken:
            return self.tally.ok and self.tally.schedules >= self.case.schedules
        return bool(set(self.found) & set(self.case.by))


_CASES = {
    "commit_before_flush": Case("world", ("kill_ingest_at",), ("skipped",), ("ingest.before_flush",)),
    "state_before_commit": Case(
        "world", ("kill_ingest_at",), ("verdict",), ("ingest.before_flush", "ingest.after_flush")
    ),
    "sign_before_publish": Case("world", ("kill_seal_at",), ("tiles",), ("seal.after_replace",)),
    "unconditional_checkpoint": Case(
        "world", ("zombie_seal_overtaken",), ("going_back", "fork"), ("seal.before_replace",)
    ),
    "replay_check_dropped": Case("world", ("kill_ingest",), ("replay", "verdict")),
    "restore_to_read_committed_end": Case("world", ("zombie_ingest_holds_back",), ("replay", "verdict")),
    "tick_without_offsets": Case("world", ("zombie_ingest_overtaken",), ("findings", "silence")),
    "acknowledged_on_abort": Case(
        "world", ("fail_ingest_at",), ("skipped",), ("ingest.before_flush", "ingest.after_flush")
    ),
    "fsync_skipped": Case("calls", ("power_cut_seal",), ("publication", "going_back")),
    "confirmed_on_acceptance": Case("ledger", ("node_loses_transaction",), ("early_claim",)),
    "new_bytes_each_try": Case("ledger", ("node_loses_answer", "mirror_lags"), ("anchored_twice",)),
    "mirror_is_believed": Case("ledger", ("mirror_wrong_hash",), ("early_claim",)),
    "repeats_routed": Case("notify", ("kill_correlate",), ("misrouted", "routed_twice")),
    "numbers_in_memory": Case("notify", ("kill_route",), ("sequence",)),
    "read_is_delivered": Case(
        "notify", ("receiver_down", "receiver_errors", "kill_deliver"), ("not_delivered",)
    ),
    "body_of_the_moment": Case("notify", ("receiver_errors", "kill_deliver"), ("repeat_differs",)),
}
CASES: dict[str, Case] = {name: replace(case, broken=name) for name, case in _CASES.items()}


def main(arguments: list[str]) -> int:
    """Entry point; 0 when each build was found and the right one is clean, 2 where a tool is missing."""
    parser = argparse.ArgumentParser(prog="make faults-broken", description=__doc__)
    parser.add_argument("--only", choices=CASES, default="", help="only this build, and its control")
    parser.add_argument("--seconds-each", type=float, default=90.0, help="at most so long for each")
    parser.add_argument("--seed", type=int, default=None, help="default: a fresh one, which is printed")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else secrets.randbits(32)
    console, rng = Console(soft_wrap=True), Random(seed)
    cases = [CASES[options.only]] if options.only else list(CASES.values())
    cases = controls(cases) + cases
    if not is_ready(console):
        return 2
    seeds = [rng.getrandbits(32) for _ in cases]
    began = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(
            pool.map(lambda case, own: run(case, options.seconds_each, own, console), cases, seeds)
        )
    table(outcomes, console)
    console.print(f"{time.monotonic() - began:.0f} s, seed {seed}", highlight=False)
    return 0 if all(outcome.ok for outcome in outcomes) else 1


def controls(cases: Sequence[Case]) -> list[Case]:
    """The right build under all kinds of fault of these cases, one schedule for each sort of lane."""
    found = []
    for sort in LANES:
        ours = [case for case in cases if case.sort == sort]
        if ours:
            kinds = tuple(dict.fromkeys(kind for case in ours for kind in case.kinds))
            seams = tuple(dict.fromkeys(at for case in ours for at in case.seams))
            found.append(Case(sort, kinds, seams=seams, schedules=1))
    return found


def run(case: Case, seconds: float, seed: int, console: Console) -> Outcome:
    """Run one case in a lane of its own, until something is found."""
    began = time.monotonic()
    module, _ = LANES[case.sort]
    what = ["--kinds", ",".join(case.kinds), "--seams", ",".join(case.seams), "--broken", case.broken]
    command = [
        sys.executable, "-m", module, "--seconds", str(seconds), "--seed", str(seed),
        "--schedules", str(case.schedules), *what,
    ]  # fmt: skip
    again = f"python -m {module} --schedules 3 --replay {{seed}} " + " ".join(
        f"{name} {value}" for name, value in zip(what[::2], what[1::2], strict=True) if value
    )
    lane = runner.Lane(case.name, command, again)
    tally = runner.run([lane], seconds, console, stop_at_first=True)
    return Outcome(case, tally, time.monotonic() - began)


def table(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print what came of every case."""
    shown = Table("", "build", "found by", "schedules", "seconds", box=None)
    for outcome in outcomes:
        case, tally = outcome.case, outcome.tally
        said = ", ".join(outcome.found) or ("nothing, as it must be" if outcome.ok else "nothing")
        if case.broken and not outcome.ok:
            said += f"; it must be {' or '.join(case.by)}"
        said = "; ".join([said, *tally.broken_lanes])
        mark = "[green]✓[/]" if outcome.ok else "[red]✗[/]"
        shown.add_row(mark, case.name, said, str(tally.schedules), f"{outcome.seconds:.0f}")
    console.print(shown)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
