"""ROUTE: alerts become each party's own stream, gapless and exactly once.

The story of one step:

    consume    a batch of `alerts`
    decide     repeats are dropped by id; each party whose filter fits is told, under its next number
    write      in one transaction: `alerts.<party>`, the changelog of numbers and ids, the source offset
    commit     then state and changelog position into RocksDB, in one WriteBatch

Numbers and ids change only with the offset, so a kill, a rebalance or a commit in doubt leaves no gap and no
number twice; it is ingest's recovery that sees to it (pipeline/recovery.py). `alerts` has one partition:
one worker routes, a further slot stands by.
"""

import time
from collections.abc import Mapping

import structlog

from pipeline import kafka, metrics
from pipeline.changelogged import ChangelogWrites
from pipeline.outputs import Produce, source_header
from pipeline.parties import check_follows
from pipeline.partieswatch import PARTIES_REFUSED, PartiesWatch
from pipeline.partytopics import party_topic, party_topics
from pipeline.registry import RegistryFollower
from pipeline.settings import Settings
from pipeline.stage import Health, StageState, Stop, running_stage
from pipeline.statestore import Partition, StateStore
from pipeline.topics import ALERTS, apply
from pipeline.transaction import TransactionalProducer
from pipeline.transactional import CONSUME_WAIT_S, TransactionalSession
from pipeline.trust import load_trust, trust_path
from processors.model import RawRecord
from processors.route import Routed, Router, RouteState, Told

log = structlog.get_logger()

PARTITION: Partition = (ALERTS, 0)


def run(settings: Settings, slot: int) -> None:
    """Run one worker until it is asked to stop."""
    with running_stage(settings, "route", slot) as (health, stop):
        work(settings, slot, health, stop)


def work(settings: Settings, slot: int, health: Health, stop: Stop) -> None:
    """Run session after session."""
    RouteSession.work(settings, slot, health, stop)


class RouteSession(TransactionalSession):
    """One worker slot under one version of the parties file; a new version is a new session."""

    stage, topics = "route", (ALERTS,)

    def __init__(self, settings: Settings, slot: int, health: Health, store: StateStore) -> None:
        self._watch = PartiesWatch(settings)
        admin = kafka.admin(settings)
        apply(admin, settings, party_topics(self._watch.parties))
        super().__init__(settings, slot, health, store, admin)
        self._registry = RegistryFollower(settings, load_trust(trust_path(settings)))
        self._router = Router(self._watch.parties, self._attributes_of)
        self._state = RouteState()
        self._told = 0

    # ---- the story -------------------------------------------------------------------------------------

    def _is_over(self) -> bool:
        """Other parties are in force."""
        return self._watch.has_changed()

    def step(self) -> None:
        """Consume, decide, write, commit."""
        batches = self._member.consume(self._batch_size.next, CONSUME_WAIT_S)
        self._beat()
        if self._member.changed or self._producer is None:
            return
        batch = batches.get(PARTITION)
        if batch:
            started = time.monotonic()
            self._registry.poll()
            routed = self._router.process(batch, self._state)
            self._next_offsets[PARTITION] = batch[-1].offset + 1
            self._write(self._producer, routed)
            self._batch_size.learn(len(batch), time.monotonic() - started)
            self._health.progressed()

    def _write(self, producer: TransactionalProducer, routed: Routed) -> None:
        """Commit a batch: the parties' records, changelog and source offset in one transaction."""
        producer.begin()
        for each in routed.told:
            tell(producer.produce, each)
        writes = ChangelogWrites(producer, self._marks)
        writes.add(PARTITION, self._state.changes())
        producer.commit(self._member.membership, self._next_offsets, writes.note)
        self._marks = writes.marks
        writes.keep(self._store)
        self._state.committed()
        self._told += len(routed.told)
        _count(routed)

    def _recover(self) -> None:
        """Forget memory; bring producer, numbers and position to the last commit."""
        self._drop_producer()
        self._next_offsets = {}
        if PARTITION not in self._member.assigned:
            self._member.start_at({})
            return
        recovered = self._recovery.run(self._member)
        self._registry.catch_up(self._restoring)
        self._producer, self._next_offsets = recovered.producer, recovered.next_offsets
        self._marks = recovered.marks
        self._state = RouteState(self._store.items(PARTITION))
        # What this machine remembers of versions may be lost; what was routed by is not.
        check_follows(self._watch.parties, self._state.version, self._state.digest)
        self._state.enforce(self._watch.parties)
        log.info("recovered", parties=len(self._watch.parties.parties), seconds=recovered.seconds)

    # ---- around it -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Leave off; what was not committed is nobody's."""
        super().close()
        self._registry.close()

    def _attributes_of(self, device_id: str) -> Mapping[str, str]:
        subject = self._registry.table.subject(device_id)
        return subject.attributes if subject is not None else {}

    def _beat(self) -> None:
        if not self._is_at_work():
            return
        parties = self._watch.parties
        what = f"{len(parties.parties)} parties by version {parties.version}, {self._told} alerts told"
        if self._producer is None:
            what = "another worker routes"
        trouble = f"; {self._watch.trouble}" if self._watch.trouble else ""
        alarm = PARTIES_REFUSED if trouble else ""
        self._health.beat(StageState.RUNNING, what + trouble, alarm=alarm)


def tell(produce: Produce, told: Told) -> None:
    """Write an alert to a party's topic: its bytes and headers untouched, three headers more."""
    source: RawRecord = told.source
    produce(
        party_topic(told.party),
        value=source.value,
        key=source.key,
        partition=0,
        headers=[
            *source.headers,
            ("party", told.party.encode()),
            ("party.sequence", b"%d" % told.sequence),
            source_header(source),
        ],
    )


def _count(routed: Routed) -> None:
    for each in routed.told:
        metrics.ROUTED.labels(each.party).inc()
    metrics.ROUTE_REPEATS.inc(routed.repeats)
    metrics.ROUTE_SUPPRESSED.inc(routed.suppressed)
    metrics.ROUTE_NOBODYS.inc(routed.nobodys)
    metrics.ROUTE_UNREADABLE.inc(len(routed.unreadable))
    for record, why in routed.unreadable:
        log.warning("an alert cannot be routed", offset=record.offset, error=why)
