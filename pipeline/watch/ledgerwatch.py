"""The ledger's topic as its mirror shows it: one chain, that only we pay for, of roots that we published.

Each read begins some messages before the newest one that is remembered, so that a mirror which changes or
withdraws what it has shown contradicts itself. A mirror that does not answer is not accused of anything.
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from anchors.errors import AnchorError, AnchorMessageError, LedgerHistoryError
from anchors.hcs27 import parse_anchor
from anchors.ledger import ChainPosition, LedgerMessage
from pipeline.anchorrecords import REGISTRY
from pipeline.ledgers import LedgerAccess, ledger_access
from pipeline.settings import UsageError
from pipeline.watch.claims import Claims
from pipeline.watch.context import Watch
from pipeline.watch.errand import Errand
from processors.integrity import findings
from processors.integrity.delays import Unanchored
from schemas.checkpoint import MAX_SIZE
from schemas.trust import LedgerTrust

log = structlog.get_logger()

READ_AGAIN = 50
READ_AT_ONCE = 1000
ANCHOR_PATIENCE = 2.5
"""Anchor intervals: one to begin, one for the ledger, and the finding is out within three."""
WITHDRAWN_READS = 3


@dataclass(frozen=True, slots=True)
class History:
    """One read: verified messages after `after`, and why it ended if it ended badly."""

    after: ChainPosition | None
    messages: list[LedgerMessage]
    lie: str = ""


def read_history(access: LedgerAccess, topic: str, after: ChainPosition | None) -> History:
    """Read on from a position; raises AnchorError when the mirror does not answer."""
    messages: list[LedgerMessage] = []
    try:
        messages.extend(access.history(topic, after, READ_AT_ONCE))
    except LedgerHistoryError as error:
        return History(after, messages, str(error))
    return History(after, messages)


class LedgerWatch:
    """The anchors of our log on the ledger that the trust file names."""

    def __init__(self, watch: Watch, read: Callable[..., History] = read_history) -> None:
        self._watch, self._read = watch, read
        self._errand: Errand[History] = Errand("mirror")
        self._asked_at_s = 0.0
        self._trusted: LedgerTrust | None = None
        self._positions = watch.memory.positions()
        self._withdrawn = self._lies = 0
        self.unanchored = Unanchored()
        self.unanchored.anchored(watch.memory.anchored_size())
        self.trouble = ""
        """Why the mirror cannot be read, while that is so."""

    @property
    def newest(self) -> int:
        """The sequence number of the newest message that is remembered."""
        return max(self._positions, default=0)

    # ---- a round ---------------------------------------------------------------------------------------

    def step(self, claims: Claims) -> None:
        """Take what the mirror has answered, and ask again when it is time; never waits."""
        watch, trust = self._watch, self._watch.trust.ledger
        if not trust.topic:
            self.trouble = ""
            return  # nothing was ever anchored; `anchor_missing` tells if it should have been
        if trust != self._trusted:
            self._trusted = trust
            watch.memory.use_ledger(trust.kind, trust.topic)
            self._positions = watch.memory.positions()
        if not self._errand.is_free:
            self._collect(claims, trust)
        interval_s = min(1.0, watch.settings.anchor_interval_s / 4)
        if self._errand.is_free and watch.now_s - self._asked_at_s >= interval_s:
            self._asked_at_s = watch.now_s
            try:
                access = ledger_access(watch.settings)
                self._errand.send(self._read, access, trust.topic, self._read_from())
            except (AnchorError, UsageError) as error:
                self.trouble = str(error)

    def _read_from(self) -> ChainPosition | None:
        """A remembered position far enough back to be read over again."""
        older = [sequence for sequence in self._positions if sequence <= self.newest - READ_AGAIN]
        return ChainPosition(max(older), self._positions[max(older)]) if older else None

    def _collect(self, claims: Claims, trust: LedgerTrust) -> None:
        try:
            history = self._errand.collect()
        except (AnchorError, OSError, ValueError) as error:
            self.trouble = str(error) or type(error).__name__
            return
        if history is None:
            return
        self.trouble = ""
        self._take(history, claims, trust)
        if not history.lie:
            self._check_delay()

    # ---- what it shows ---------------------------------------------------------------------------------

    def _take(self, history: History, claims: Claims, trust: LedgerTrust) -> None:
        watch, origin = self._watch, self._watch.trust.log_name
        believed = {point.sequence: point.running_hash for point in trust.checkpoints}
        new: list[ChainPosition] = []
        for message in history.messages:
            for known in (self._positions, believed):
                if known.get(message.sequence, message.running_hash) != message.running_hash:
                    why = f"message {message.sequence} of topic {trust.topic} is another than was known"
                    self._lied(message.sequence, why)
                    return
            if message.sequence > self.newest:
                self._positions[message.sequence] = message.running_hash
                new.append(message.position)
                self._read_message(message, claims, trust)
        watch.memory.extend_chain(new)
        last = history.messages[-1].sequence if history.messages else _sequence(history.after)
        if history.lie:
            self._lies += 1
            if self._lies > 1:  # asked twice
                self._lied(last + 1, history.lie)
            return
        self._lies = 0
        if last < self.newest and len(history.messages) < READ_AT_ONCE:
            # Replicas of a mirror need not agree to the second.
            self._withdrawn += 1
            if self._withdrawn >= WITHDRAWN_READS:
                why = f"topic {trust.topic} had {self.newest} messages, and the mirror now shows {last}"
                self._lied(self.newest, why)
            return
        self._withdrawn = 0
        watch.book.clear("mirror_lies", origin, watch.now_us, trust.topic)

    def _lied(self, sequence: int, why: str) -> None:
        watch, topic = self._watch, self._watch.trust.ledger.topic
        watch.book.open(
            findings.mirror_lies(watch.trust.log_name, topic, sequence, why, time_us=watch.now_us)
        )

    def _read_message(self, message: LedgerMessage, claims: Claims, trust: LedgerTrust) -> None:
        watch, origin = self._watch, self._watch.trust.log_name
        try:
            anchor = parse_anchor(message.message)
        except AnchorMessageError as error:
            log.warning("a ledger message that is no anchor", sequence=message.sequence, why=str(error))
            return
        if (anchor.registry, anchor.log_id) != (REGISTRY, origin) or anchor.root.tree_size > MAX_SIZE:
            return
        if trust.payer and message.payer != trust.payer:
            watch.book.open(
                findings.anchor_wrong_payer(
                    origin, trust.topic, message.sequence, message.payer, trust.payer, time_us=watch.now_us
                )
            )
            return
        claims.add_anchor(message.sequence, anchor.root.tree_size, anchor.root.root_hash, message.message)

    # ---- delay -----------------------------------------------------------------------------------------

    def grown(self, size: int) -> None:
        """Note the epoch log's proven size."""
        if size > self._watch.memory.anchored_size():
            self.unanchored.grown(size, self._watch.now_s)

    def anchored(self, size: int) -> None:
        """Note an anchor of our own root."""
        self.unanchored.anchored(size)

    def check_unanchored(self) -> None:
        """Where no ledger is named at all, nothing will ever answer."""
        if not self._watch.trust.ledger.topic:
            self._check_delay()

    def _check_delay(self) -> None:
        watch, interval_s = self._watch, self._watch.settings.anchor_interval_s
        waits_s, origin = self.unanchored.waits_s(watch.now_s), watch.trust.log_name
        if waits_s > ANCHOR_PATIENCE * interval_s:
            watch.book.open(
                findings.anchor_missing(
                    origin, self.unanchored.oldest_size, waits_s, interval_s, time_us=watch.now_us
                )
            )
        elif waits_s < interval_s:
            watch.book.clear("anchor_missing", origin, watch.now_us, "behind")


def _sequence(after: ChainPosition | None) -> int:
    return after.sequence if after else 0
