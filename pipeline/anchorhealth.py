"""What the anchor stage says about itself: well, or since when and why it does not anchor."""

import structlog

from anchors.errors import LedgerUnavailableError
from pipeline.announce import Announcer
from pipeline.cosign import Cosigner
from pipeline.ledgerclock import LedgerClock
from pipeline.patience import LONGEST_PAUSE_S, Trouble
from pipeline.settings import Settings
from pipeline.sqlitefile import DatabaseDamagedError, DatabaseError
from pipeline.stage import Health, StageState

log = structlog.get_logger()

POLL_S = 0.25


class AnchorHealth:
    """Beats for the loop, and hands the outbox on with every beat."""

    def __init__(
        self, settings: Settings, health: Health, announcer: Announcer, cosigner: Cosigner, clock: LedgerClock
    ) -> None:
        self._health, self._announcer, self._cosigner, self._clock = health, announcer, cosigner, clock
        self._is_quorum_asked = not settings.witness_required
        # Whoever wants an anchor every second does not want to wait five after an outage.
        self._trouble = Trouble(min(LONGEST_PAUSE_S, max(POLL_S, settings.anchor_interval_s)))
        self._state, self._detail = StageState.STARTING, "opening the ledger"

    def beat(self) -> None:
        """Say that the loop is alive; raises KafkaException when the producer can never send again."""
        try:
            self._announcer.send()
        except DatabaseDamagedError:
            raise
        except DatabaseError as error:
            self._announcer.trouble = str(error)
        detail = f"NOT ANCHORING {self._trouble}" if self._trouble else self._detail
        if self._cosigner.missed and self._is_quorum_asked:
            detail += f"; ANCHORED WITHOUT A WITNESS QUORUM: {self._cosigner.missed}"
        if self._clock.note:
            detail += f"; WRONG CLOCK: {self._clock.note}"
        if self._announcer.trouble:
            detail += f"; {self._announcer.waiting} records wait for Kafka: {self._announcer.trouble}"
        self._health.beat(self._state, detail, alarm="NOT ANCHORING" if self._trouble else "")

    def well(self, detail: str) -> None:
        """Say that the way to the ledger is clear."""
        self._state, self._detail = StageState.RUNNING, detail
        if self._trouble.clear():
            log.info("anchoring goes on")

    def anchored(self) -> None:
        """Say that an anchor is confirmed."""
        self._health.progressed()
        self.well("")

    def tell(self, error: Exception) -> float:
        """Say what is wrong, aloud where waiting alone does not mend it; return how long to pause."""
        self._state = StageState.RUNNING
        if self._trouble.add(f"{type(error).__name__}: {error}"):
            tell = log.warning if isinstance(error, LedgerUnavailableError) else log.error
            tell("not anchoring", why=str(error), kind=type(error).__name__)
        return self._trouble.pause_s
