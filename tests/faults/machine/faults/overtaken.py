"""Zombies whose successor has not only taken their partitions but gone on, before they go on themselves.

The zombie's transactions may last much longer than its session, so that no time-out of its own ends it first:
only the rules of recovery and the fence of its offsets stand in its way.
"""

import shutil
import time
from random import Random

from pipeline import kafka, topics
from pipeline.statestore import Partition
from tests.faults.machine.faults.topics import JUDGED_DEADLINE_S, all_judged, stable_offsets
from tests.faults.machine.seams import Seam
from tests.faults.machine.world import SESSION_S, STARTS_WITHIN_S, World
from tests.faults.machine.zygote import Worker

LONG_TRANSACTION_S = 20.0
STRUCK_WITHIN_S = 15.0
TOLD_WITHIN_S = LONG_TRANSACTION_S - 6.0
GOES_ON_WITHIN_S = SESSION_S + 8.0
LOOK_AGAIN_S = 0.5
Ends = dict[Partition, int]


def zombie_ingest_overtaken(world: World, rng: Random) -> None:
    """Ingest stands still with silence to tell of; its successor tells of it, and then it goes on."""
    zombie = _shared(world, "ingest", Seam("ingest.tick.before_flush", 1, "pause"))
    world.end_traffic()
    world.burst("usual", 100)  # who never spoke is not silent
    world.wait_for(lambda: world.is_struck(zombie) or all_judged(world), JUDGED_DEADLINE_S)
    if not world.wait_struck(zombie, STRUCK_WITHIN_S):
        return
    time.sleep(SESSION_S / 2)  # for what its successor has to tell of its own partitions
    told = kafka.end_offsets(world.admin, _places(world, topics.FINDINGS))
    world.wait_for(
        lambda: _has_taken_all(world) and kafka.end_offsets(world.admin, list(told)) != told, TOLD_WITHIN_S
    )
    time.sleep(rng.uniform(0.2, 0.8))
    zombie.resume()
    time.sleep(rng.uniform(0.5, 1.0))


def zombie_ingest_holds_back(world: World, rng: Random) -> None:
    """Ingest stands still with a transaction open, and its successor restores in the face of that."""
    world.begin_traffic("usual", 150)
    zombie = _shared(world, "ingest", Seam("ingest.after_flush", rng.randint(2, 4), "pause"))
    if not world.wait_struck(zombie, STRUCK_WITHIN_S):
        return
    held = _held_back(world)
    # A right successor does not get that far.
    has_gone_on = world.wait_for(lambda: _have_grown(world, held), GOES_ON_WITHIN_S)
    world.hold("ingest", 1)
    world.kill("ingest", 1)
    if rng.random() < 0.5:
        shutil.rmtree(world.data_dir / "state" / "ingest" / "1" / "rocksdb", ignore_errors=True)
    held = _held_back(world)
    world.release("ingest", 1)
    if has_gone_on:
        world.wait_for(lambda: _have_grown(world, held), GOES_ON_WITHIN_S)
    time.sleep(rng.uniform(0.5, 1.0))
    zombie.resume()
    time.sleep(rng.uniform(0.3, 0.8))


def zombie_seal_overtaken(world: World, rng: Random) -> None:
    """Seal stands still with a checkpoint in its hand, its successor publishes more, and then it goes on."""
    world.begin_traffic("usual", 150)
    at = world.draw_seam(rng, ("seal.before_replace", "seal.after_sync", "seal.after_replace"))
    places = [*_places(world, topics.EVENTS), *_places(world, topics.REJECTED)]

    def have_grown(beyond: Ends) -> bool:
        return all(world.published_size(*place) > size for place, size in beyond.items())

    # From here on each publication is one of these, so that the zombie's is.
    world.wait_for(lambda: have_grown(dict.fromkeys(places, 0)), STARTS_WITHIN_S)
    zombie = _shared(world, "seal", Seam(at, rng.randint(1, 3), "pause"))
    if not world.wait_struck(zombie, STRUCK_WITHIN_S):
        return
    sizes = {place: world.published_size(*place) for place in places}
    world.wait_for(lambda: have_grown(sizes), TOLD_WITHIN_S)
    zombie.resume()
    time.sleep(rng.uniform(0.3, 0.8))


def _shared(world: World, stage: str, seam: Seam) -> Worker:
    """Let two workers share the partitions; the one that is to stand still is returned."""
    world.want(stage, 1)
    zombie = world.respawn(stage, seams=[seam], transaction_s=LONG_TRANSACTION_S)
    successor = world.worker(stage, 1)
    for each in (zombie, successor):
        if each is not None:
            world.wait_for(lambda each=each: world.is_struck(zombie) or world.runs(each), STARTS_WITHIN_S)  # type: ignore[misc]
    return zombie


def _has_taken_all(world: World) -> bool:
    worker, number = world.worker("ingest", 1), len(topics.RAW_TOPICS) * world.settings.partitions
    return worker is not None and world.says(worker).startswith(f"running: {number} partitions")


def _held_back(world: World) -> Ends:
    """Ends of the changelogs on which one transaction stays open."""
    places = [place for raw in topics.RAW_TOPICS for place in _places(world, topics.changelog_of(raw))]
    before = stable_offsets(world, places)
    time.sleep(LOOK_AGAIN_S)
    now, ends = stable_offsets(world, places), kafka.end_offsets(world.admin, places)
    return {place: ends[place] for place in places if before[place] == now[place] < ends[place]}


def _have_grown(world: World, ends: Ends) -> bool:
    now = kafka.end_offsets(world.admin, list(ends))
    return all(now[place] > end for place, end in ends.items())


def _places(world: World, topic: str) -> list[Partition]:
    return [(topic, number) for number in range(world.settings.partitions)]
