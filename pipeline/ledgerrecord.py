"""The ledger's own record of our topic: recomputed from where we stand, and held to the published log.

What stands there counts, whoever sent it. Nothing is kept of which our log knows nothing: what a mirror shows
is unsigned, and one that showed another root for an hour must not be believed beyond it.
"""

from collections.abc import Iterable

import structlog

from anchors.ledger import ChainPosition, Ledger, LedgerMessage
from pipeline import anchorrecords, metrics
from pipeline.anchorrecords import Anchored
from pipeline.anchorstore import AnchorStore
from pipeline.epochlog import EpochLog, LogBehindError
from pipeline.patience import Call

log = structlog.get_logger()

HISTORY_CHUNK = 1000


class LedgerRecord:
    """Reads on from the database's position.

    Methods raise as `Ledger.history` does; LogConflictError for an anchor of ours that the published log
    contradicts, LogBehindError for one that is beyond it; and then keep nothing.
    """

    def __init__(self, store: AnchorStore, epoch_log: EpochLog, payer: str, call: Call) -> None:
        self._store, self._log, self._payer, self._call = store, epoch_log, payer, call
        self._looked_to = 0
        self.is_caught_up = False
        """The record was read to its end since the start, or since something was lost."""
        self.is_doubted = False
        """The mirror's history did not recompute from where we stand."""

    def catch_up(self, ledger: Ledger) -> None:
        """Read to the end; what is anchored there is anchored."""
        messages = None
        while messages is None or len(messages) == HISTORY_CHUNK:
            messages = self.read(ledger, HISTORY_CHUNK)
            if messages:
                known = self._store.anchored()
                anchored = anchorrecords.newest(known, self.anchors_in(messages))
                if anchored is not None and anchored != known:
                    self._log.check_published(anchored)
                # A crash anywhere in between reads the rest, or this chunk again.
                self._store.advance(messages[-1].position, anchored)
        anchored = self._store.anchored()
        if anchored is not None:
            metrics.ANCHORED_SIZE.set(anchored.tree_size)
        self.is_caught_up = True

    def look(self, ledger: Ledger, shown: ChainPosition | None) -> None:
        """Hold what the mirror shows up to there to our log, while our own message is awaited."""
        known = self._sequence()
        if shown is None or shown.sequence <= max(known, self._looked_to):
            return
        for anchored in self.anchors_in(self.read(ledger, shown.sequence - known)):
            try:
                self._log.check_published(anchored)
            except LogBehindError:
                continue  # another process saw a larger log than we do; that is told when we catch up
        self._looked_to = shown.sequence

    def read(self, ledger: Ledger, limit: int) -> list[LedgerMessage]:
        """Return at most `limit` messages from where we stand."""
        return self._call(_history, ledger, self._store.position(), limit)

    def read_to(self, ledger: Ledger, sequence: int) -> list[LedgerMessage]:
        """Return the messages from where we stand up to that one."""
        return self.read(ledger, sequence - self._sequence())

    def anchors_in(self, messages: Iterable[LedgerMessage]) -> list[Anchored]:
        """Return those that anchor our log."""
        found = (anchorrecords.read_anchor(message, self._log.origin, self._payer) for message in messages)
        return [anchored for anchored in found if anchored is not None]

    def step_back(self) -> None:
        """Stand at our newest anchor again, where what was read behind it does not go on.

        Who showed us two histories is for the monitor to say. We need not stay with the one that came first.
        """
        position, anchored = self._store.position(), self._store.anchored()
        back = ChainPosition(anchored.sequence, anchored.running_hash) if anchored else None
        if position != back:
            log.error("the ledger's history does not go on from where it was read to; one step back", to=back)
            self._store.step_back(back)
            self._looked_to = 0
        self.is_doubted = False

    def _sequence(self) -> int:
        position = self._store.position()
        return position.sequence if position else 0


def _history(ledger: Ledger, after: ChainPosition | None, limit: int) -> list[LedgerMessage]:
    return list(ledger.history(after, limit))
