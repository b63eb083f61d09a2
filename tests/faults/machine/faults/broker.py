"""Faults of the one broker: killed, standing still for moments or past every time-out, silent at a commit."""

import time
from random import Random

from tests.faults.machine.seams import Seam
from tests.faults.machine.world import TRANSACTION_S, World


def pause_broker(world: World, rng: Random) -> None:
    """SIGSTOP of the broker for a moment."""
    world.pause_broker()
    time.sleep(rng.uniform(0.2, 1.2))
    world.resume_broker()


def pause_broker_past_timeouts(world: World, rng: Random) -> None:
    """SIGSTOP of the broker past the session, the transaction and the commit's deadline."""
    world.pause_broker()
    time.sleep(TRANSACTION_S * 1.2 + rng.uniform(0.5, 2.0))
    world.resume_broker()


def kill_broker(world: World, rng: Random) -> None:
    """SIGKILL of the broker; it comes back after a moment."""
    time.sleep(rng.uniform(0.1, 0.6))
    world.kill_broker()
    time.sleep(rng.uniform(0.0, 1.0))
    world.start_broker()


def commit_in_doubt(world: World, rng: Random) -> None:
    """The broker falls silent when the commit is on its way: neither side can know whether it arrived."""
    worker = world.respawn("ingest", seams=[Seam("ingest.after_offsets", rng.randint(1, 4), "pause")])
    if not (world.wait_struck(worker) and world.wait_for(lambda: worker.is_paused, 1.0)):
        return
    silent_first = rng.random() < 0.5
    if silent_first:
        world.pause_broker()
    worker.resume()
    # Otherwise the request leaves, and the answer may or may not come before the broker stands still.
    time.sleep(rng.uniform(0.0, 0.004) if not silent_first else 0.0)
    world.pause_broker()
    time.sleep(TRANSACTION_S * 1.2 + rng.uniform(0.2, 1.0))
    world.resume_broker()
