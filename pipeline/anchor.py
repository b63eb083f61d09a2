"""ANCHOR: the epoch log's newest root goes to a ledger that no single party owns.

The story of one anchor:

    look       the newest published checkpoint, under the log's key, larger than what is anchored
    catch up   on the ledger's own record, recomputed: what stands there counts, whoever sent it
    cosign     ask the witnesses, up to a deadline; too few are told, or nothing is anchored, as is set
    prepare    sign one transaction and make it durable, before anybody has seen it
    submit     the same bytes, until a node has them or they expire
    confirm    only when the mirror shows the message and the running hash recomputes up to it
    announce   SUBMITTED and CONFIRMED to `log.anchors`, durable here first, until Kafka acknowledges

One message is in flight, and at most one is begun per anchor interval. Whatever is killed goes on where the
database says; a lost database is filled by catching up from the topic's first message.

A zombie does no harm. On this machine the database admits one process. One elsewhere catches up before it
prepares, so it repeats at most the message of a race; that names a root which the log signed anyway, and the
first message of a tree size counts.
"""

import time
from pathlib import Path

import structlog
from confluent_kafka import KafkaException

from anchors.errors import AnchorError, LedgerHistoryError, LedgerRefusedError, LedgerUnavailableError
from anchors.ledger import ConfirmationState, Ledger, LedgerMessage, SubmitOutcome, SubmitStatus
from pipeline import anchorrecords, metrics
from pipeline.anchorhealth import POLL_S, AnchorHealth
from pipeline.anchorrecords import AnchorPlace
from pipeline.anchorstore import AnchorStore, InFlight
from pipeline.announce import Announcer, FoundAnchors
from pipeline.cosign import Cosigner
from pipeline.epochlog import EpochLog, LogBehindError, LogConflictError
from pipeline.kafka import is_fatal
from pipeline.ledgerclock import LedgerClock
from pipeline.ledgerrecord import LedgerRecord
from pipeline.ledgers import LedgerAccess, known_topic, ledger_access
from pipeline.patience import LeavingError, Patience
from pipeline.settings import PipelineError, Settings
from pipeline.sqlitefile import DatabaseBusyError, DatabaseDamagedError, DatabaseError
from pipeline.stage import Health, StageState, Stop, running_stage, state_dir
from pipeline.trust import record_ledger
from processors.merkle.errors import MerkleError
from schemas.checkpoint import SignedCheckpoint
from schemas.errors import FormatError
from schemas.note import format_note
from schemas.trust import LedgerTrust

log = structlog.get_logger()

REOPEN_S = 2.0
"""Between two tries to open a database that the disk does not give: space may come back."""


def run(settings: Settings, slot: int) -> None:
    """Run the stage until it is asked to stop; raises UsageError where the settings name no ledger."""
    access = ledger_access(settings)
    with running_stage(settings, "anchor", slot) as (health, stop):
        anchor(settings, state_dir(settings, "anchor", slot), access, health, stop)


def anchor(settings: Settings, folder: Path, access: LedgerAccess, health: Health, stop: Stop) -> None:
    """Anchor until `stop`, with the database in `folder`; waits while it cannot be opened."""
    while not stop.requested:
        try:
            store = AnchorStore(folder / "anchor.sqlite")
        except DatabaseError as error:
            is_busy = isinstance(error, DatabaseBusyError)
            if not is_busy:
                log.error("the database cannot be opened", error=str(error))
            health.beat(StageState.STARTING, str(error))
            stop.wait(POLL_S if is_busy else REOPEN_S)
            continue
        worker = AnchorWorker(settings, access, store, health, stop)
        try:
            worker.run()
        except DatabaseDamagedError as error:
            log.error("the database is damaged and opened anew", error=str(error))
            stop.wait(POLL_S)
        finally:
            worker.close()
            store.close()


class AnchorWorker:
    """The stage's loop; all that must outlive it is in the store."""

    def __init__(
        self, settings: Settings, access: LedgerAccess, store: AnchorStore, health: Health, stop: Stop
    ) -> None:
        self._settings, self._access, self._store, self._stop = settings, access, store, stop
        self._log = EpochLog(settings)
        self._cosigner = Cosigner(settings, self._log, store.witness_sizes())
        self._announcer = Announcer(settings, store)
        self._clock = LedgerClock(settings.ledger_valid_s)
        self._says = AnchorHealth(settings, health, self._announcer, self._cosigner, self._clock)
        self._patience = Patience(self._says.beat, stop)
        self._record = LedgerRecord(store, self._log, access.payer, self._patience.call)
        self._found = FoundAnchors(settings, store, self._log, self._patience.call)
        self._ledger: Ledger | None = None
        self._place = AnchorPlace(access.kind, "", access.payer, access.mirror)
        self._begun_at: float | None = None
        self._submit_at = 0.0

    # ---- the story -------------------------------------------------------------------------------------

    def run(self) -> None:
        """Step until asked to stop; every failure is told, and tried again after a pause."""
        while not self._stop.requested:
            try:
                self._step(self._ledger or self._open_ledger())
                pause_s = POLL_S
            except LeavingError:
                return
            except DatabaseDamagedError:
                raise
            except (AnchorError, PipelineError, FormatError, MerkleError, KafkaException, OSError) as error:
                if isinstance(error, KafkaException) and is_fatal(error):
                    raise
                self._record.is_doubted |= isinstance(error, LedgerHistoryError)
                pause_s = self._says.tell(error)
            self._patience.rest(pause_s)

    def _step(self, ledger: Ledger) -> None:
        if self._record.is_doubted:
            self._record.step_back()
        flight = self._store.in_flight()
        if flight is not None:
            self._pursue(ledger, flight)
            return
        if not self._record.is_caught_up:
            self._record.catch_up(ledger)
        signed = self._log.published()
        if signed is None:
            self._says.well("nothing to anchor yet")
        elif self._is_news(signed) and self._is_due():
            self._record.catch_up(ledger)
            if self._is_news(signed):
                self._found.announce_before_the_next(self._place)
                self._begin(ledger, signed)
        else:
            self._found.announce(self._place)

    def _open_ledger(self) -> Ledger:
        """Find the topic that carries our anchors, or make one, and name it in the trust file."""
        topic = self._settings.ledger_topic or known_topic(
            self._settings, self._access.kind, self._store.topic()
        )
        if not topic:
            topic = self._patience.call(self._access.create_topic)
            log.info("ledger topic created", ledger=self._access.kind, topic=topic)
        ledger = self._access.open(topic)
        # A crash before this leaves a new topic that has no message and that nobody was told of: the next
        # start makes another, and the first stays empty for good.
        self._store.use_topic(self._access.kind, topic)
        # A crash here leaves the trust file without the topic until the next start, which writes it.
        record_ledger(self._settings, LedgerTrust(self._access.kind, topic, self._access.payer))
        self._place = AnchorPlace(self._access.kind, topic, self._access.payer, self._access.mirror)
        self._ledger = ledger
        return ledger

    def _is_news(self, signed: SignedCheckpoint) -> bool:
        """Tell whether the checkpoint says more than the ledger does; raises for a fork, and for less."""
        anchored, size = self._store.anchored(), signed.checkpoint.size
        if anchored is None:
            return size > 0
        if size == anchored.tree_size and signed.checkpoint.root != anchored.root:
            raise LogConflictError(f"another root than the published one is anchored for size {size}")
        if size < anchored.tree_size:
            # A log that is recomputed from its topic passes through here; one that went back stays here.
            raise LogBehindError(f"the published log has {size} leaves, {anchored.tree_size} are anchored")
        if size == anchored.tree_size:
            self._says.well(f"size {size} is anchored as message {anchored.sequence} of {self._place}")
        return size > anchored.tree_size

    def _is_due(self) -> bool:
        return self._begun_at is None or time.monotonic() - self._begun_at >= self._settings.anchor_interval_s

    def _begin(self, ledger: Ledger, signed: SignedCheckpoint) -> None:
        """Sign a transaction for this checkpoint and keep it."""
        anchored = self._store.anchored()
        if anchored is not None:
            self._log.check_extends(signed, anchored)
        signed = self._cosign(signed)
        message = anchorrecords.ledger_message(signed, anchored)
        now_ns = self._clock.now_ns(self._patience.call(ledger.complete_until_ns))
        # A crash before it is kept loses a transaction that nobody has seen.
        prepared = self._patience.call(ledger.prepare, message, now_ns)
        self._store.put_in_flight(prepared, format_note(signed.note))
        # A crash from here on goes on with these very bytes.
        self._begun_at, self._submit_at = time.monotonic(), 0.0

    def _cosign(self, signed: SignedCheckpoint) -> SignedCheckpoint:
        """Ask the witnesses; raises WitnessQuorumError for too few where a quorum is required."""
        try:
            return self._patience.call(self._cosigner.cosign, signed)
        finally:
            # A crash before this asks with an old size next time, and the witness answers with its own.
            self._store.put_witness_sizes(self._cosigner.known_sizes)

    def _pursue(self, ledger: Ledger, flight: InFlight) -> None:
        """Submit what is in flight until a node has it, and see what the public record says."""
        outcome: SubmitOutcome | None = None
        if time.monotonic() >= self._submit_at:
            outcome = self._submit(ledger, flight)
            flight = self._store.in_flight() or flight
        # Also when no node took it just now: an earlier attempt may have arrived, or the bytes have expired.
        confirmation = self._patience.call(ledger.confirm, flight.prepared, self._store.position())
        match confirmation.state:
            case ConfirmationState.CONFIRMED if confirmation.message is not None:
                self._confirm(ledger, flight, confirmation.message)
            case ConfirmationState.LAPSED:
                log.warning("an anchor expired unplaced", transaction_id=flight.prepared.transaction_id)
                self._give_up()
            case ConfirmationState.REFUSED:
                self._store.drop_in_flight()
                raise LedgerRefusedError("the anchor at consensus", confirmation.code or "unknown")
            case _:
                self._record.look(ledger, confirmation.verified_to)
                self._check_taken(ledger, flight, outcome)
                self._says.well("submitted, waiting for the mirror to show it")

    def _check_taken(self, ledger: Ledger, flight: InFlight, outcome: SubmitOutcome | None) -> None:
        """Raise for what keeps the nodes from taking what is in flight."""
        match outcome:
            case SubmitOutcome(SubmitStatus.RETRY, code):
                raise LedgerUnavailableError(f"no node takes the anchor: {code}")
            case SubmitOutcome(SubmitStatus.REJECTED, code):
                raise LedgerRefusedError("the anchor by a node", code)
            case SubmitOutcome(SubmitStatus.EARLY, code):
                complete_until_ns = self._patience.call(ledger.complete_until_ns)
                if flight.submitted or not self._clock.is_far_ahead(
                    flight.prepared.valid_start_ns, complete_until_ns
                ):
                    raise LedgerUnavailableError(f"no node takes the anchor yet: {code}")
                # No node took it. One that kept it, and placed it when its time has come, would say nothing
                # that its successor has not said.
                self._give_up()
                raise self._clock.refused_as_early(complete_until_ns)

    def _give_up(self) -> None:
        """Forget what is in flight; the next step begins with the newest root."""
        # A crash before this finds it again, as it is.
        self._store.drop_in_flight()
        self._record.is_caught_up, self._begun_at = False, None

    def _submit(self, ledger: Ledger, flight: InFlight) -> SubmitOutcome:
        outcome = self._patience.call(ledger.submit, flight.prepared)
        metrics.ANCHOR_ATTEMPTS.labels(outcome.status.value).inc()
        # A crash here submits the same bytes again, and the node says DUPLICATE.
        if outcome.status in (SubmitStatus.ACCEPTED, SubmitStatus.DUPLICATE) and not flight.submitted:
            signed = self._log.verify(flight.checkpoint)
            record = anchorrecords.submitted(signed, self._place, flight.prepared.transaction_id, _now_us())
            self._store.submitted(record)
            log.info("anchor submitted", tree_size=signed.checkpoint.size)
        if outcome.status in (SubmitStatus.ACCEPTED, SubmitStatus.DUPLICATE, SubmitStatus.EXPIRED):
            # A node may lose what it accepted. The network places a transaction once however often it comes.
            self._submit_at = time.monotonic() + self._settings.ledger_resubmit_s
        return outcome

    def _confirm(self, ledger: Ledger, flight: InFlight, message: LedgerMessage) -> None:
        """Keep what the ledger shows, and put out the claim that it is anchored."""
        messages = self._record.read_to(ledger, message.sequence)
        anchors = self._record.anchors_in(messages)
        signed, prepared = self._log.verify(flight.checkpoint), flight.prepared
        first = next((a for a in anchors if a.tree_size == signed.checkpoint.size), None)
        if first is None:
            raise LedgerHistoryError(f"message {message.sequence} was there, and a moment later was not")
        if first.root != signed.checkpoint.root:
            raise LogConflictError(
                f"message {first.sequence} anchors another root of {first.tree_size} leaves"
            )
        sent_id = prepared.transaction_id if first.sequence == message.sequence else ""
        records = [anchorrecords.confirmed(signed, self._place, sent_id, _now_us(), first)]
        if not flight.submitted:  # its node's answer was lost
            records.insert(
                0, anchorrecords.submitted(signed, self._place, prepared.transaction_id, _now_us())
            )
        # A crash before this confirms it again; one after it finds both records in the outbox.
        newest = anchorrecords.newest(self._store.anchored(), anchors)
        if newest is not None and newest != first:
            self._log.check_published(newest)
        self._store.confirmed(records, messages[-1].position, newest, first.tree_size)
        metrics.ANCHORED_SIZE.set(newest.tree_size if newest else 0)
        log.info("anchored", tree_size=first.tree_size, sequence=first.sequence, topic=self._place.topic)
        self._says.anchored()

    # ---- around it -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give what is on its way to Kafka a moment."""
        self._announcer.close()


def _now_us() -> int:
    return time.time_ns() // 1000
