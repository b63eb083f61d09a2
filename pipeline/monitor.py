"""MONITOR: the log, followed as a stranger would, and whoever runs it reported when it does not hold.

The story of a round, about twice a second:

    records      what the sealed topics hold by now, read as committed
    checkpoints  each log's, under the trust file's keys, proven to extend the last one that was proven
    leaves       the new ones, each beside its record
    claims       every other head of these logs that anybody was shown: epoch log, anchors, cosigned notes
    ledger       one chain, our payer, our roots, in time
    again        the newest leaves, and in a slow pass all of them, tiles and records read anew

It believes the trust file and its own memory. A round is one transaction of that memory, and findings leave
for `integrity.findings` only after it. What cannot be read (Kafka, the mirror, a web server) is told in its
health, and accuses nobody.
"""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import structlog
from confluent_kafka import KafkaException

from anchors.errors import AnchorError, LedgerUnavailableError
from pipeline import kafka, metrics
from pipeline.kafka import is_fatal
from pipeline.logsource import open_source
from pipeline.patience import LeavingError, Patience
from pipeline.settings import PipelineError, Settings
from pipeline.sqlitefile import DatabaseBusyError, DatabaseDamagedError
from pipeline.stage import Health, StageState, Stop, running_stage, state_dir
from pipeline.trust import load_trust, trust_path
from pipeline.watch.book import FindingBook
from pipeline.watch.claims import Claims
from pipeline.watch.cluster import ClusterFacts, read_facts
from pipeline.watch.context import Watch
from pipeline.watch.errand import Errand
from pipeline.watch.laterlooks import LaterLooks
from pipeline.watch.ledgerwatch import LedgerWatch
from pipeline.watch.memory import Memory
from pipeline.watch.tail import Tail
from pipeline.watch.topicwatch import EPOCH, TopicWatch
from pipeline.watch.witnesswatch import WitnessWatch
from processors.merkle.errors import MerkleError
from schemas.errors import FormatError
from schemas.trust import TrustRoot

log = structlog.get_logger()

UNEASY_INTERVAL_S = 0.1
FACTS_EVERY_S = 1.0
POLL_S = 0.02
PAUSE_S = 1.0


def run(settings: Settings, slot: int) -> None:
    """Run the stage until it is asked to stop."""
    with running_stage(settings, "monitor", slot) as (health, stop):
        work(settings, slot, health, stop)


def work(settings: Settings, slot: int, health: Health, stop: Stop) -> None:
    """Monitor until `stop`; waits while another process holds the memory."""
    path = state_dir(settings, "monitor", slot) / "monitor.sqlite"
    while not stop.requested:
        try:
            memory = Memory(path)
        except DatabaseBusyError as error:
            health.beat(StageState.STARTING, str(error))
            stop.wait(PAUSE_S)
            continue
        try:
            if memory.was_lost:
                log.warning(
                    "the monitor remembers nothing and believes what is published now", path=str(path)
                )
            _monitor(settings, memory, health, stop)
        finally:
            memory.close()


def _monitor(settings: Settings, memory: Memory, health: Health, stop: Stop) -> None:
    """Run one monitor after another on the same memory, each made anew after a failure."""
    while not stop.requested:
        monitor: Monitor | None = None
        try:
            monitor = Monitor(settings, memory, health, stop)
            monitor.run()
        except LeavingError:
            return
        except DatabaseDamagedError as error:
            log.error("the memory is damaged and opened anew", error=str(error))
            stop.wait(PAUSE_S)
            return
        except (KafkaException, PipelineError, OSError) as error:
            why = str(error) or type(error).__name__
            metrics.RECOVERIES.labels("monitor").inc()
            log.warning("the monitor begins anew", error=why)
            health.session_failed(why)
            health.beat(StageState.RESTORING)
            stop.wait(PAUSE_S)
        finally:
            if monitor is not None:
                monitor.close()


class Monitor:
    """The rounds; all that must outlive them is in the memory."""

    def __init__(self, settings: Settings, memory: Memory, health: Health, stop: Stop) -> None:
        self._settings, self._memory, self._health, self._stop = settings, memory, health, stop
        self._trust = _TrustFile(trust_path(settings))
        self._admin = kafka.admin(settings)
        self._facts: Errand[ClusterFacts] = Errand("cluster")
        self._facts_asked_s = -FACTS_EVERY_S
        self._troubles: dict[str, str] = {}
        self._patience = Patience(self._beat, stop)
        book = FindingBook(settings, memory)
        source = open_source(settings.monitor_log or str(settings.data_dir / "log"))
        self._watch = Watch(settings, memory, book, Tail(settings), source, self._trust.read())
        self._watch.now_s = time.monotonic()
        self._ledger = LedgerWatch(self._watch)
        self._claims = Claims(self._watch, self._ledger.anchored)
        self._topics = TopicWatch(self._watch, self._claims)
        self._witnesses = WitnessWatch(self._watch)
        self._later = LaterLooks(self._watch, self._admin)

    def run(self) -> None:
        """Round after round until asked to stop."""
        while not self._stop.requested:
            begun_s = time.monotonic()
            self._patience.call(self._round)
            self._watch.book.send()
            self._admin.check()
            self._measure()
            self._health.progressed()
            is_uneasy = any(shard.is_uneasy for shard in self._topics.shards.values())
            pause_s = UNEASY_INTERVAL_S if is_uneasy else self._settings.monitor_interval_s
            self._patience.rest(max(0.0, pause_s - (time.monotonic() - begun_s)))

    def _round(self) -> None:
        watch = self._watch
        watch.now_s, watch.now_us = time.monotonic(), time.time_ns() // 1000
        watch.trust = self._trust.read()
        watch.tail.poll(POLL_S, watch.now_s)
        self._note("records", watch.tail.trouble)
        with self._memory.round():
            self._part("cluster", self._look_at_cluster)
            self._part("topics", self._topics.check)
            for shard in list(self._topics.shards.values()):
                self._part(shard.origin, shard.follow)
            for shard in list(self._topics.shards.values()):
                self._part(shard.origin, lambda shard=shard: self._compare(shard.place))  # type: ignore[misc]
            self._part("claims", lambda: self._claims.judge(self._topics.by_origin))
            self._part("witnesses", self._look_at_epoch_log)
            self._part("mirror", self._look_at_ledger)
            self._part("later looks", self._look_again)

    # ---- parts of a round ------------------------------------------------------------------------------

    def _look_at_cluster(self) -> None:
        watch = self._watch
        if not self._facts.is_free:
            watch.facts = self._facts.collect() or watch.facts
        if self._facts.is_free and watch.now_s - self._facts_asked_s >= FACTS_EVERY_S:
            self._facts_asked_s = watch.now_s
            sealed_to = {place: s.known.next_offset for place, s in self._topics.shards.items()}
            self._facts.send(read_facts, self._admin, sealed_to)

    def _compare(self, place: tuple[str, int]) -> None:
        entries = self._topics.shards[place].compare()
        if place == EPOCH and entries:
            self._claims.take_epoch_entries(entries)

    def _look_at_epoch_log(self) -> None:
        epoch = self._topics.shards.get(EPOCH)
        if epoch is None:
            return
        self._ledger.grown(epoch.known.size)
        self._ledger.check_unanchored()
        self._witnesses.step(epoch, self._claims)

    def _look_at_ledger(self) -> None:
        self._ledger.step(self._claims)
        if self._ledger.trouble:
            raise LedgerUnavailableError(self._ledger.trouble)

    def _look_again(self) -> None:
        self._later.step(self._topics.shards)
        if self._later.trouble:
            raise kafka.KafkaReadError(self._later.trouble)

    # ---- around it -------------------------------------------------------------------------------------

    def _measure(self) -> None:
        """Say how far seal and anchor are behind, as a stranger sees it."""
        watch = self._watch
        ends = watch.facts.ends if watch.facts else {}
        behind: Counter[str] = Counter()
        for place in self._topics.shards:
            behind[place[0]] += watch.tail.behind(place, ends.get(place, 0))
        for topic, records in behind.items():
            metrics.LEAVES_BEHIND.labels(topic).set(records)
        waits_s = self._ledger.unanchored.waits_s(watch.now_s)
        metrics.UNANCHORED_SINCE.set(watch.now_us / 1e6 - waits_s if waits_s else 0)

    def close(self) -> None:
        """Let go of the clients."""
        self._watch.book.close()
        self._watch.tail.close()

    def _part(self, name: str, body: Callable[[], None]) -> None:
        """Do one part; what it cannot read stops no other."""
        try:
            body()
        except _UNREADABLE as error:
            if isinstance(error, KafkaException) and is_fatal(error):
                raise
            self._note(name, f"{type(error).__name__}: {error}")
        else:
            self._note(name, "")

    def _note(self, name: str, trouble: str) -> None:
        if trouble and name not in self._troubles:
            log.warning("cannot see", part=name, why=trouble)
        if trouble:
            self._troubles[name] = trouble
        elif self._troubles.pop(name, None) is not None:
            log.info("can see again", part=name)
        part = name if name in _PARTS else "logs"
        metrics.MONITOR_BLIND.labels(part).set(bool(trouble))

    def _beat(self) -> None:
        shards = self._topics.shards.values()
        if not self._watch.facts:
            state, detail = StageState.STARTING, "looking at the topics"
        else:
            leaves = sum(shard.known.checked_size for shard in shards)
            state, detail = StageState.RUNNING, f"{len(shards)} logs, {leaves} leaves hold"
        alarm = ""
        if self._watch.book.open_count:
            alarm = f"{self._watch.book.open_count} FINDINGS OPEN"
            state, detail = StageState.RUNNING, f"{alarm}; {detail}"
        troubles = self._troubles | ({"findings": t} if (t := self._watch.book.trouble) else {})
        if troubles:
            name, why = next(iter(troubles.items()))
            detail += f"; CANNOT SEE {name}: {why}"
        self._health.beat(state, detail, alarm=alarm)


_PARTS = frozenset({"cluster", "records", "topics", "claims", "witnesses", "mirror", "later looks"})
# What can be wrong with parties that do not answer, and whatever reading hostile bytes can raise: it must
# not stop the rest of a round.
_UNREADABLE = (
    KafkaException, PipelineError, AnchorError, OSError, FormatError, MerkleError,
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip


class _TrustFile:
    """The trust file, read again when it was replaced: a rotated key or a new ledger topic counts at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._trust: TrustRoot | None = None

    def read(self) -> TrustRoot:
        """Return what it says now; raises UsageError for one that cannot be read."""
        try:
            found = self._path.stat()
        except OSError:
            found = None
        stamp = (found.st_mtime_ns, found.st_ino) if found else None
        if self._trust is None or stamp != self._stamp:
            self._trust, self._stamp = load_trust(self._path), stamp
        return self._trust
