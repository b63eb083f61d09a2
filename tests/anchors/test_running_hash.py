"""The running hash reproduces real messages of the public testnet, and nothing else does."""

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest

from anchors.errors import LedgerHistoryError
from anchors.hedera.chain import BEGINNING, verified, verify_segment
from anchors.hedera.ids import parse_timestamp
from anchors.hedera.running_hash import ZERO_RUNNING_HASH
from anchors.ledger import ChainPosition, LedgerMessage

VECTORS = Path(__file__).parents[1] / "vectors" / "hcs-messages.json"


def real_messages() -> list[LedgerMessage]:
    return [
        LedgerMessage(
            topic_id=row["topic_id"],
            sequence=row["sequence_number"],
            consensus_time_ns=parse_timestamp(row["consensus_timestamp"]),
            message=base64.b64decode(row["message"]),
            payer=row["payer_account_id"],
            running_hash=base64.b64decode(row["running_hash"]),
            running_hash_version=3,
        )
        for row in json.loads(VECTORS.read_text())["messages"]
    ]


TOPIC = "0.0.4603900"


def test_real_messages_recompute_from_the_beginning() -> None:
    messages = real_messages()
    assert list(verified(TOPIC, None, messages)) == messages
    assert verify_segment(TOPIC, BEGINNING, messages) == messages[-1].position


def test_real_messages_recompute_from_a_known_position() -> None:
    first, *rest = real_messages()
    assert verify_segment(TOPIC, first.position, rest) == rest[-1].position
    assert verify_segment(TOPIC, first.position, []) == first.position


ALTERATIONS = {
    "message": {"message": b"Message 3"},
    "payer": {"payer": "0.0.2617921"},
    "payer shard": {"payer": "1.0.2617920"},
    "time by a nanosecond": {"consensus_time_ns": 1_683_553_060_092_158_004},
    "running hash": {"running_hash": bytes(48)},
    "version": {"running_hash_version": 2},
    "payer that is none": {"payer": "me"},
    "time beyond 63 bits": {"consensus_time_ns": 2**64 * 10**9},
    "topic": {"topic_id": "0.0.4603901"},
    "sequence": {"sequence": 3},
}


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_an_altered_message_is_found_where_it_stands(alteration: str) -> None:
    first, second, third = real_messages()
    altered = replace(second, **ALTERATIONS[alteration])  # type: ignore[arg-type]
    seen = verified(TOPIC, None, [first, altered, third])
    assert next(seen) == first
    with pytest.raises(LedgerHistoryError, match=f"topic {TOPIC}, message"):
        next(seen)


@pytest.mark.parametrize("order", [(0, 2), (1,), (0, 0), (0, 2, 1), (1, 0)])
def test_left_out_repeated_or_reordered_messages_are_found(order: tuple[int, ...]) -> None:
    messages = real_messages()
    with pytest.raises(LedgerHistoryError):
        verify_segment(TOPIC, None, [messages[index] for index in order])


def test_a_wrong_known_position_is_found() -> None:
    first, second, _ = real_messages()
    with pytest.raises(LedgerHistoryError, match="does not recompute"):
        verify_segment(TOPIC, ChainPosition(first.sequence, ZERO_RUNNING_HASH), [second])


def test_consensus_time_must_rise() -> None:
    first, second, _ = real_messages()
    stuck = replace(second, consensus_time_ns=first.consensus_time_ns)
    with pytest.raises(LedgerHistoryError, match="does not rise"):
        verify_segment(TOPIC, None, [first, stuck])
