"""Attacks on evidence, by name: what an operator, a courier or a liar can hand to somebody who doubts.

The doubter has a trust file and nothing else. What these files cannot show is said in `not_proven`.
"""

import json
from dataclasses import replace

import pytest

from pipeline.verify import verify
from processors.verification.verdict import Verdict
from schemas.checkpoint import Checkpoint, sign_checkpoint
from schemas.envelope import PayloadKind, SignedEnvelope
from schemas.evidence import ChainPoint, Evidence, EvidenceError, parse_evidence
from schemas.note import CosignatureSigner, Ed25519Signer, Note, format_note, sign_note
from schemas.records import encode_leaf, record_digest
from schemas.tlogproof import format_tlog_proof, parse_tlog_proof
from tests.kit.parties import (
    LOG,
    NOW_MS,
    TRUST,
    RegistryTopic,
    event_of,
    identity_of,
    key_of,
    new_key,
    registry_payload,
    seed_of,
)
from tests.kit.smalllog import (
    LEDGER,
    SHARDS,
    TRUSTED,
    SmallLog,
    SmallTree,
    leaf_of,
    receipt_of,
    resealed,
)

GENUINE = SmallLog(SHARDS)
FILE = GENUINE.evidence(index=3)
PLACE = ("device.events", 0)
DEVICE = identity_of("device")


def log_of_event(chain: RegistryTopic, offset: int) -> SmallLog:
    """A log whose first event was judged at an offset of that registry."""
    log = SmallLog(SHARDS, chain=chain)
    headers = (("registry.offset", b"%d" % offset), log.records[PLACE][0].headers[1])
    log.records[PLACE][0] = replace(log.records[PLACE][0], headers=headers)
    log.shards[PLACE].entries[0] = leaf_of(log.records[PLACE][0])
    return resealed(log)


def judged(evidence: Evidence) -> Verdict:
    """As the doubter does it: from the file's bytes."""
    return verify(parse_evidence(evidence.to_json().encode()), TRUSTED)


def fails(evidence: Evidence, step: str) -> None:
    broken = judged(evidence).broken
    assert broken is not None
    assert broken.name == step, broken


# ---- the courier -----------------------------------------------------------------------------------------


def test_changed_value_key_header_offset_or_time() -> None:
    record = FILE.record
    for changed in (
        replace(record, value=event_of("device", sequence=4, values=[20.0, 98.0])),
        replace(record, key=b"did:key:another"),
        replace(record, headers=(("registry.offset", b"0"), *record.headers[1:])),
        replace(record, headers=(*record.headers, ("reason", b"replay"))),
        replace(record, offset=record.offset + 2),
        replace(record, timestamp_ms=record.timestamp_ms - 86_400_000),
    ):
        fails(replace(FILE, record=changed), "record")
        fails(replace(FILE, record=changed, leaf=leaf_of(changed)), "leaf in shard")


def test_value_moved_into_key_or_header() -> None:
    """Parts are length-prefixed: no two records have the same digest."""
    record = FILE.record
    key, value = record.key or b"", record.value or b""
    for changed in (
        replace(record, key=key + value, value=b""),
        replace(record, key=None, value=key + value),
        replace(record, headers=((record.headers[0][0] + "3", b""), *record.headers[1:])),
        replace(record, headers=(record.headers[0],), value=(record.headers[1][1] or b"") + value),
        replace(
            record, key=key[:-1], headers=((key[-1:].decode() + "registry.offset", b"3"), record.headers[1])
        ),
    ):
        fails(replace(FILE, record=changed), "record")


def test_record_passed_off_as_of_another_topic() -> None:
    """A rejection is not an accepted event, and no event of partition 1 is one of partition 0."""
    rejected = GENUINE.evidence("device.rejected", 0, 0)
    assert judged(rejected).holds
    for topic, partition in (("device.events", 0), ("device.rejected", 1), ("alerts", 0)):
        moved = replace(rejected.record, topic=topic, partition=partition)
        fails(replace(rejected, record=moved), "shard checkpoint")


def test_receipt_of_another_root() -> None:
    bigger = SmallLog([*SHARDS, ("device.findings", 0, 2)])
    fails(replace(FILE, anchor=bigger.evidence().anchor), "ledger receipt")


def test_receipt_taken_out_is_seen() -> None:
    verdict = judged(replace(FILE, anchor=None))
    assert verdict.holds
    assert any("was anchored" in each for each in verdict.not_proven)


def test_receipt_of_another_ledger_topic_or_payer() -> None:
    assert FILE.anchor is not None
    for changed in ({"topic": "0.0.9"}, {"payer": "0.0.9"}, {"ledger": "hedera:mainnet"}):
        fails(replace(FILE, anchor=replace(FILE.anchor, **changed)), "ledger receipt")  # type: ignore[arg-type]


# ---- the operator ----------------------------------------------------------------------------------------


def test_rewritten_record_in_a_forked_shard() -> None:
    """The log's own key signs another history of the shard; the epoch log does not know it."""
    changed = replace(FILE.record, value=event_of("device", sequence=4, values=[70.0, 99.0]))
    tree = GENUINE.shards[PLACE]
    forked = SmallTree(tree.origin, "log", [*tree.entries[:3], leaf_of(changed), *tree.entries[4:]])
    rewritten = replace(
        FILE, record=changed, leaf=leaf_of(changed), shard_proof=forked.proof(3, forked.signed())
    )
    fails(rewritten, "shard in epoch log")


def test_checkpoint_shown_to_one_person_only() -> None:
    tree = GENUINE.shards[PLACE]
    fails(replace(FILE, shard_proof=tree.proof(3, tree.signed(5), 5)), "shard in epoch log")


def test_forked_epoch_log_is_a_root_that_no_receipt_fits() -> None:
    """Whoever holds the log key can fork everything; the anchored root is what he cannot have twice."""
    fork = SmallLog(SHARDS)
    fork.epoch.entries.reverse()
    forked = fork.evidence(index=3)
    fails(replace(forked, anchor=FILE.anchor), "ledger receipt")
    unanchored = judged(replace(forked, anchor=None))
    assert unanchored.holds
    assert any("was anchored" in each for each in unanchored.not_proven)


def test_checkpoint_of_the_same_log_for_another_purpose() -> None:
    """The log key also signs the list of shards; no note of it passes for a checkpoint."""
    tree = GENUINE.shards[PLACE]
    text = f"{LOG}/shards\n7\nAAAA\n"
    for name, note in {
        "shard list": sign_note(text, [Ed25519Signer.from_seed(f"{LOG}/shards", seed_of("log"))]),
        "other origin inside": sign_note(
            GENUINE.epoch.signed().text, [Ed25519Signer.from_seed(tree.origin, seed_of("log"))]
        ),
        "signed under the log's name": sign_note(
            tree.signed().text, [Ed25519Signer.from_seed(LOG, seed_of("log"))]
        ),
        "cosigned with the log key": sign_note(
            tree.signed().text, [CosignatureSigner.from_seed(tree.origin, seed_of("log"), NOW_MS // 1000)]
        ),
        "another shard's": GENUINE.shards["device.events", 1].signed(),
    }.items():
        proof = replace(parse_tlog_proof(FILE.shard_proof), checkpoint=note)
        broken = judged(replace(FILE, shard_proof=format_tlog_proof(proof))).broken
        assert broken is not None, name
        assert broken.name == "shard checkpoint", name


def test_checkpoint_with_lines_added_below_its_root() -> None:
    tree = GENUINE.shards[PLACE]
    checkpoint = Checkpoint(tree.origin, 7, bytes.fromhex("00" * 32), ("extension",))
    note = sign_checkpoint(checkpoint, [Ed25519Signer.from_seed(tree.origin, seed_of("log"))])
    proof = replace(parse_tlog_proof(FILE.shard_proof), checkpoint=note)
    fails(replace(FILE, shard_proof=format_tlog_proof(proof)), "leaf in shard")


def test_epoch_entry_or_inner_node_passed_off_as_a_record() -> None:
    entry = GENUINE.epoch.entries[0]
    fails(replace(FILE, leaf=entry), "record")
    record = replace(FILE.record, topic="log.checkpoints", value=entry)
    fails(replace(FILE, record=record), "record")


def test_leaf_with_bytes_after_its_end() -> None:
    fails(replace(FILE, leaf=FILE.leaf + b"\0"), "record")
    record = FILE.record
    digest = record_digest(record.key, record.headers, record.value)
    other = encode_leaf(record.offset, record.timestamp_ms + 1, digest)
    fails(replace(FILE, leaf=other), "record")


# ---- keys that were stolen, ended or made up ---------------------------------------------------------------


def test_event_of_a_stolen_key_behind_its_revocation() -> None:
    """The thief's event is judged at the offset that the operator wrote down; the mark is in the chain."""
    chain = RegistryTopic()
    chain.enroll("device")
    chain.write(DEVICE.did, "REVOKE", revoked="k1", compromised_since=NOW_MS * 1000 - 5)
    fails(log_of_event(chain, 2).evidence(), "signatures")
    verdict = judged(log_of_event(chain, 1).evidence())
    assert verdict.holds
    assert "compromised" in verdict.warnings[0]


def test_revocation_left_out_of_the_file() -> None:
    """Nobody can prove from a chosen chain that nothing is missing in it: the verdict says so."""
    chain = RegistryTopic()
    chain.enroll("device")
    chain.write(DEVICE.did, "REVOKE", revoked="k1")
    evidence = log_of_event(chain, 2).evidence()
    verdict = judged(replace(evidence, registry=evidence.registry[:1]))
    assert verdict.holds
    assert any("no other registry entry before offset 2" in each for each in verdict.not_proven)


def test_registration_by_an_authority_of_ones_own() -> None:
    trust = replace(TRUST, authorities={"authority-1": key_of("mallory")})
    chain = RegistryTopic(trust)
    payload = registry_payload(DEVICE.did, "REGISTER", 1, key=new_key("k1", "device"))
    mallory = replace(identity_of("mallory"), key_id="authority-1")
    signature = mallory.sign(PayloadKind.REGISTRY_ENTRY, LOG, payload)
    chain.put(DEVICE.did.encode(), SignedEnvelope(payload, (signature,)).encode())
    evidence = log_of_event(chain, 1).evidence()
    assert verify(evidence, replace(TRUSTED, authorities=trust.authorities)).holds
    fails(evidence, "registry chain")


def test_log_key_that_was_replaced_is_believed_with_a_warning() -> None:
    trust = replace(TRUSTED, log_key=key_of("new log"), previous_log_keys=(key_of("log"),))
    verdict = verify(FILE, trust)
    assert verdict.holds
    assert "earlier key" in verdict.warnings[0]
    # A shard's checkpoint from before the rotation is vouched for by the epoch log's new signature.
    log = SmallLog(SHARDS)
    log.epoch.log = "new log"
    verdict = verify(log.evidence(index=3), trust)
    assert verdict.holds
    assert verdict.warnings == []
    assert not verify(FILE, replace(trust, previous_log_keys=())).holds


# ---- the mirror ------------------------------------------------------------------------------------------


def test_mirror_that_changes_a_message() -> None:
    receipt = FILE.anchor
    assert receipt is not None
    (own,) = receipt.segment
    for changed in (
        replace(receipt, consensus_timestamp_ns=receipt.consensus_timestamp_ns - 1),
        replace(receipt, segment=(replace(own, consensus_timestamp_ns=own.consensus_timestamp_ns - 1),)),
    ):
        fails(replace(FILE, anchor=changed), "ledger receipt")


def test_mirror_that_makes_a_whole_segment_up() -> None:
    """In itself without fault, so it is called unsigned; one true running hash from elsewhere refutes it."""
    invented = receipt_of(GENUINE.epoch.signed(), sequence=40, behind=2)
    verdict = judged(replace(FILE, anchor=invented))
    assert verdict.holds
    assert "unsigned" in verdict.steps[-1].by
    true_point = ChainPoint(42, bytes(48))
    trust = replace(TRUSTED, ledger=replace(LEDGER, checkpoints=(true_point,)))
    broken = verify(replace(FILE, anchor=invented), trust).broken
    assert broken is not None
    assert broken.name == "ledger receipt"


# ---- the liar who brings his own log ---------------------------------------------------------------------


def test_a_log_of_ones_own() -> None:
    own = SmallLog(SHARDS, key="mallory")
    fails(own.evidence(), "shard checkpoint")
    assert verify(own.evidence(), replace(TRUSTED, log_key=key_of("mallory"))).holds


def test_trust_brought_along_in_the_evidence_is_not_read() -> None:
    own = SmallLog(SHARDS, key="mallory").evidence()
    document = json.loads(own.to_json())
    own_trust = json.loads(replace(TRUSTED, log_key=key_of("mallory")).to_json())
    for extra in ({"trust": own_trust}, own_trust, {"log_key": own_trust["log_key"]}):
        for holder in (document, document["record"], document["anchor"]):
            holder.update(extra)
    try:
        evidence = parse_evidence(json.dumps(document).encode())
    except EvidenceError:
        return
    assert not verify(evidence, TRUSTED).holds


def test_stripped_or_added_log_signature() -> None:
    tree = GENUINE.shards[PLACE]
    proof = parse_tlog_proof(FILE.shard_proof)
    mallory = Ed25519Signer.from_seed(tree.origin, seed_of("mallory"))
    renamed = sign_note(tree.signed().text, [mallory])
    fails(
        replace(FILE, shard_proof=format_tlog_proof(replace(proof, checkpoint=renamed))), "shard checkpoint"
    )
    unsigned = format_tlog_proof(proof).split("— ".encode())[0]
    fails(replace(FILE, shard_proof=unsigned), "shard checkpoint")
    # A foreign signature beside the true one is legal in a note, which then is not the epoch log's entry.
    both = Note(proof.checkpoint.text, (*renamed.signatures, *proof.checkpoint.signatures))
    fails(replace(FILE, shard_proof=format_tlog_proof(replace(proof, checkpoint=both))), "shard in epoch log")


# ---- files that should bring the verifier down -----------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"format": "attestream-evidence/v1"}',
        b"9" * 100_000,
        b'{"format": ' + b"9" * 100_000 + b"}",
        b"\xff\xfe{\x00}\x00",
        b" " * (9 << 20),
        json.dumps({**json.loads(FILE.to_json()), "record": {"partition": -1}}).encode(),
    ],
    ids=[
        "empty",
        "nested lists",
        "nested objects",
        "no members",
        "digits",
        "huge number",
        "utf-16",
        "9 MiB",
        "minus",
    ],
)
def test_hostile_file_is_one_error(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_evidence(data)


def test_two_members_of_one_name() -> None:
    """Else one reader sees the proven record and another reader the lie."""
    text = FILE.to_json()
    lie = json.dumps(json.loads(text)["record"] | {"value": "bGll"})
    for twice in (
        text[:-2] + f', "record": {lie}}}',
        text.replace('{\n  "format"', f'{{"record": {lie}, "format"', 1),
    ):
        with pytest.raises(EvidenceError):
            parse_evidence(twice.encode())


def test_proofs_of_absurd_size() -> None:
    proof = parse_tlog_proof(FILE.shard_proof)
    long = format_tlog_proof(replace(proof, hashes=(bytes(32),) * 63))
    fails(replace(FILE, shard_proof=long), "leaf in shard")
    head, _, tail = long.partition(b"\n\n")
    more = head + b"\n" + b"A" * 43 + b"=\n\n" + tail
    fails(replace(FILE, shard_proof=more), "shard checkpoint")
    fails(replace(FILE, shard_proof=b"A" * 3_000_000), "shard checkpoint")
    far = format_tlog_proof(replace(proof, index=2**63 - 1))
    fails(replace(FILE, shard_proof=far), "leaf in shard")


def test_many_signature_lines() -> None:
    proof = parse_tlog_proof(FILE.epoch_proof)
    line = format_note(proof.checkpoint).rpartition(b"\n\n")[2]
    alone = FILE.redacted()
    repeated = FILE.epoch_proof + line * 99
    assert judged(replace(alone, epoch_proof=repeated)).holds  # the same signature, said again
    fails(replace(alone, epoch_proof=FILE.epoch_proof + line * 100), "epoch checkpoint")
