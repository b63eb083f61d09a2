"""The decision record: its id, its salt, and what reading refuses."""

from dataclasses import replace

import pytest

from schemas.codec import CODEC
from schemas.decisions import Decision, DecisionKind, DecisionReason, Effect, decode_decision
from schemas.errors import CodecError
from schemas.records import EvidenceRef

DECISION = Decision(
    DecisionKind.REQUEST,
    Effect.PERMIT,
    DecisionReason.POLICY,
    "permitted by hospital/ward-care",
    "did:example:pump",
    "did:example:nurse",
    "login",
    "screen",
    "TREAT",
    "s1",
    emergency=False,
    time_us=1_700_000_000_000_000,
    request=EvidenceRef("device.access.raw", 3, 41, bytes(32)),
    registry_offset=7,
    policy_offset=2,
    expires_us=1_700_000_900_000_000,
    policies=("hospital/ward-care",),
    policy_digest=bytes(32),
    attributes={"resource.ward": "ICU-2"},
    obligations=("alert low",),
    approvals=("did:example:charge",),
)


def test_a_decision_reads_back() -> None:
    assert decode_decision(DECISION.encode(bytes(16))) == DECISION
    plain = replace(DECISION, expires_us=None, policies=(), attributes={}, obligations=(), approvals=())
    assert decode_decision(plain.encode(bytes(16))) == plain


def test_the_salt_makes_the_digest_unpredictable_and_not_the_id() -> None:
    assert DECISION.encode(bytes(16)) != DECISION.encode(bytes(15) + b"\1")
    assert DECISION.id == replace(DECISION, detail="else", time_us=0).id
    ids = {replace(DECISION, kind=kind).id for kind in DecisionKind}
    assert len(ids) == len(DecisionKind)
    assert replace(DECISION, request=EvidenceRef("device.access.raw", 3, 42)).id not in ids


def test_a_reason_of_tomorrow_is_named_as_unknown() -> None:
    record = CODEC.decode("decision", DECISION.encode(bytes(16)))
    with pytest.raises(CodecError, match="whim"):
        decode_decision(CODEC.encode("decision", {**record, "reason": "whim"}))
