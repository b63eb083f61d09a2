"""Who signed a record: registry entries in the log that count, keys valid by them, every signature."""

from dataclasses import replace

import pytest

from pipeline.verify import verify
from processors.verification.verdict import Verdict
from schemas.envelope import PayloadKind, SignedEnvelope
from schemas.evidence import Evidence, EvidenceRecord
from schemas.records import Headers
from schemas.tlogproof import format_tlog_proof, parse_tlog_proof
from schemas.trust import TrustRoot
from tests.kit.parties import (
    NOW_MS,
    REGISTRY,
    RegistryTopic,
    approval_of,
    envelope_of,
    event_of,
    identity_of,
    new_key,
    payload_of,
    seed_of,
)
from tests.kit.smalllog import SHARDS, TRUSTED, SmallLog, as_evidence, leaf_of, registry, resealed

DEVICE = identity_of("device")
NOW_US = NOW_MS * 1000


def headers(offset: int | bytes | None) -> Headers:
    value = b"%d" % offset if isinstance(offset, int) else offset
    return (("registry.offset", value), ("source", b"device.telemetry.raw/0/0"))


def log_of(
    value: bytes | None,
    chain: RegistryTopic | None = None,
    offset: int | bytes | None = 3,
    *,
    key: bytes | None = DEVICE.did.encode(),
    all_headers: Headers | None = None,
) -> SmallLog:
    """A log whose first event is `value`, judged at a registry offset."""
    log = SmallLog(SHARDS, chain=chain)
    event = EvidenceRecord(
        "device.events", 0, 0, NOW_MS, key, headers(offset) if all_headers is None else all_headers, value
    )
    log.records["device.events", 0][0] = event
    log.shards["device.events", 0].entries[0] = leaf_of(event)
    return resealed(log)


def fails(evidence: Evidence, step: str, words: str = "", trust: TrustRoot = TRUSTED) -> None:
    broken = verify(evidence, trust).broken
    assert broken is not None
    assert (broken.name, words in broken.detail) == (step, True), broken


def holds(evidence: Evidence, trust: TrustRoot = TRUSTED) -> Verdict:
    verdict = verify(evidence, trust)
    assert verdict.holds, verdict.broken
    return verdict


def detail(verdict: Verdict, name: str) -> str:
    return next(step.detail for step in verdict.steps if step.name == name)


GOOD = log_of(event_of("device")).evidence()

# ---- what it says ----------------------------------------------------------------------------------------


def test_device_boot_sequence_key_and_authority_are_named() -> None:
    verdict = holds(GOOD)
    said = detail(verdict, "signatures")
    for words in (
        "telemetry of boot 1, sequence 1",
        "under key k1",
        "registry offset 3",
        "device's own time",
    ):
        assert words in said
    by = {step.name: step.by for step in verdict.steps}
    assert by["signatures"] == f"device {DEVICE.did}"
    assert by["registry chain"] == "authorities authority-1"
    assert verdict.warnings == []


@pytest.mark.parametrize("kind", [PayloadKind.ACCESS, PayloadKind.LIFECYCLE])
def test_events_of_every_kind(kind: PayloadKind) -> None:
    value = envelope_of(payload_of(DEVICE.did, kind), DEVICE, kind=kind)
    assert f"{kind.value} of boot 1" in detail(holds(log_of(value).evidence()), "signatures")


def test_approvals_and_their_chains() -> None:
    chain = RegistryTopic()
    chain.enroll("device")
    chain.enroll("nurse", "APPROVAL")
    chain.enroll("doctor", "APPROVAL")
    payload = payload_of(DEVICE.did)
    value = envelope_of(payload, DEVICE, approval_of("nurse", payload), approval_of("doctor", payload))
    evidence = log_of(value, chain).evidence()
    assert len(evidence.registry) == 3
    assert "and 2 approvals" in detail(holds(evidence), "signatures")
    without = replace(evidence, registry=evidence.registry[:2])
    fails(without, "signatures", "is not registered")
    forged = envelope_of(payload, DEVICE, replace(approval_of("nurse", payload), signature=bytes(64)))
    fails(log_of(forged, chain).evidence(), "signatures", "bad_signature")


def test_records_without_a_device_say_what_does_not_apply() -> None:
    log = SmallLog([*SHARDS, ("alerts", 0, 1), ("device.findings", 0, 1)])
    for topic, words in {
        "device.rejected": "pipeline's own statement",
        "device.findings": "pipeline's own statement",
        "alerts": "pipeline's own statement",
        REGISTRY: "signed by authorities",
    }.items():
        verdict = holds(log.evidence(topic))
        for name in ("registry chain", "signatures"):
            assert detail(verdict, name).startswith("does not apply: ")
            assert words in detail(verdict, name)


def test_a_withheld_value_hides_who_signed() -> None:
    evidence = GOOD.redacted()
    verdict = holds(evidence)
    assert "its value is withheld" in detail(verdict, "record")
    assert "withheld" in detail(verdict, "signatures")
    assert any("who signed it" in each for each in verdict.not_proven)
    record = evidence.record
    for changed in (
        replace(record, withheld=bytes(32)),
        replace(record, key=b"did:key:other"),
        replace(record, headers=()),
        replace(record, withheld=None),
    ):
        fails(replace(evidence, record=changed), "record")


def test_entries_that_no_signature_needs_are_refused() -> None:
    """Else a file could carry bytes that nothing covers."""
    fails(replace(GOOD.redacted(), registry=GOOD.registry), "registry chain", "needs")
    rejected = SmallLog(SHARDS).evidence("device.rejected")
    fails(replace(rejected, registry=GOOD.registry), "registry chain", "needs")
    log = log_of(event_of("device"))
    note = log.epoch.signed()
    everybody = tuple(log.proven((REGISTRY, 0), number, note) for number in range(3))
    fails(replace(log.evidence(), registry=everybody), "signatures", "who signed nothing here")


# ---- the chain -------------------------------------------------------------------------------------------


def test_a_chain_that_was_left_out_or_cut() -> None:
    fails(replace(GOOD, registry=()), "signatures", "unknown_device")
    chain = RegistryTopic()
    chain.enroll("device")
    chain.write(DEVICE.did, "ROTATE", key=new_key("k2", "device 2"))
    value = envelope_of(payload_of(DEVICE.did), replace(DEVICE, key_id="k2", seed=seed_of("device 2")))
    evidence = log_of(value, chain, 2).evidence()
    holds(evidence)
    fails(replace(evidence, registry=evidence.registry[1:]), "registry chain", "version 2")
    fails(replace(evidence, registry=evidence.registry[:1]), "signatures", "unknown_key")
    fails(replace(evidence, registry=evidence.registry[::-1]), "registry chain", "does not stand behind")
    fails(replace(evidence, registry=evidence.registry[:1] * 2), "registry chain", "does not stand behind")


def test_an_entry_that_is_not_in_the_log() -> None:
    """Signed by an authority, for this device, and never published: a registry shown to one person."""
    (entry,) = GOOD.registry
    other = RegistryTopic()
    other.enroll("device", "APPROVAL")
    secret = as_evidence(other.records[0])
    moved = replace(secret, offset=1, timestamp_ms=entry.record.timestamp_ms)
    fails(replace(GOOD, registry=(replace(entry, record=moved),)), "registry chain", "digest")
    forged = replace(entry, record=moved, leaf=leaf_of(moved))
    fails(replace(GOOD, registry=(forged,)), "registry chain", "registry entry at 1")


def test_entry_of_another_topic_partition_or_log() -> None:
    (entry,) = GOOD.registry
    for changed in ({"topic": "device.events"}, {"partition": 1}, {"topic": "log.checkpoints"}):
        record = replace(entry.record, **changed)
        fails(replace(GOOD, registry=(replace(entry, record=record),)), "registry chain", "it is a record of")
    stranger = SmallLog(SHARDS, key="mallory").evidence().registry
    fails(replace(GOOD, registry=stranger), "registry chain", "no trusted key")


def test_entry_under_another_checkpoint_of_the_epoch_log() -> None:
    """Both true, of one log, at two times: who may choose for each entry could show an older registry."""
    later = SmallLog([*SHARDS, ("alerts", 0, 1)]).evidence().registry
    fails(replace(GOOD, registry=later), "registry chain", "another checkpoint of the epoch log")


def test_proofs_of_an_entry_that_do_not_fit() -> None:
    (entry,) = GOOD.registry
    for name in ("shard_proof", "epoch_proof"):
        proof = parse_tlog_proof(getattr(entry, name))
        for changed in (
            replace(proof, index=proof.index + 1),
            replace(proof, hashes=proof.hashes[:-1]),
            replace(proof, hashes=(bytes(32), *proof.hashes[1:])),
        ):
            wrong = replace(entry, **{name: format_tlog_proof(changed)})  # type: ignore[arg-type]
            fails(replace(GOOD, registry=(wrong,)), "registry chain", "registry entry at 1")
        garbage = replace(entry, **{name: b"nothing"})  # type: ignore[arg-type]
        fails(replace(GOOD, registry=(garbage,)), "registry chain", "registry entry at 1")


def test_offsets_must_leave_room_for_the_leaves_between() -> None:
    """Two entries shown as neighbours, while the tree has more leaves between them than there are offsets."""
    chain = RegistryTopic()
    chain.enroll("device")
    for number in range(3):
        chain.enroll(f"filler {number}")
    chain.write(DEVICE.did, "ROTATE", key=new_key("k2", "device 2"))
    log = SmallLog(SHARDS, chain=chain)
    records = log.records[REGISTRY, 0]
    for number, offset in ((0, 2), (4, 5)):  # three offsets on, four leaves on
        records[number] = replace(records[number], offset=offset)
        log.shards[REGISTRY, 0].entries[number] = leaf_of(records[number])
    value = envelope_of(payload_of(DEVICE.did), replace(DEVICE, key_id="k2", seed=seed_of("device 2")))
    event = replace(log.records["device.events", 0][0], value=value, headers=headers(6))
    log.records["device.events", 0][0] = event
    log.shards["device.events", 0].entries[0] = leaf_of(event)
    fails(resealed(log).evidence(), "registry chain", "does not stand behind")


def test_withheld_entry_does_not_count() -> None:
    (entry,) = GOOD.registry
    hidden = Evidence(entry.record, b"", b"", b"").redacted().record
    fails(replace(GOOD, registry=(replace(entry, record=hidden),)), "registry chain", "does not count")


def test_authorities_and_threshold_are_the_trust_files() -> None:
    nobody = replace(TRUSTED, authorities={})
    fails(GOOD, "registry chain", "no authority of the trust root", nobody)
    fails(GOOD, "registry chain", "1 authorities signed, 2 must", replace(TRUSTED, authority_threshold=2))


# ---- the registry offset ---------------------------------------------------------------------------------


def rotated() -> RegistryTopic:
    chain = RegistryTopic()
    chain.enroll("device")
    chain.enroll("other")
    chain.write(DEVICE.did, "ROTATE", key=new_key("k2", "device 2"))
    return chain


@pytest.mark.parametrize(("offset", "valid"), [(0, False), (1, True), (2, True), (3, False), (99, False)])
def test_a_key_counts_as_of_the_registry_offset(offset: int, valid: bool) -> None:
    evidence = log_of(event_of("device"), rotated(), offset).evidence()
    if valid:
        assert holds(evidence).warnings == []
    else:
        fails(evidence, "signatures")


def test_revoked_decommissioned_or_of_another_purpose() -> None:
    for action, revoked in {"REVOKE": "k1", "DECOMMISSION": None}.items():
        chain = RegistryTopic()
        chain.enroll("device")
        chain.write(DEVICE.did, action, revoked=revoked)
        holds(log_of(event_of("device"), chain, 1).evidence())
        fails(log_of(event_of("device"), chain, 2).evidence(), "signatures")
    chain = RegistryTopic()
    chain.enroll("device", "APPROVAL")
    fails(log_of(event_of("device"), chain, 1).evidence(), "signatures", "unknown_key")


@pytest.mark.parametrize("offset", [None, b"", b"three", b"03", b"-1", b"3 ", b"9" * 20])
def test_header_that_names_no_offset(offset: bytes | None) -> None:
    fails(log_of(event_of("device"), None, offset).evidence(), "registry chain", "registry.offset")


def test_header_that_is_missing_or_there_twice() -> None:
    for all_headers in ((), (*headers(3), ("registry.offset", b"1"))):
        evidence = log_of(event_of("device"), all_headers=all_headers).evidence()
        fails(evidence, "registry chain", "registry.offset")


def test_an_immense_offset_is_a_number_like_any_other() -> None:
    verdict = holds(log_of(event_of("device"), None, 2**62).evidence())
    assert any("no other registry entry" in each for each in verdict.not_proven)


def test_a_chain_without_a_gap_up_to_the_offset_proves_that_nothing_was_left_out() -> None:
    gap = "no other registry entry"
    for offset, is_open in ((1, True), (2, False), (3, True)):
        chain = registry() if offset != 1 else None
        evidence = log_of(event_of("device"), chain, max(2, offset)).evidence()
        found = any(gap in each for each in holds(evidence).not_proven)
        assert found is (offset == 3 and is_open)


# ---- compromised keys ------------------------------------------------------------------------------------


def compromised(mark_us: int | None) -> RegistryTopic:
    chain = RegistryTopic()
    chain.enroll("device")
    chain.write(DEVICE.did, "REVOKE", revoked="k1", compromised_since=mark_us)
    return chain


@pytest.mark.parametrize(
    ("mark_us", "warned"),
    [(NOW_US - 1, True), (NOW_US, True), (0, True), (NOW_US + 1, False), (2**62, False), (None, False)],
)
def test_a_key_marked_compromised_since_before_the_event_draws_a_warning(
    mark_us: int | None, warned: bool
) -> None:
    evidence = log_of(event_of("device"), compromised(mark_us), 1).evidence()
    assert len(evidence.registry) == 2
    verdict = holds(evidence)
    assert bool(verdict.warnings) is warned
    if warned:
        assert "marked as compromised since" in verdict.warnings[0]
        assert "k1" in verdict.warnings[0]
    assert "and 1 later" in detail(verdict, "registry chain")


def test_a_thief_who_dates_his_event_back_is_still_warned_of() -> None:
    """Event time is the key holder's claim, so the broker's time counts too."""
    value = event_of("device", time=NOW_US - 1_000_000_000)
    assert holds(log_of(value, compromised(NOW_US - 1), 1).evidence()).warnings


def test_later_entries_must_count_too() -> None:
    chain = RegistryTopic()
    chain.enroll("device")
    chain.put(DEVICE.did.encode(), b"whatever")
    fails(log_of(event_of("device"), chain, 1).evidence(), "signatures", "does not count")


# ---- the envelope ----------------------------------------------------------------------------------------


def test_value_that_no_device_signed() -> None:
    payload = payload_of(DEVICE.did)
    nobody = SignedEnvelope(payload, ()).encode()
    swapped = envelope_of(payload, identity_of("mallory"))
    other = SignedEnvelope(payload_of(DEVICE.did, sequence=2), (DEVICE.sign(*EVENT, payload),)).encode()
    for value, words in {
        swapped: "bad_signature",
        other: "bad_signature",
        envelope_of(payload, DEVICE, audience="other.example"): "bad_signature",
        envelope_of(payload, DEVICE, kind=PayloadKind.ACCESS): "bad_signature",
        nobody: "signatures",
        b"": "",
        b"\0" * 100: "",
        event_of("mallory"): "key is not the device id",
        registry().records[1].value or b"": "no event",
    }.items():
        fails(log_of(value).evidence(), "signatures", words)
    fails(log_of(None).evidence(), "signatures")
    fails(log_of(event_of("device"), key=None).evidence(), "signatures", "key is not the device id")


EVENT = (PayloadKind.TELEMETRY, TRUSTED.log_name)


def test_event_that_breaks_a_rule_of_its_fields() -> None:
    for changes in ({"sequence": 0}, {"codes": [1]}, {"values": [float("nan"), 1.0]}):
        fails(log_of(event_of("device", **changes)).evidence(), "signatures", "invalid_value")
