"""Attacks on events, by name: what somebody who can write to the raw topics, or read them, can try.

Each goes through the whole judgement of a telemetry partition: registry, authenticate, admit, state.
"""

import hashlib
from dataclasses import replace

import pytest
from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_core_ed25519_scalar_add,
    crypto_core_ed25519_scalar_mul,
    crypto_core_ed25519_scalar_reduce,
    crypto_scalarmult_ed25519_base_noclamp,
)

from processors.judge import Judge, NoDetectors
from processors.model import Outcome, RawRecord
from processors.state import DeviceState, decode_state
from schemas.codec import CODEC
from schemas.ed25519 import verify_batch
from schemas.envelope import PayloadKind, Signature, SignedEnvelope, decode_envelope, pae, pae_prefix
from schemas.partition import partition_of
from tests.kit.parties import (
    LOG,
    NOW_MS,
    PARTITIONS,
    RegistryTopic,
    approval_of,
    envelope_of,
    event_of,
    identity_of,
    new_key,
    payload_of,
    record_of,
    seed_of,
    sent,
    telemetry_judge,
)

VICTIM, MALLORY = identity_of("victim"), identity_of("mallory")
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


class Ward:
    """A deployment with a victim and a registered device in an attacker's hands."""

    def __init__(self) -> None:
        self.topic = RegistryTopic()
        for name in ("victim", "mallory"):
            self.topic.enroll(name)
        self.states: dict[str, DeviceState] = {}
        self.last_append_ms: dict[str, int] = {}
        self.touched: dict[str, DeviceState] = {}
        self.offset = 0
        self.judge = Judge(telemetry_judge(), NoDetectors(), self.topic.table, lambda: True)

    def state_of(self, device_id: str) -> DeviceState:
        return self.states.setdefault(device_id, DeviceState(None))

    def detectors_of(self, device_id: str) -> None:
        return None

    def touch(self, device_id: str, state: DeviceState) -> None:
        self.touched[device_id] = state

    def restart(self) -> None:
        """Only what was touched was written."""
        self.states = {device: decode_state(state.encode(b""))[0] for device, state in self.touched.items()}

    def judge_records(self, *records: RawRecord) -> Outcome:
        outcome = self.judge.process(
            [replace(r, offset=self.offset + i) for i, r in enumerate(records)], self
        )
        self.offset += len(records)
        return outcome

    def verdict(self, record: RawRecord) -> str:
        outcome = self.judge_records(record)
        assert len(outcome.accepted) + len(outcome.rejected) == 1
        return "accepted" if outcome.accepted else outcome.rejected[0].reason.value


@pytest.fixture
def ward() -> Ward:
    return Ward()


def from_victim(value: bytes | None) -> RawRecord:
    return sent("victim", value)


# ---- forgery ---------------------------------------------------------------------------------------------


def test_forged_signature(ward: Ward) -> None:
    payload = payload_of(VICTIM.did)
    for signature in (bytes(64), b"\xff" * 64, MALLORY.sign(PayloadKind.TELEMETRY, LOG, payload).signature):
        forged = SignedEnvelope(payload, (Signature("k1", signature),)).encode()
        assert ward.verdict(from_victim(forged)) == "bad_signature"


def test_altered_payload(ward: Ward) -> None:
    good = decode_envelope(event_of("victim"))
    altered = payload_of(VICTIM.did, values=[20.0, 98.0])
    assert ward.verdict(from_victim(SignedEnvelope(altered, good.signatures).encode())) == "bad_signature"
    assert ward.verdict(from_victim(good.encode())) == "accepted"


def test_one_device_speaks_in_anothers_name(ward: Ward) -> None:
    """Mallory's key is as good as any, but not for the victim's DID."""
    payload = payload_of(VICTIM.did)
    for key_id in ("k1", f"{MALLORY.did}#k1", MALLORY.did):
        value = envelope_of(payload, replace(MALLORY, key_id=key_id))
        assert ward.verdict(from_victim(value)) in ("bad_signature", "unknown_key")
        assert ward.verdict(sent("mallory", value)) == "wrong_partition"


def test_names_that_look_alike(ward: Ward) -> None:
    for did in (VICTIM.did + " ", VICTIM.did + "\u200b", VICTIM.did.swapcase(), VICTIM.did + "#k1", "did:"):
        value = envelope_of(payload_of(did), MALLORY)
        assert ward.verdict(record_of(did.encode(), value)) in ("unknown_device", "invalid_value")


def test_event_of_another_kind_relabelled(ward: Ward) -> None:
    access = envelope_of(payload_of(VICTIM.did, PayloadKind.ACCESS), VICTIM, kind=PayloadKind.ACCESS)
    assert ward.verdict(from_victim(access)) == "wrong_kind"
    relabelled = CODEC.header("telemetry") + decode_envelope(access).payload[10:]
    stolen = SignedEnvelope(relabelled, decode_envelope(access).signatures).encode()
    assert ward.verdict(from_victim(stolen)) in ("malformed", "invalid_value", "bad_signature")


def test_event_of_another_deployment(ward: Ward) -> None:
    value = envelope_of(payload_of(VICTIM.did), VICTIM, audience="other-ward.example")
    assert ward.verdict(from_victim(value)) == "bad_signature"


def test_registry_entry_or_checkpoint_as_an_event(ward: Ward) -> None:
    entry = ward.topic.records[0].value
    assert ward.verdict(from_victim(entry)) == "wrong_kind"
    assert ward.verdict(from_victim(f"{LOG}/device.events/0\n1\nAAAA\n\n".encode())) == "malformed"


# ---- the signature rule ----------------------------------------------------------------------------------


def victim_scalar() -> bytes:
    """The victim's private scalar, as only the victim has it."""
    digest = bytearray(hashlib.sha512(seed_of("victim")).digest()[:32])
    digest[0] &= 248
    digest[31] = digest[31] & 127 | 64
    return bytes(digest)


TORSION = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")


def torsioned(message: bytes) -> bytes:
    """A signature that a strict verifier refuses and a batch may accept: R carries a point of order 8."""
    nonce = crypto_core_ed25519_scalar_reduce(hashlib.sha512(b"nonce" + message).digest())
    point = crypto_core_ed25519_add(crypto_scalarmult_ed25519_base_noclamp(nonce), TORSION)
    challenge = hashlib.sha512(point + VICTIM.public_key + message).digest()
    product = crypto_core_ed25519_scalar_mul(
        crypto_core_ed25519_scalar_reduce(challenge),
        crypto_core_ed25519_scalar_reduce(victim_scalar() + bytes(32)),
    )
    return point + crypto_core_ed25519_scalar_add(nonce, product)


def test_crafted_signature_has_one_verdict_alone_and_in_any_batch(ward: Ward) -> None:
    """Else two auditors disagree about one record. By ZIP 215 it is a signature, also twice."""
    payload = payload_of(VICTIM.did)
    message = pae(pae_prefix(PayloadKind.TELEMETRY, LOG), payload)
    crafted = torsioned(message)
    assert verify_batch([VICTIM.public_key], [message], [crafted]) == [True]
    record = from_victim(SignedEnvelope(payload, (Signature("k1", crafted),)).encode())
    plain = from_victim(envelope_of(payload, VICTIM))
    assert ward.verdict(record) == "accepted"
    # The same payload under another valid signature is the same event: no second life by malleability.
    assert ward.verdict(plain) == "replay"
    assert ward.verdict(record) == "replay"
    for size in (1, 7, 64):
        other = Ward()
        filler = [from_victim(event_of("victim", sequence=n + 2)) for n in range(size)]
        outcome = other.judge_records(record, *filler)
        assert len(outcome.accepted) == size + 1


def test_malleated_signature(ward: Ward) -> None:
    """S plus the group order satisfies the equation; ZIP 215 demands S below it."""
    good = decode_envelope(event_of("victim"))
    raw = good.signatures[0].signature
    high = int.from_bytes(raw[32:], "little") + GROUP_ORDER
    malleated = raw[:32] + high.to_bytes(32, "little")
    value = SignedEnvelope(good.payload, (Signature("k1", malleated),)).encode()
    assert ward.verdict(from_victim(value)) == "bad_signature"


# ---- replay ----------------------------------------------------------------------------------------------


def test_replay(ward: Ward) -> None:
    captured = from_victim(event_of("victim"))
    assert ward.verdict(captured) == "accepted"
    assert ward.verdict(captured) == "replay"
    ward.restart()
    assert ward.verdict(captured) == "replay"
    outcome = ward.judge_records(*[captured] * 50)
    assert {item.reason.value for item in outcome.rejected} == {"replay"}
    assert outcome.findings == []


def test_replay_in_another_wrapping(ward: Ward) -> None:
    """Headers, further signatures and their order are not the event; its payload is."""
    ward.topic.enroll("approver", "APPROVAL")
    payload = payload_of(VICTIM.did)
    plain = envelope_of(payload, VICTIM)
    approved = envelope_of(payload, VICTIM, approval_of("approver", payload))
    assert ward.verdict(from_victim(approved)) == "accepted"
    assert ward.verdict(from_victim(plain)) == "replay"
    assert ward.verdict(replace(from_victim(approved), headers=(("fresh", b"yes"),))) == "replay"


def test_replay_older_than_memory_and_of_an_older_boot(ward: Ward) -> None:
    first = from_victim(event_of("victim"))
    assert ward.verdict(first) == "accepted"
    ward.judge_records(*[from_victim(event_of("victim", sequence=n)) for n in range(2, 100)])
    assert ward.verdict(first) == "stale"
    assert ward.verdict(from_victim(event_of("victim", boot=2))) == "accepted"
    assert ward.verdict(from_victim(event_of("victim", sequence=100))) == "stale"
    assert ward.verdict(first) == "stale"


def test_replay_where_no_state_is_kept(ward: Ward) -> None:
    """In another partition, or under another key, the memory of its device is not."""
    captured = from_victim(event_of("victim"))
    assert ward.verdict(captured) == "accepted"
    home = partition_of(VICTIM.did.encode(), PARTITIONS)
    for partition in set(range(PARTITIONS)) - {home}:
        assert ward.verdict(replace(captured, partition=partition)) == "wrong_partition"
    for key in (None, b"", MALLORY.did.encode()):
        assert ward.verdict(replace(captured, key=key)) == "wrong_partition"


def test_equivocation(ward: Ward) -> None:
    assert ward.verdict(from_victim(event_of("victim"))) == "accepted"
    outcome = ward.judge_records(from_victim(event_of("victim", values=[1.0, 2.0])))
    assert [item.reason.value for item in outcome.rejected] == ["equivocation"]
    (finding,) = outcome.findings
    assert finding.rule == "equivocation"
    assert [each.offset for each in finding.evidence] == [1, 0]


def test_forged_equivocation_does_not_discredit_a_device(ward: Ward) -> None:
    assert ward.verdict(from_victim(event_of("victim"))) == "accepted"
    forged = envelope_of(payload_of(VICTIM.did, values=[1.0, 2.0]), replace(MALLORY, key_id="k1"))
    outcome = ward.judge_records(from_victim(forged))
    assert [item.reason.value for item in outcome.rejected] == ["bad_signature"]
    assert outcome.findings == []


def test_forged_high_sequence_does_not_block_the_device(ward: Ward) -> None:
    for changes in ({"sequence": 2**62}, {"boot": 2**62}):
        forged = envelope_of(payload_of(VICTIM.did, **changes), replace(MALLORY, key_id="k1"))  # type: ignore[arg-type]
        assert ward.verdict(from_victim(forged)) == "bad_signature"
    assert ward.states == {}
    assert ward.verdict(from_victim(event_of("victim"))) == "accepted"


def test_captured_event_held_back_and_released_late(ward: Ward) -> None:
    for sequence in (1, 2, 4):
        assert ward.verdict(from_victim(event_of("victim", sequence=sequence))) == "accepted"
    assert ward.verdict(from_victim(event_of("victim", sequence=3))) == "late"


# ---- keys that have ended --------------------------------------------------------------------------------


def test_stolen_key_after_revocation_rotation_or_decommission(ward: Ward) -> None:
    ward.topic.write(VICTIM.did, "ROTATE", key=new_key("k2", "new key"))
    assert ward.verdict(from_victim(event_of("victim"))) == "revoked_key"
    renewed = replace(identity_of("new key"), did=VICTIM.did, key_id="k2")
    value = envelope_of(payload_of(VICTIM.did), renewed)
    assert ward.verdict(from_victim(value)) == "accepted"
    # The old key under the new key's name is just a wrong signature.
    renamed = envelope_of(payload_of(VICTIM.did, sequence=2), replace(VICTIM, key_id="k2"))
    assert ward.verdict(from_victim(renamed)) == "bad_signature"
    ward.topic.write(VICTIM.did, "DECOMMISSION")
    assert (
        ward.verdict(from_victim(envelope_of(payload_of(VICTIM.did, sequence=2), renewed)))
        == "decommissioned"
    )


def test_approval_key_signs_no_event_and_event_key_approves_nothing(ward: Ward) -> None:
    ward.topic.enroll("doctor", "APPROVAL")
    assert ward.verdict(sent("doctor", event_of("doctor"))) == "unknown_key"
    payload = payload_of(VICTIM.did)
    assert (
        ward.verdict(from_victim(envelope_of(payload, VICTIM, approval_of("mallory", payload))))
        == "unknown_key"
    )


def test_a_bad_approval_is_not_quietly_dropped(ward: Ward) -> None:
    ward.topic.enroll("doctor", "APPROVAL")
    payload = payload_of(VICTIM.did)
    stolen = approval_of("doctor", payload_of(VICTIM.did, sequence=7))
    assert ward.verdict(from_victim(envelope_of(payload, VICTIM, stolen))) == "bad_signature"


# ---- bytes that should stop a partition ------------------------------------------------------------------


def test_poison_costs_one_rejection_each(ward: Ward) -> None:
    good = event_of("victim")
    header = CODEC.header("signed_envelope")
    poison = [
        b"\xc3",
        header,
        header + b"\xff" * 60_000,
        header + b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        header + b"\x00\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        header + b"\x00\x01",
        good * 100,
        good[:10] + good,
        bytes(1_048_000),
        envelope_of(payload_of(VICTIM.did, values=[float("nan"), 1.0]), VICTIM),
        envelope_of(payload_of(VICTIM.did, time=4_102_444_800_000_000), VICTIM),
        envelope_of(payload_of("did:web:" + "\U0010ffff" * 500), VICTIM),
        SignedEnvelope(payload_of(VICTIM.did), (Signature("k" * 50_000, bytes(64)),)).encode(),
    ]
    outcome = ward.judge_records(*map(from_victim, poison), from_victim(good))
    assert len(outcome.rejected) == len(poison)
    assert len(outcome.accepted) == 1
    late = replace(from_victim(event_of("victim", sequence=2)), append_ms=NOW_MS + 10)
    assert ward.verdict(late) == "accepted"
