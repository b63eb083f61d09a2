"""Zombies: a worker stands still until another has its partitions, then it goes on as if nothing had been."""

import time
from random import Random

from tests.faults.machine.seams import INGEST_SEAMS, SEAL_SEAMS, TICK_SEAMS, Seam
from tests.faults.machine.world import SESSION_S, World


def zombie_ingest(world: World, rng: Random) -> None:
    """Ingest stands still somewhere for longer than its session."""
    _zombie(world, rng, "ingest", ())


def zombie_ingest_transaction(world: World, rng: Random) -> None:
    """Ingest stands still with a transaction open."""
    at = world.draw_seam(rng, INGEST_SEAMS[:3])
    _zombie(world, rng, "ingest", (Seam(at, rng.randint(1, 3), "pause"),))


def zombie_ingest_tick(world: World, rng: Random) -> None:
    """Ingest stands still in a transaction that time alone began: no record fences it, only its offsets."""
    world.end_traffic()  # so that time speaks: silence is told
    _zombie(world, rng, "ingest", (Seam(world.draw_seam(rng, TICK_SEAMS), rng.randint(1, 2), "pause"),))


def zombie_seal(world: World, rng: Random) -> None:
    """Seal stands still somewhere for longer than its session."""
    _zombie(world, rng, "seal", ())


def zombie_seal_at(world: World, rng: Random) -> None:
    """Seal stands still with tiles or a checkpoint in its hand."""
    _zombie(world, rng, "seal", (Seam(world.draw_seam(rng, SEAL_SEAMS), rng.randint(1, 4), "pause"),))


def _zombie(world: World, rng: Random, stage: str, seams: tuple[Seam, ...]) -> None:
    world.want(stage, 1)
    zombie = world.respawn(stage, seams=seams) if seams else world.worker(stage)
    if zombie is None:
        return
    if not seams:
        time.sleep(rng.uniform(0.1, 0.5))
    else:
        world.wait_struck(zombie)
    zombie.pause()
    paused_at = time.monotonic()
    if not world.is_sending:
        time.sleep(SESSION_S)
        world.begin_traffic("usual", 150)
    time.sleep(max(0.0, SESSION_S + rng.uniform(0.2, 0.5) - (time.monotonic() - paused_at)))
    successor = world.worker(stage, 1)
    if successor is not None and rng.random() < 0.6:
        # Whoever restores now meets the zombie's open transaction.
        world.kill(stage, 1)
    time.sleep(rng.uniform(0.2, 1.5))
    zombie.resume()
    time.sleep(rng.uniform(0.3, 0.8))
