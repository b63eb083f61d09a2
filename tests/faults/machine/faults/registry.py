"""Faults around the registry: devices registered under load, a follower that lags or stands still."""

import time
from random import Random

from tests.faults.machine.seams import Seam
from tests.faults.machine.world import World


def registry_grows(world: World, rng: Random) -> None:
    """Devices are enrolled and send at once: no worker may reject what the registry already holds."""
    for _ in range(rng.randint(1, 3)):
        world.traffic.enroll(1)
        time.sleep(rng.uniform(0.0, 0.3))


def registry_lags(world: World, rng: Random) -> None:
    """What ingest reads of the registry arrives late, while new devices send."""
    seams = [Seam("ingest.registry", n, "slow", rng.uniform(0.2, 1.0)) for n in range(5, 9)]
    world.respawn("ingest", seams=seams)
    for _ in range(2):
        time.sleep(rng.uniform(0.1, 0.5))
        world.traffic.enroll(1)


def registry_stops(world: World, rng: Random) -> None:
    """The registry cannot be read for a while: telemetry goes on by the last known view."""
    world.respawn("ingest", seams=[Seam("ingest.registry", 8, "outage", rng.uniform(0.5, 2.0))])
    time.sleep(rng.uniform(1.0, 2.5))
