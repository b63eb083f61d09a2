"""Every durable call of a stage once: killed at it, refused it, or given half of it; then it goes on.

A counting run enumerates the calls of a small workload that is the same in every run. Then for each number n
the stage runs in a fresh world up to its n-th call, is looked at before anybody repairs anything, and runs
on without a fault to the right end.
"""

import errno
import shutil
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from tests.faults.machine.ledger import Violation
from tests.faults.machine.syscalls.disk import Disk, Variant, read_trace
from tests.faults.machine.syscalls.outside import MARK_OUTSIDE
from tests.faults.machine.syscalls.server import RunServer
from tests.faults.machine.syscalls.shim import ALL_KINDS, SYNCS, TAKES_ROOM, WRITES, Action, Kind
from tests.faults.machine.syscalls.worlds import Worlds

KILLED, HUNG = -signal.SIGKILL, -signal.SIGABRT


@dataclass(frozen=True, slots=True)
class Blow:
    """What happens at the chosen call."""

    action: Action
    kinds: int = ALL_KINDS
    error: int = 0
    calls: int = 1
    """So many in a row."""


BLOWS = {
    "kill": Blow(Action.KILL),
    "torn": Blow(Action.TORN, WRITES),
    "eio": Blow(Action.FAIL, error=errno.EIO),
    "enospc": Blow(Action.FAIL, TAKES_ROOM | SYNCS | 1 << Kind.RENAME, errno.ENOSPC),
    "full": Blow(Action.FAIL, TAKES_ROOM, errno.ENOSPC, calls=8),
    "short": Blow(Action.SHORT, WRITES),
}


def strike(worlds: Worlds, blow_name: str, sample: int | None, rng: Random) -> None:
    """Let the blow fall at each call, or at a sample of them."""
    blow = BLOWS[blow_name]
    counts = worlds.count()
    points = range(1, 1 + sum(number for kind, number in counts.items() if blow.kinds >> kind & 1))
    chosen = sorted(rng.sample(points, min(sample or len(points), len(points))))
    worlds.each(partial(_strike_at, worlds, blow_name, at) for at in chosen)


def _strike_at(worlds: Worlds, blow_name: str, point: int, server: RunServer) -> list[Violation]:
    blow, what = BLOWS[blow_name], f"{worlds.stage}, {blow_name} at call {point}"
    world = worlds.fresh(f"{server.name}-{point}")
    trace = world / "trace" if blow.action is Action.FAIL else None
    server.shim.arm(
        world / "data",
        outside=world / "data" / "run",
        action=blow.action,
        kinds=blow.kinds,
        first=point,
        last=point + blow.calls - 1,
        error=blow.error,
        trace=trace,
    )
    code = worlds.run(server, world)
    struck = server.shim.acted
    if trace is None:
        server.shim.disarm()
    worlds.tally.add_run(struck, "killed" if code == KILLED else "went on" if code == 0 else "ended")
    judge = worlds.judge(world)
    found = judge.look(f"{what}, before the restart")
    if blow.action in (Action.KILL, Action.TORN) and struck and code != KILLED:
        found.append(Violation("machine", f"{what}: it was not killed but ended with {code}"))
    if code == HUNG:
        found.append(Violation("stalled", f"{what}: it did not go on by itself"))
    for _ in range(blow.calls):
        if code != 0:  # as its supervisor would
            code = worlds.run(server, world)
    server.shim.disarm()
    if trace is not None and worlds.stage == "seal":
        found += _look_at_claims(worlds, world, trace, what)
    found += judge.ended(code, what)
    shutil.rmtree(world)
    return found


def _look_at_claims(worlds: Worlds, world: Path, trace: Path, what: str) -> list[Violation]:
    """Whatever was told to others after a call failed: would it outlive a power cut?"""
    found: list[Violation] = []
    disk, has_failed = Disk(), False
    for call in read_trace(trace):
        disk.apply(call)
        has_failed |= call.result < 0
        if has_failed and call.path.startswith(MARK_OUTSIDE):
            worlds.tally.add_image()
            image = disk.image(Variant.STRICT, Random(0))
            found += worlds.judge(world, disk.marks).look_at_image(image, f"{what}, then a power cut")
    return found
