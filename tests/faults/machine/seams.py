"""Named points on a stage's way, at which a schedule can kill, pause, slow or fail the very process.

The product has no hooks for this. In a freshly forked worker, before its stage runs, `install` wraps the
public objects that the stage goes through: its producer, its stores, the sync of its tiles.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from tests.faults.machine.ledgers.seams import ANCHOR_SEAMS, wrap_anchor

REGISTRY_SEAM = "ingest.registry"
"""Where ingest reads the registry."""
INGEST_SEAMS = (
    "ingest.before_flush",
    "ingest.after_flush",
    "ingest.after_offsets",
    "ingest.after_commit",
    "ingest.after_store",
)
TICK_SEAMS = ("ingest.tick.before_flush", "ingest.tick.after_flush", "ingest.tick.after_offsets")
"""In a transaction that only the passing of time began."""
SEAL_SEAMS = (
    "seal.after_append",
    "seal.after_stage",
    "seal.after_sync",
    "seal.before_replace",
    "seal.after_replace",
    "seal.before_record",
    "seal.after_record",
)
SEAMS = frozenset({REGISTRY_SEAM, *INGEST_SEAMS, *TICK_SEAMS, *SEAL_SEAMS, *ANCHOR_SEAMS})


@dataclass(frozen=True, slots=True)
class Seam:
    """Do `action` at the `nth` time that the worker comes past `at`."""

    at: str
    nth: int = 1
    action: str = "kill"
    """`kill`: SIGKILL; `pause`: SIGSTOP; `slow`: sleep `seconds`; `fail`: a retriable error of the client;
    `outage`: fail every time for `seconds` from here on."""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a name that nobody comes past: a fault that never strikes looks like a clean run."""
        if self.at not in SEAMS:
            raise ValueError(f"no seam {self.at!r}")

    def to_json(self) -> dict[str, Any]:
        """A form for the way to the zygote."""
        return asdict(self)


class Seams:
    """Counts who comes past, in one process."""

    def __init__(self, wanted: Sequence[Seam]) -> None:
        self._wanted = wanted
        self._passed: Counter[str] = Counter()
        self._out_until: dict[str, float] = {}
        self.in_tick = False
        """The transaction under way was begun by time alone."""

    def passing(self, at: str) -> None:
        """Act where somebody asked for it."""
        self._passed[at] += 1
        for seam in self._wanted:
            if seam.at == at and seam.nth == self._passed[at]:
                tell_struck(seam)
                if seam.action == "outage":
                    self._out_until[at] = time.monotonic() + seam.seconds
                else:
                    _act(seam)
        if time.monotonic() < self._out_until.get(at, 0.0):
            _act(Seam(at, action="fail"))


def tell_struck(seam: Seam) -> None:
    """Say in the worker's log that it has come to a point at which it is struck."""
    os.write(2, f"{struck_by(os.getpid())} {seam.action} at {seam.at}\n".encode())


def struck_by(pid: int) -> str:
    """How such a line begins."""
    return f"seam {pid}:"


def _act(seam: Seam) -> None:
    match seam.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "pause":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "slow":
            time.sleep(seam.seconds)
        case "fail":
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"made to fail at {seam.at}"))
        case _:
            raise ValueError(f"no action {seam.action!r}")


def install(stage: str, wanted: Sequence[Seam]) -> None:
    """Wrap what the stage goes through; nothing is wrapped where nothing is wanted."""
    if not wanted:
        return
    seams = Seams(wanted)
    if stage == "ingest":
        _wrap_ingest(seams)
    elif stage == "seal":
        _wrap_seal(seams)
    elif stage == "anchor":
        wrap_anchor(seams.passing)
    _wrap_producers(stage, seams)


class _SeamedProducer:
    """A producer that comes past seams; everything else is the real one's."""

    def __init__(self, real: Any, stage: str, seams: Seams) -> None:
        self._real, self._stage, self._seams = real, stage, seams

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def _pass(self, at: str) -> None:
        self._seams.passing(f"{self._stage}.{at}")
        if self._seams.in_tick:
            self._seams.passing(f"{self._stage}.tick.{at}")

    def flush(self, *arguments: Any) -> Any:
        what = "flush" if self._stage == "ingest" else "record"
        self._pass(f"before_{what}")
        left = self._real.flush(*arguments)
        self._pass(f"after_{what}")
        return left

    def send_offsets_to_transaction(self, *arguments: Any) -> None:
        self._real.send_offsets_to_transaction(*arguments)
        self._pass("after_offsets")

    def commit_transaction(self, *arguments: Any) -> None:
        self._real.commit_transaction(*arguments)
        self._pass("after_commit")


def _wrap_producers(stage: str, seams: Seams) -> None:
    from pipeline import kafka

    real = kafka.producer

    def producer(settings: Any, **overrides: Any) -> Any:
        return _SeamedProducer(real(settings, **overrides), stage, seams)

    kafka.producer = producer


def _wrap_ingest(seams: Seams) -> None:
    from pipeline import following as module
    from pipeline.ingest import IngestSession
    from pipeline.registry import RegistryFollower

    _before(RegistryFollower, "_take", lambda: seams.passing(REGISTRY_SEAM))
    _before(RegistryFollower, "_high_watermark", lambda: seams.passing(REGISTRY_SEAM))
    following: Any = module
    ask_ends = following.ask_ends

    def seamed_ask(client: Any, partitions: Any, *more: Any, **named: Any) -> Any:
        try:
            seams.passing(REGISTRY_SEAM)
        except KafkaException as error:  # as a broker that does not answer
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return dict.fromkeys(partitions, failed)
        return ask_ends(client, partitions, *more, **named)

    following.ask_ends = seamed_ask
    write, settle = IngestSession._write, IngestSession._settle

    def seamed_write(self: Any, producer: Any, outcomes: Any, began_at: float) -> None:
        seams.in_tick = not any(o.accepted or o.rejected for o in outcomes.values())
        write(self, producer, outcomes, began_at)

    def seamed_settle(self: Any) -> None:
        is_under_way = self._written is not None
        settle(self)
        if is_under_way:
            seams.in_tick = False
            seams.passing("ingest.after_store")

    IngestSession._write = seamed_write  # type: ignore[method-assign]
    IngestSession._settle = seamed_settle  # type: ignore[method-assign]


def _wrap_seal(seams: Seams) -> None:
    from pipeline import seal
    from pipeline.shard import Shard
    from pipeline.tilestore import LocalTileStore

    _after(Shard, "append", lambda: seams.passing("seal.after_append"))
    _after(Shard, "stage", lambda: seams.passing("seal.after_stage"))
    _after(LocalTileStore, "compare_and_set_checkpoint", lambda: seams.passing("seal.after_replace"))
    _before(LocalTileStore, "compare_and_set_checkpoint", lambda: seams.passing("seal.before_replace"))
    _after(seal, "sync_stores", lambda: seams.passing("seal.after_sync"))


def _after(owner: Any, name: str, then: Callable[[], None]) -> None:
    real = getattr(owner, name)

    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        found = real(*arguments, **keywords)
        then()
        return found

    setattr(owner, name, wrapped)


def _before(owner: Any, name: str, first: Callable[[], None]) -> None:
    real = getattr(owner, name)

    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        first()
        return real(*arguments, **keywords)

    setattr(owner, name, wrapped)
