"""The ledger protocol: what the anchor stage needs from a ledger, and nothing more.

Four verbs: *submit* (the same signed bytes until they expire), *confirm* (found on the public record
and recomputed), *history* (read back and verified) and *evidence* (what convinces a third party).
A transaction is prepared as bytes first, so that it can be made durable before it is first sent: a
crash anywhere then resubmits the same bytes, and the ledger itself places them at most once.

Times are nanoseconds since the Unix epoch. Every call is bounded in time by the implementation.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

MAX_MESSAGE_BYTES = 1_024
"""One anchor is one unchunked ledger message, so that it is present as a whole or not at all."""


@dataclass(frozen=True, slots=True)
class PreparedTransaction:
    """A signed submission of one message. Persist all fields before the first `submit`."""

    transaction_id: str
    """The ledger's own name of it; a ledger places one id at most once."""
    message: bytes
    signed: bytes
    """Opaque to callers; one copy for each node it may be sent to."""
    valid_start_ns: int
    valid_until_ns: int
    """No node places it later than this, by the ledger's clock."""


class SubmitStatus(Enum):
    """What a node said to a submission."""

    ACCEPTED = "accepted"
    """It passed the first check. Only `confirm` tells whether it reached consensus."""
    DUPLICATE = "duplicate"
    """This transaction id is known already: an earlier attempt got through. Go on to `confirm`."""
    EXPIRED = "expired"
    """The bytes are too old to be placed. An earlier attempt may still have been: `confirm` decides."""
    RETRY = "retry"
    """Busy or unreachable. It may or may not have arrived: send the same bytes again."""
    EARLY = "early"
    """Not valid yet by the node's clock, and not taken: send the same bytes again, or sign with its time."""
    REJECTED = "rejected"
    """Sending the same bytes again cannot help; `code` says why."""


@dataclass(frozen=True, slots=True)
class SubmitOutcome:
    """One attempt's result; `code` is the ledger's response code, or the transport's error."""

    status: SubmitStatus
    code: str


@dataclass(frozen=True, slots=True)
class ChainPosition:
    """A point of a topic's history: the running hash after message number `sequence`."""

    sequence: int
    running_hash: bytes


@dataclass(frozen=True, slots=True)
class LedgerMessage:
    """One message of a topic, as the ledger's public record shows it."""

    topic_id: str
    sequence: int
    """1 for a topic's first message, then contiguous."""
    consensus_time_ns: int
    message: bytes
    payer: str
    running_hash: bytes
    running_hash_version: int
    chunk_number: int = 1
    chunk_total: int = 1
    initial_transaction_id: str | None = None
    """Only chunked messages name the transaction that carried them."""

    @property
    def position(self) -> ChainPosition:
        """The chain's state after this message."""
        return ChainPosition(self.sequence, self.running_hash)


class ConfirmationState(Enum):
    """What the public record says about a prepared transaction."""

    PENDING = "pending"
    """Not there yet, and it may still come."""
    CONFIRMED = "confirmed"
    """There, and the running hash recomputes from the known position up to it."""
    REFUSED = "refused"
    """It reached consensus and was refused there (`code`): its message will never appear."""
    LAPSED = "lapsed"
    """Not there, and the record is complete beyond its expiry: another may be prepared."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The answer of `confirm`. `message` is set exactly when the state is CONFIRMED."""

    state: ConfirmationState
    verified_to: ChainPosition | None
    """How far the history has been read and recomputed; start the next `confirm` here."""
    message: LedgerMessage | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class LedgerReceipt:
    """Where a message stands, with the piece of the chain that leads to it.

    Whoever trusts any (sequence, running hash) inside the segment can recompute all of it offline;
    until then it is the mirror's unsigned statement.
    """

    ledger: str
    topic_id: str
    transaction_id: str
    segment_start: ChainPosition | None
    """The position before the first message of the segment; None: the topic's beginning."""
    segment: tuple[LedgerMessage, ...]
    """Contiguous, the receipted message last."""


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """What the public record says about a topic."""

    topic_id: str
    memo: str
    submit_key: bytes | None
    """The raw Ed25519 key that must sign each message; None: anyone may write, or another kind of key."""
    created_ns: int
    deleted: bool


class Ledger(Protocol):
    """One topic of one ledger.

    Every method but `prepare` and `submit` raises LedgerUnavailableError when the public record cannot
    be read in time, and LedgerRefusedError when its server says no (a wrong API key, an unknown topic).
    `submit` says so in its outcome instead, since the bytes may have arrived anyway.
    """

    @property
    def name(self) -> str:
        """The ledger and network, for example `hedera:testnet`."""

    @property
    def topic_id(self) -> str:
        """The topic that messages are written to."""

    def prepare(self, message: bytes, now_ns: int) -> PreparedTransaction:
        """Build and sign a submission of 1 to 1,024 bytes; sends nothing.

        Raises AnchorMessageError for a message of another size, LedgerConfigError for a key that
        cannot be used.
        """

    def submit(self, prepared: PreparedTransaction) -> SubmitOutcome:
        """Send the prepared bytes once, to one node after another until one answers."""

    def confirm(self, prepared: PreparedTransaction, after: ChainPosition | None) -> Confirmation:
        """Look for the prepared message behind a known position, verifying all of the way there.

        Raises LedgerHistoryError when the history does not recompute.
        """

    def history(self, after: ChainPosition | None, limit: int | None = None) -> Iterator[LedgerMessage]:
        """Verified messages after a known position (None: from the topic's first), oldest first.

        Raises LedgerHistoryError at the first message that does not recompute.
        """

    def evidence(
        self, message: LedgerMessage, transaction_id: str, after: ChainPosition | None
    ) -> LedgerReceipt:
        """A receipt for a message, with the verified chain from a known position up to it."""

    def complete_until_ns(self) -> int:
        """The consensus time up to which the public record is complete."""

    def topic_info(self) -> TopicInfo:
        """The topic as the public record shows it."""

    def close(self) -> None:
        """Let go of connections."""
