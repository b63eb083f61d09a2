"""Faults of single processes: killed, stopped for a while, told to leave, joined by another, wrong clocks."""

import time
from random import Random

from tests.faults.machine.seams import INGEST_SEAMS, SEAL_SEAMS, TICK_SEAMS, Seam
from tests.faults.machine.world import SESSION_S, World

DRAIN_DEADLINE_S = 10.0


def kill_ingest(world: World, rng: Random) -> None:
    """SIGKILL of ingest at a random moment, up to three times in a row."""
    for _ in range(rng.randint(1, 3)):
        time.sleep(rng.uniform(0.05, 0.6))
        world.kill("ingest")


def kill_seal(world: World, rng: Random) -> None:
    """SIGKILL of seal at a random moment, up to three times in a row."""
    for _ in range(rng.randint(1, 3)):
        time.sleep(rng.uniform(0.05, 0.6))
        world.kill("seal")


def kill_everything(world: World, rng: Random) -> None:
    """SIGKILL of both stages and the broker at once: the power of a rack."""
    time.sleep(rng.uniform(0.1, 0.8))
    world.kill_broker()
    world.kill("ingest")
    world.kill("seal")
    world.start_broker()


def kill_ingest_at(world: World, rng: Random) -> None:
    """SIGKILL at a named point of ingest's transaction."""
    at = world.draw_seam(rng, INGEST_SEAMS + TICK_SEAMS)
    worker = world.respawn("ingest", seams=[Seam(at, rng.randint(1, 4))])
    if world.wait_struck(worker):
        worker.ended.wait(5.0)
    world.watcher.look()


def kill_seal_at(world: World, rng: Random) -> None:
    """SIGKILL at a named point of seal's publication."""
    at = world.draw_seam(rng, SEAL_SEAMS)
    worker = world.respawn("seal", seams=[Seam(at, rng.randint(1, 6))])
    if world.wait_struck(worker):
        worker.ended.wait(5.0)
    world.watcher.look()


def fail_ingest_at(world: World, rng: Random) -> None:
    """A call of the client fails in the middle of a transaction."""
    points = [world.draw_seam(rng, INGEST_SEAMS[:4]) for _ in range(3)]
    seams = [Seam(at, rng.randint(1, 6), "fail") for at in points]
    world.wait_struck(world.respawn("ingest", seams=seams))
    time.sleep(rng.uniform(0.5, 1.5))


def pause_ingest(world: World, rng: Random) -> None:
    """SIGSTOP and SIGCONT, shorter than the session: nobody else takes over."""
    _pause(world, "ingest", rng.uniform(0.1, SESSION_S * 0.8))


def pause_seal(world: World, rng: Random) -> None:
    """SIGSTOP and SIGCONT, shorter than the session."""
    _pause(world, "seal", rng.uniform(0.1, SESSION_S * 0.8))


def _pause(world: World, stage: str, seconds: float) -> None:
    worker = world.worker(stage)
    if worker is not None:
        worker.pause()
        time.sleep(seconds)
        worker.resume()


def rebalance_ingest(world: World, rng: Random) -> None:
    """A second worker joins, leaves and is killed, again and again."""
    _rebalance(world, rng, "ingest")


def rebalance_seal(world: World, rng: Random) -> None:
    """A second sealer joins, leaves and is killed, again and again."""
    _rebalance(world, rng, "seal")


def _rebalance(world: World, rng: Random, stage: str) -> None:
    for _ in range(rng.randint(1, 3)):
        world.want(stage, 1)
        time.sleep(rng.uniform(0.1, 0.8))
        match rng.choice(("kill other", "kill first", "leave", "leave first")):
            case "kill other":
                world.kill(stage, 1)
            case "kill first":
                world.kill(stage, 0)
            case "leave":
                _leave(world, stage, 1)
            case _:
                _leave(world, stage, 0)
        time.sleep(rng.uniform(0.0, 0.4))


def drain(world: World, rng: Random) -> None:
    """SIGTERM under load: both stages leave by themselves and come back."""
    time.sleep(rng.uniform(0.1, 0.5))
    for stage in rng.sample(("ingest", "seal"), 2):
        _leave(world, stage, 0)


def _leave(world: World, stage: str, slot: int) -> None:
    worker = world.worker(stage, slot)
    if worker is None:
        return
    try:
        code = worker.terminate(DRAIN_DEADLINE_S)
    except TimeoutError as error:
        world.tell("drain", str(error))
        worker.kill()
    else:
        if code not in (0, -9):
            world.tell("drain", f"{stage} {slot} left with code {code} after SIGTERM")


def clock_step(world: World, rng: Random) -> None:
    """A stage's wall clock is wrong by hours."""
    stage = rng.choice(("ingest", "seal"))
    world.respawn(stage, clock_step_s=rng.choice((-1, 1)) * rng.uniform(3600, 36 * 3600))
    time.sleep(rng.uniform(0.5, 1.5))
