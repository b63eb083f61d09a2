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
from anchors.hcs27 import build_topic_memo
from anchors.ledger import (
    ChainPosition,
    ConfirmationState,
    Ledger,
    LedgerMessage,
    SubmitOutcome,
    SubmitStatus,
)
from pipeline import anchorrecords, metrics
from pipeline.anchorrecords import Anchored, AnchorPlace
from pipeline.anchorstore import AnchorStore, InFlight
from pipeline.announce import Announcer, find_note
from pipeline.cosign import Cosigner
from pipeline.epochlog import EpochLog, LogConflictError
from pipeline.kafka import is_fatal
from pipeline.ledgers import LedgerAccess, known_topic, ledger_access
from pipeline.patience import LeavingError, Patience, Trouble
from pipeline.settings import PipelineError, Settings
from pipeline.sqlitefile import DatabaseBusyError, DatabaseError
from pipeline.stage import Health, StageState, Stop, running_stage, state_dir
from pipeline.trust import record_ledger
from processors.merkle.errors import MerkleError
from schemas.checkpoint import SignedCheckpoint
from schemas.errors import FormatError
from schemas.note import format_note
from schemas.trust import LedgerTrust

log = structlog.get_logger()

POLL_S = 0.25
RESUBMIT_AFTER_S = 15.0
"""A node may lose what it accepted. The network places a transaction once however often it comes."""
HISTORY_CHUNK = 1000
TOPIC_TTL_S = 60
"""How long a reader of the topic may rely on what it read; a new root comes every interval."""


def run(settings: Settings, slot: int) -> None:
    """Run the stage until it is asked to stop; raises UsageError where the settings name no ledger."""
    access = ledger_access(settings)
    with running_stage(settings, "anchor", slot) as (health, stop):
        anchor(settings, state_dir(settings, "anchor", slot), access, health, stop)


def anchor(settings: Settings, folder: Path, access: LedgerAccess, health: Health, stop: Stop) -> None:
    """Anchor until `stop`, with the database in `folder`; waits while another process holds that."""
    while not stop.requested:
        try:
            store = AnchorStore(folder / "anchor.sqlite")
        except DatabaseBusyError as error:
            health.beat(StageState.STARTING, str(error))
            stop.wait(POLL_S)
            continue
        worker = AnchorWorker(settings, access, store, health, stop)
        try:
            worker.run()
        finally:
            worker.close()
            store.close()


class AnchorWorker:
    """The stage's loop; all that must outlive it is in the store."""

    def __init__(
        self, settings: Settings, access: LedgerAccess, store: AnchorStore, health: Health, stop: Stop
    ) -> None:
        self._settings, self._access, self._store = settings, access, store
        self._health, self._stop = health, stop
        self._log = EpochLog(settings)
        self._cosigner = Cosigner(settings, self._log, store.witness_sizes())
        self._announcer = Announcer(settings, store)
        self._patience = Patience(self._beat, stop)
        self._trouble = Trouble()
        self._state, self._detail = StageState.STARTING, "opening the ledger"
        self._ledger: Ledger | None = None
        self._place = AnchorPlace(access.kind, "", access.payer, access.mirror)
        self._caught_up = False
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
            except (AnchorError, PipelineError, FormatError, MerkleError, KafkaException, OSError) as error:
                if isinstance(error, KafkaException) and is_fatal(error):
                    raise
                self._tell(error)
                pause_s = self._trouble.pause_s
            self._patience.rest(pause_s)

    def _step(self, ledger: Ledger) -> None:
        flight = self._store.in_flight()
        if flight is not None:
            self._pursue(ledger, flight)
            return
        if not self._caught_up:
            self._catch_up(ledger)
        signed = self._log.published()
        if signed is None:
            self._well("nothing to anchor yet")
        elif self._is_news(signed) and self._is_due():
            self._catch_up(ledger)
            if self._is_news(signed):
                self._begin(ledger, signed)
        else:
            self._announce_found()

    def _open_ledger(self) -> Ledger:
        """Find the topic that carries our anchors, or make one, and name it in the trust file."""
        topic = self._settings.ledger_topic or known_topic(
            self._settings, self._access.kind, self._store.topic()
        )
        if not topic:
            topic = self._patience.call(self._access.create_topic, build_topic_memo(TOPIC_TTL_S))
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
        """Tell whether the checkpoint says more than the ledger does; raises LogConflictError for a fork."""
        anchored, size = self._store.anchored(), signed.checkpoint.size
        if anchored is None:
            return size > 0
        if size == anchored.tree_size and signed.checkpoint.root != anchored.root:
            raise LogConflictError(f"another root than the published one is anchored for size {size}")
        if size < anchored.tree_size:
            # A log that is recomputed from its topic passes through here; one that went back stays here.
            self._well(f"the published log has {size} leaves, {anchored.tree_size} are anchored")
        elif size == anchored.tree_size:
            self._well(f"size {size} is anchored as message {anchored.sequence} of {self._where}")
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
        # A crash before it is kept loses a transaction that nobody has seen.
        prepared = self._patience.call(ledger.prepare, message, time.time_ns())
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
                # A crash before this finds it lapsed again; one after it begins with the newest root.
                self._store.drop_in_flight()
                self._caught_up, self._begun_at = False, None
            case ConfirmationState.REFUSED:
                self._store.drop_in_flight()
                raise LedgerRefusedError("the anchor at consensus", confirmation.code or "unknown")
            case _ if outcome is not None and outcome.status is SubmitStatus.RETRY:
                raise LedgerUnavailableError(f"no node takes the anchor: {outcome.code}")
            case _ if outcome is not None and outcome.status is SubmitStatus.REJECTED:
                raise LedgerRefusedError("the anchor by a node", outcome.code)
            case _:
                self._well("submitted, waiting for the mirror to show it")

    def _submit(self, ledger: Ledger, flight: InFlight) -> SubmitOutcome:
        outcome = self._patience.call(ledger.submit, flight.prepared)
        metrics.ANCHOR_ATTEMPTS.labels(outcome.status.value).inc()
        # A crash here submits the same bytes again, and the node says DUPLICATE.
        if outcome.status in (SubmitStatus.ACCEPTED, SubmitStatus.DUPLICATE) and not flight.submitted:
            signed = self._log.verify(flight.checkpoint)
            record = anchorrecords.submitted(signed, self._place, flight.prepared.transaction_id, _now_us())
            self._store.submitted(record)
            log.info("anchor submitted", tree_size=signed.checkpoint.size)
        if outcome.status not in (SubmitStatus.RETRY, SubmitStatus.REJECTED):
            self._submit_at = time.monotonic() + RESUBMIT_AFTER_S
        return outcome

    def _confirm(self, ledger: Ledger, flight: InFlight, message: LedgerMessage) -> None:
        """Keep what the ledger shows, and put out the claim that it is anchored."""
        position = self._store.position()
        after = position.sequence if position else 0
        messages = self._patience.call(_history, ledger, position, message.sequence - after)
        anchors = self._anchors_in(messages)
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
        self._store.confirmed(records, messages[-1].position, newest, first.tree_size)
        metrics.ANCHORED_SIZE.set(newest.tree_size if newest else 0)
        log.info("anchored", tree_size=first.tree_size, sequence=first.sequence, topic=self._place.topic)
        self._well("")

    def _catch_up(self, ledger: Ledger) -> None:
        """Read and recompute the ledger's record from where we stand; what is anchored there is anchored."""
        messages = None
        while messages is None or len(messages) == HISTORY_CHUNK:
            position = self._store.position()
            messages = self._patience.call(_history, ledger, position, HISTORY_CHUNK)
            if messages:
                anchored = anchorrecords.newest(self._store.anchored(), self._anchors_in(messages))
                # A crash anywhere in between reads the rest, or this chunk again.
                self._store.advance(messages[-1].position, anchored)
                self._detail = f"catching up on {self._where}, message {messages[-1].sequence}"
        anchored = self._store.anchored()
        if anchored is not None:
            metrics.ANCHORED_SIZE.set(anchored.tree_size)
        self._caught_up = True

    def _announce_found(self) -> None:
        """Say CONFIRMED of an anchor that was found: the database was lost, or another process made it."""
        anchored = self._store.anchored()
        if anchored is None or anchored.tree_size <= self._store.announced_size():
            return
        found = self._patience.call(find_note, self._settings, anchored, self._log)
        records = []
        if found is None:
            # The next anchor covers what this one does.
            log.warning("an anchor without its checkpoint's note", tree_size=anchored.tree_size)
        elif not found.is_confirmed:
            records = [
                anchorrecords.confirmed(found.signed, self._place, found.transaction_id, _now_us(), anchored)
            ]
        self._store.announce(records, anchored.tree_size)

    # ---- around it -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give what is on its way to Kafka a moment."""
        self._announcer.close()

    @property
    def _where(self) -> str:
        return f"{self._place.ledger} topic {self._place.topic}"

    def _anchors_in(self, messages: list[LedgerMessage]) -> list[Anchored]:
        origin, payer = self._log.origin, self._place.payer
        found = (anchorrecords.read_anchor(message, origin, payer) for message in messages)
        return [anchored for anchored in found if anchored is not None]

    def _beat(self) -> None:
        try:
            self._announcer.send()
        except DatabaseError as error:
            self._announcer.trouble = str(error)
        detail = f"NOT ANCHORING {self._trouble}" if self._trouble else self._detail
        if self._cosigner.missed and not self._settings.witness_required:
            detail += f"; ANCHORED WITHOUT A WITNESS QUORUM: {self._cosigner.missed}"
        if self._announcer.trouble:
            detail += f"; {self._announcer.waiting} records wait for Kafka: {self._announcer.trouble}"
        self._health.beat(self._state, detail)

    def _well(self, detail: str) -> None:
        """Say that the way to the ledger is clear."""
        self._state, self._detail = StageState.RUNNING, detail
        if self._trouble.clear():
            log.info("anchoring goes on")

    def _tell(self, error: Exception) -> None:
        """Say what is wrong, aloud where waiting alone does not mend it."""
        self._state = StageState.RUNNING
        if self._trouble.add(f"{type(error).__name__}: {error}"):
            tell = log.warning if isinstance(error, LedgerUnavailableError) else log.error
            tell("not anchoring", why=str(error), kind=type(error).__name__)


def _history(ledger: Ledger, after: ChainPosition | None, limit: int) -> list[LedgerMessage]:
    return list(ledger.history(after, limit))


def _now_us() -> int:
    return time.time_ns() // 1000
