"""Recomputing a topic's history: contiguous sequence numbers, rising times, one chain of hashes.

A mirror that leaves out, adds, reorders or alters a message would have to find a SHA-384 collision,
as soon as one later (sequence, running hash) is known from elsewhere.
"""

import struct
from collections.abc import Iterable, Iterator

from anchors.errors import LedgerHistoryError
from anchors.hedera.ids import EntityId
from anchors.hedera.running_hash import RUNNING_HASH_VERSION, ZERO_RUNNING_HASH, running_hash_v3
from anchors.ledger import ChainPosition, LedgerMessage

BEGINNING = ChainPosition(0, ZERO_RUNNING_HASH)
"""The position before a topic's first message."""


def verified(
    topic_id: str, after: ChainPosition | None, messages: Iterable[LedgerMessage]
) -> Iterator[LedgerMessage]:
    """Yield each message once it is proven to continue the chain from `after` (None: the beginning).

    Raises LedgerHistoryError at the first that does not; those yielded before it stand.
    """
    position = after or BEGINNING
    previous_time_ns = 0
    for message in messages:
        where = f"topic {topic_id}, message {message.sequence}"
        if message.topic_id != topic_id:
            raise LedgerHistoryError(f"{where}: the mirror shows a message of topic {message.topic_id}")
        if message.sequence != position.sequence + 1:
            raise LedgerHistoryError(f"{where}: the mirror skips from {position.sequence}")
        if message.consensus_time_ns <= previous_time_ns:
            raise LedgerHistoryError(f"{where}: its consensus time does not rise")
        if message.running_hash_version != RUNNING_HASH_VERSION:
            raise LedgerHistoryError(
                f"{where}: running hash version {message.running_hash_version} is not known here"
            )
        try:
            computed = running_hash_v3(
                position.running_hash,
                payer=EntityId.parse(message.payer),
                topic=EntityId.parse(topic_id),
                consensus_time_ns=message.consensus_time_ns,
                sequence=message.sequence,
                message=message.message,
            )
        except (ValueError, struct.error) as error:
            raise LedgerHistoryError(f"{where}: {error}") from error
        if computed != message.running_hash:
            raise LedgerHistoryError(f"{where}: the mirror's running hash does not recompute")
        position = message.position
        previous_time_ns = message.consensus_time_ns
        yield message


def verify_segment(
    topic_id: str, after: ChainPosition | None, messages: Iterable[LedgerMessage]
) -> ChainPosition:
    """The position at the end of a segment, all of it recomputed; raises LedgerHistoryError."""
    position = after or BEGINNING
    for message in verified(topic_id, after, messages):
        position = message.position
    return position
