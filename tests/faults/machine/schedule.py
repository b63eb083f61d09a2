"""One schedule: known traffic, faults drawn from a seed, a settled end, and the oracle's word."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from pipeline.local.errors import BrokerFailedError
from tests.faults.machine.faults import FAULTS
from tests.faults.machine.ledger import Violation
from tests.faults.machine.world import World

SETTLE_S = 120.0
"""Above the product's longest wait: a watchdog's minute, and a recovery behind it (docs/operations.md)."""
MOST_FAULTS = 3
TRAFFIC = {"usual": 8.0, "flood_replays": 1.0, "flood_bad_signatures": 1.0, "flood_record_size_limit": 0.7}
PROBES = 25
"""Replays and equivocations after the faults: they tell whether memory is whole."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one schedule did and what it found."""

    seed: int
    kinds: tuple[str, ...]
    records: int
    seconds: float
    violations: tuple[Violation, ...] = ()
    void: tuple[Violation, ...] = ()
    """Found in a world whose broker broke its own log, see `World.has_broker_fault`."""

    def to_json(self) -> dict[str, Any]:
        """As one line of a lane's output."""
        return asdict(self)


def draw(rng: Random) -> list[str]:
    """Draw one to three kinds of fault; one that ends the world stands last."""
    names = list(FAULTS)
    drawn = rng.choices(names, [FAULTS[name].weight for name in names], k=rng.randint(1, MOST_FAULTS))
    endings = [name for name in drawn if FAULTS[name].ends_world]
    return [name for name in drawn if name not in endings] + endings[:1]


def run_schedule(world: World, seed: int, kinds: Sequence[str] = ()) -> Result:
    """Run the schedule of a seed, with the given kinds of fault instead of drawn ones where there are any."""
    began = time.monotonic()
    rng = Random(seed)
    drawn = draw(rng)
    chosen = list(kinds) or drawn
    mix = rng.choices(list(TRAFFIC), list(TRAFFIC.values()))[0]
    world.traffic.rng = Random(seed + 1)
    try:
        _play(world, rng, mix, chosen)
        records, found = len(world.sent), tuple(world.judge())
    except BrokerFailedError as error:
        records, found = len(world.sent), (Violation("stalled", str(error)),)
    seconds = time.monotonic() - began
    if found and world.has_broker_fault:
        return Result(seed, tuple(chosen), records, seconds, void=found)
    return Result(seed, tuple(chosen), records, seconds, found)


def _play(world: World, rng: Random, mix: str, kinds: Sequence[str]) -> None:
    """Let traffic and faults come, take every fault back, and wait until all is judged and sealed."""
    world.begin_traffic(mix, rng.uniform(80, 300))
    time.sleep(rng.uniform(0.1, 0.4))
    for kind in kinds:
        world.count(kind)
        FAULTS[kind].inject(world, rng)
    if mix != "usual":
        world.count(mix)
    world.end_traffic()
    world.heal()
    world.burst("probe", PROBES)
    world.settle(SETTLE_S)
