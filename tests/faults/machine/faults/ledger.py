"""Faults of the ledger, its mirror, the anchor worker and its database; and schedules of them.

`LEDGER_FAULTS` is the table. A fault begins when its function is called and lasts until `LedgerWorld.heal`,
so that several drawn for one schedule are there at once.
"""

import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

from tests.faults.machine.ledger import Violation
from tests.faults.machine.ledgers.seams import ANCHOR_SEAMS
from tests.faults.machine.ledgers.world import LONG_VALID_S, SHORT_VALID_S, LedgerWorld
from tests.faults.machine.seams import Seam

SETTLE_S = 25.0
DRAIN_DEADLINE_S = 10.0
ALARM_S = 8.0
MOST_FAULTS = 3
Inject = Callable[[LedgerWorld, Random], None]


def _node(mode: str, *, always: bool = False) -> Inject:
    def inject(world: LedgerWorld, rng: Random) -> None:
        world.nodes.begin(mode, 1.0 if always else rng.choice((0.5, 1.0)))

    return inject


def _mirror(mode: str, alarm: str = "") -> Inject:
    def inject(world: LedgerWorld, _rng: Random) -> None:
        world.mirror.begin(mode, world.ledger_topic)
        if alarm:
            _expect_alarm(world, alarm)

    return inject


def _expect_alarm(world: LedgerWorld, alarm: str) -> None:
    """A lie is told aloud while it lasts, where nothing else keeps the worker from hearing it."""
    is_alone = len(world.chosen) == 1
    until = time.monotonic() + ALARM_S
    while time.monotonic() < until:
        detail = world.workers.detail()
        if "NOT ANCHORING" in detail and alarm in detail:
            return
        if not is_alone and time.monotonic() > until - ALARM_S / 2:
            return
        time.sleep(0.05)
    if is_alone and world.mirror.hit:
        world.tell(
            "no_alarm", f"the mirror lied {world.mirror.hit} times, and it is said: {world.workers.detail()}"
        )


def ledger_restarts(world: LedgerWorld, rng: Random) -> None:
    """Nodes and mirror go away together, and come back."""
    world.ledger_down()
    time.sleep(rng.uniform(0.1, 1.0))
    world.ledger_up()


def transaction_expires(world: LedgerWorld, rng: Random) -> None:
    """Nodes accept and never place, until the transaction is no longer valid."""
    world.nodes.begin("loses_transaction")
    time.sleep(rng.uniform(1.5, 1.5 * SHORT_VALID_S))


def witnesses_away(world: LedgerWorld, rng: Random) -> None:
    """The quorum cannot be had."""
    world.witness_mode = rng.choice(("hangs", "errors", "down"))


def kill_anchor(world: LedgerWorld, rng: Random) -> None:
    """SIGKILL at random moments."""
    for _ in range(rng.randint(1, 4)):
        time.sleep(rng.uniform(0.02, 0.7))
        world.workers.kill()


def kill_anchor_at(world: LedgerWorld, rng: Random) -> None:
    """SIGKILL at a named step of an anchor's way."""
    worker = world.workers.respawn(seams=[Seam(rng.choice(ANCHOR_SEAMS), rng.randint(1, 2))])
    worker.ended.wait(2.5)


def pause_anchor_at(world: LedgerWorld, rng: Random) -> None:
    """SIGSTOP at a named step, and SIGCONT when the others have gone on."""
    worker = world.workers.respawn(seams=[Seam(rng.choice(ANCHOR_SEAMS), rng.randint(1, 2), "pause")])
    until = time.monotonic() + 2.5
    while time.monotonic() < until and not worker.is_paused:
        time.sleep(0.02)
    time.sleep(rng.uniform(0.2, 2.0))
    worker.resume()


def pause_anchor(world: LedgerWorld, rng: Random) -> None:
    """SIGSTOP and SIGCONT."""
    worker = world.workers.first
    if worker is not None:
        time.sleep(rng.uniform(0.0, 0.5))
        worker.pause()
        time.sleep(rng.uniform(0.2, 2.0))
        worker.resume()


def drain_anchor(world: LedgerWorld, rng: Random) -> None:
    """SIGTERM: it leaves in time, whoever lets it wait."""
    time.sleep(rng.uniform(0.0, 0.6))
    world.workers.drain(DRAIN_DEADLINE_S)


def clock_ahead(world: LedgerWorld, rng: Random) -> None:
    """The worker's clock is hours ahead."""
    world.workers.respawn(clock_step_s=rng.uniform(3600, 36 * 3600))
    time.sleep(rng.uniform(1.0, 2.0))


def clock_behind(world: LedgerWorld, rng: Random) -> None:
    """The worker's clock is hours behind."""
    world.workers.respawn(clock_step_s=-rng.uniform(3600, 36 * 3600))
    time.sleep(rng.uniform(1.0, 2.0))


def zombie_on_this_machine(world: LedgerWorld, rng: Random) -> None:
    """A paused worker holds the database, another one waits for it; then the first goes on, or dies."""
    first = world.workers.first
    if first is None:
        return
    first.pause()
    second = world.workers.start_beside()
    time.sleep(rng.uniform(0.3, 1.0))
    if rng.random() < 0.5:
        first.kill()
        time.sleep(rng.uniform(0.3, 1.0))
        second.kill()
    else:
        first.resume()
        time.sleep(rng.uniform(0.2, 0.6))
        second.kill()


def zombie_on_another_machine(world: LedgerWorld, rng: Random) -> None:
    """Another machine's worker anchors the same log, is paused for a while and comes back."""
    world.repeats += 1
    world.is_memory_lost = True  # it is killed in the end, with what it had not said yet
    other = world.workers.start_elsewhere()
    time.sleep(rng.uniform(0.3, 1.2))
    other.pause()
    time.sleep(rng.uniform(0.3, 1.0))
    other.resume()
    time.sleep(rng.uniform(0.1, 0.8))


# ---- its database ------------------------------------------------------------------------------------------


def lose_database(world: LedgerWorld, rng: Random) -> None:
    """The whole folder is deleted."""
    with _dead(world, rng):
        shutil.rmtree(world.workers.state, ignore_errors=True)


def roll_back_database(world: LedgerWorld, rng: Random) -> None:
    """An older copy comes back."""
    world.workers.kill(hold=True)
    copy = world.folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    if world.workers.state.exists():
        shutil.copytree(world.workers.state, copy)
    world.workers.start()
    time.sleep(rng.uniform(0.5, 1.5))
    with _dead(world, rng):
        if copy.exists():
            shutil.rmtree(world.workers.state, ignore_errors=True)
            shutil.copytree(copy, world.workers.state)


def truncate_database(world: LedgerWorld, rng: Random) -> None:
    """A file of it is cut off."""
    with _dead(world, rng):
        for path in _some_file(world.workers.state, rng):
            with path.open("r+b") as file:
                file.truncate(rng.randrange(path.stat().st_size + 1))


def corrupt_database(world: LedgerWorld, rng: Random) -> None:
    """Bits flip in it."""
    with _dead(world, rng):
        for path in _some_file(world.workers.state, rng):
            data = bytearray(path.read_bytes())
            for _ in range(rng.randint(1, 20) if data else 0):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            path.write_bytes(data)


class _dead:  # noqa: N801 - reads as a word
    """The worker is dead within the block, and what it knew may be gone."""

    def __init__(self, world: LedgerWorld, rng: Random) -> None:
        self._world, self._rng = world, rng

    def __enter__(self) -> None:
        time.sleep(self._rng.uniform(0.0, 0.5))
        self._world.workers.kill(hold=True)

    def __exit__(self, *_: object) -> None:
        # A message that is on its way and nowhere on record may be sent a second time.
        self._world.repeats += 1
        self._world.is_memory_lost = True
        self._world.workers.start()


def _some_file(folder: Path, rng: Random) -> Sequence[Path]:
    files = sorted(path for path in folder.glob("anchor.sqlite*") if "damaged" not in path.name)
    return rng.sample(files, 1) if files else []


LEDGER_FAULTS: dict[str, Inject] = {
    "node_busy": _node("busy"),
    "node_rejects": _node("rejects"),
    "node_throttles": _node("throttles"),
    "node_down": _node("down"),
    "node_hangs": _node("hangs"),
    "node_answers_late": _node("answers_late"),
    "node_places_late": _node("places_late"),
    "node_loses_request": _node("loses_request"),
    "node_loses_answer": _node("loses_answer"),
    "node_loses_transaction": _node("loses_transaction"),
    "node_talks_nonsense": _node("nonsense"),
    "transaction_expires": transaction_expires,
    "refused_at_consensus": _node("refused_at_consensus"),
    "ledger_restarts": ledger_restarts,
    "mirror_lags": _mirror("lags"),
    "mirror_gap": _mirror("gap"),
    "mirror_old_pages": _mirror("old"),
    "mirror_errors": _mirror("errors"),
    "mirror_truncated": _mirror("truncated"),
    "mirror_down": _mirror("down"),
    "mirror_hangs": _mirror("hangs"),
    "mirror_wrong_hash": _mirror("wrong_hash", "does not recompute"),
    "mirror_another_root": _mirror("another_root", "no extension"),
    "mirror_foreign_message": _mirror("foreign"),
    "witnesses_away": witnesses_away,
    "kill_anchor": kill_anchor,
    "kill_anchor_at": kill_anchor_at,
    "pause_anchor": pause_anchor,
    "pause_anchor_at": pause_anchor_at,
    "drain_anchor": drain_anchor,
    "anchor_clock_ahead": clock_ahead,
    "anchor_clock_behind": clock_behind,
    "zombie_anchor": zombie_on_this_machine,
    "zombie_anchor_elsewhere": zombie_on_another_machine,
    "lose_anchor_database": lose_database,
    "roll_back_anchor_database": roll_back_database,
    "truncate_anchor_database": truncate_database,
    "corrupt_anchor_database": corrupt_database,
}

_HIDES = {"mirror_gap", "mirror_old_pages", "mirror_foreign_message", "mirror_another_root"}
"""Mirrors that leave out what they say is complete: bytes that expire meanwhile would be believed lost."""


def draw(rng: Random) -> list[str]:
    """Draw one to three kinds of fault; at most one of the nodes and one of the mirror."""
    drawn: list[str] = []
    for kind in rng.sample(list(LEDGER_FAULTS), rng.randint(1, MOST_FAULTS)):
        family = kind.partition("_")[0]
        if family not in ("node", "mirror") or not any(each.startswith(family) for each in drawn):
            drawn.append(kind)
    return drawn


def schedules(seed: int) -> Iterator[int]:
    """Seeds of one schedule after another, from one seed."""
    rng = random.Random(seed)
    while True:
        yield rng.getrandbits(32)


def run_ledger_schedule(world: LedgerWorld, rng: Random, kinds: Sequence[str] = ()) -> list[Violation]:
    """Run one schedule, with the given kinds of fault instead of drawn ones where there are any."""
    drawn = draw(rng)
    world.chosen = list(kinds) or drawn
    is_short = "transaction_expires" in world.chosen or rng.random() < 0.3
    valid_s = SHORT_VALID_S if is_short and not _HIDES & set(world.chosen) else LONG_VALID_S
    world.workers.drain(DRAIN_DEADLINE_S, hold=True)
    world.workers.start(ledger_valid_s=valid_s, witness_required=rng.random() < 0.3)
    world.begin_growth()
    time.sleep(rng.uniform(0.0, 0.5))
    for kind in world.chosen:
        world.count(kind)
        LEDGER_FAULTS[kind](world, rng)
        time.sleep(rng.uniform(0.1, 0.5))
    time.sleep(rng.uniform(0.3, 1.2))
    world.end_growth()
    world.heal()
    world.settle(SETTLE_S)
    return world.judge()
