"""What a power cut at each call may leave: looked at, and for some of it the stage goes on from there."""

import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random

from tests.faults.machine.ledger import Violation
from tests.faults.machine.syscalls.disk import Call, Disk, Image, Variant, cuts, read_trace, write_image
from tests.faults.machine.syscalls.outside import cut_outside
from tests.faults.machine.syscalls.server import RunServer
from tests.faults.machine.syscalls.shim import Action, Kind
from tests.faults.machine.syscalls.worlds import Job, Worlds


def cut_power(worlds: Worlds, resumed: int, rng: Random) -> None:
    """Before each call of an undisturbed run, in every variant; go on from so many of the images."""
    trace = worlds.folder / "trace"
    worlds.count(trace)
    calls = read_trace(trace)
    chosen = set(rng.sample(range(len(calls)), min(resumed, len(calls))))
    worlds.each(_jobs(worlds, calls, worlds.folder / "count", "", chosen, rng))


def cut_power_after_kill(worlds: Worlds, sample: int | None, rng: Random) -> None:
    """Killed between a renaming and its sync, begun anew, then the power cut: what did the second rely on?"""
    trace = worlds.folder / "trace"
    worlds.count(trace)
    calls = [call for call in read_trace(trace) if call.kind in set(Kind)]
    points = [
        number + 1
        for number, call in enumerate(calls)
        if call.kind == Kind.FSYNC and calls[number - 1].other == f"{call.path}/checkpoint"
    ]
    chosen = sorted(rng.sample(points, min(sample or len(points), len(points))))
    worlds.each(partial(_kill_then_cut, worlds, at) for at in chosen)


def _kill_then_cut(worlds: Worlds, point: int, server: RunServer) -> list[Violation]:
    world = worlds.fresh(f"{server.name}-{point}")
    trace = world / "trace"
    server.shim.arm(
        world / "data", outside=world / "data" / "run", action=Action.KILL, first=point, trace=trace
    )
    worlds.run(server, world)
    before = len(read_trace(trace))
    code = worlds.run(server, world)
    server.shim.disarm()
    worlds.tally.add_run(1, "killed")
    found = worlds.judge(world).ended(code, f"killed at call {point}")
    for number, disk in cuts(read_trace(trace), Disk()):
        if number <= before:
            continue
        worlds.tally.add_image()
        image = disk.image(Variant.STRICT, Random(0))
        what = f"{worlds.stage}, killed at call {point}, power cut before call {number}"
        found += worlds.judge(world, disk.marks).look_at_image(image, what)
    shutil.rmtree(world)
    return found


def _jobs(
    worlds: Worlds, calls: Sequence[Call], world: Path, what: str, chosen: set[int], rng: Random
) -> Iterator[Job]:
    for number, disk in cuts(calls, Disk()):
        for variant in Variant:
            image = disk.image(variant, rng)
            told = f"{worlds.stage}{what}, power cut before call {number}, {variant}"
            yield _job(worlds, image, list(disk.marks), world, told, number in chosen)


def _job(worlds: Worlds, image: Image, marks: list[str], world: Path, what: str, is_resumed: bool) -> Job:
    def job(server: RunServer) -> list[Violation]:
        worlds.tally.add_image()
        found = worlds.judge(world, marks).look_at_image(image, what)
        return found + (_resume(worlds, server, image, marks, world, what) if is_resumed else [])

    return job


def _resume(
    worlds: Worlds, server: RunServer, image: Image, marks: list[str], origin: Path, what: str
) -> list[Violation]:
    """Power is back: the stage goes on from the image, with the outside as it was at the cut."""
    world = worlds.fresh(f"{server.name}-resumed")
    write_image(image, origin / "data", world / "data")
    cut_outside(origin, world, marks)
    worlds.tally.add_resumed()
    judge = worlds.judge(world)
    code = worlds.run(server, world)
    found = judge.ended(code, f"{what}, gone on")
    shutil.rmtree(world)
    return found
