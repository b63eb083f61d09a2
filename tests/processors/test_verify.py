"""What evidence proves, what it does not, and that each byte of it counts."""

from dataclasses import replace

import pytest

from pipeline.verify import verify
from schemas.evidence import Evidence, parse_evidence
from schemas.note import CosignatureSigner, Ed25519Signer, Note, sign_note
from schemas.tlogproof import format_tlog_proof, parse_tlog_proof
from tests.kit.parties import NOW_MS, key_of, seed_of
from tests.kit.smalllog import (
    SHARDS,
    TRUSTED,
    SmallLog,
    SmallTree,
    leaf_of,
    record,
    witness,
)

LOG = SmallLog(SHARDS)
STEPS = [
    "record",
    "shard checkpoint",
    "leaf in shard",
    "epoch checkpoint",
    "shard in epoch log",
    "witnesses",
    "registry chain",
    "signatures",
    "ledger receipt",
]


def broken(evidence: Evidence) -> str:
    """The step at which evidence fails; the verdict must end there."""
    verdict = verify(evidence, TRUSTED)
    assert verdict.broken is not None, verdict
    assert not verdict.holds
    assert verdict.steps[-1] is verdict.broken
    assert [step.name for step in verdict.steps] == STEPS[: len(verdict.steps)]
    return verdict.broken.name


@pytest.mark.parametrize(
    ("topic", "partition", "index"),
    [(topic, partition, index) for topic, partition, count in SHARDS for index in range(count)],
)
def test_every_record_of_a_log_is_proven(topic: str, partition: int, index: int) -> None:
    evidence = LOG.evidence(topic, partition, index)
    verdict = verify(parse_evidence(evidence.to_json().encode()), TRUSTED)
    assert verdict.holds, verdict
    assert [step.name for step in verdict.steps] == STEPS
    assert f"leaf {index} of" in verdict.steps[2].detail


def test_what_is_not_proven_is_said() -> None:
    anchored = " ".join(verify(LOG.evidence(), TRUSTED).not_proven)
    for words in (
        "time:",
        "completeness:",
        "a single history:",
        "the unsigned word of mirror",
        "registry entry",
    ):
        assert words in anchored
    plain = verify(LOG.evidence(anchored=False), TRUSTED)
    assert plain.holds
    assert "that the root was anchored: the file has no receipt" in plain.not_proven
    assert plain.steps[-1].detail == "none in this file"


def test_a_tree_of_one_leaf_and_an_epoch_log_of_one_entry() -> None:
    log = SmallLog([("device.rejected", 0, 1)])
    del log.epoch.entries[1:]
    assert verify(log.evidence("device.rejected", anchored=False), TRUSTED).holds


# ---- other evidence than it should be --------------------------------------------------------------------

GOOD = LOG.evidence(index=2)


def test_any_part_of_the_record_changed() -> None:
    found = GOOD.record
    headers = tuple(found.headers)
    for changed in (
        replace(found, value=(found.value or b"")[:-1] + b"\1"),
        replace(found, value=None),
        replace(found, value=b""),
        replace(found, key=b"did:key:other"),
        replace(found, key=None),
        replace(found, headers=()),
        replace(found, headers=headers[::-1]),
        replace(found, headers=headers[:1]),
        replace(found, headers=(*headers, ("extra", None))),
        replace(found, headers=(("registry.offset", b"4"), *headers[1:])),
        replace(found, headers=(("registry.offset", None), *headers[1:])),
        replace(found, headers=(("Registry.offset", b"3"), *headers[1:])),
        replace(found, offset=found.offset + 1),
        replace(found, timestamp_ms=found.timestamp_ms + 1),
    ):
        assert broken(replace(GOOD, record=changed)) == "record"
    for topic, partition in (("device.events", 1), ("device.rejected", 0), ("device.findings", 0)):
        moved = replace(GOOD, record=replace(found, topic=topic, partition=partition))
        assert broken(moved) == "shard checkpoint"
    for topic in ("", "device.events/0", "a b", "device.events\n", "x" * 300, "\u2028"):
        assert broken(replace(GOOD, record=replace(found, topic=topic))) == "shard checkpoint"
    assert broken(replace(GOOD, record=replace(found, topic="log.checkpoints"))) == "record"


def test_a_leaf_that_fits_the_changed_record_is_not_in_the_tree() -> None:
    changed = replace(GOOD.record, value=b"another value")
    assert broken(replace(GOOD, record=changed, leaf=leaf_of(changed))) == "leaf in shard"


def test_another_records_proof_or_leaf() -> None:
    for index in range(7):
        if index != 2:
            other = LOG.evidence(index=index)
            assert broken(replace(GOOD, shard_proof=other.shard_proof)) == "leaf in shard"
            assert broken(replace(GOOD, leaf=other.leaf)) == "record"
            assert broken(replace(GOOD, record=other.record)) == "record"


def test_another_shards_checkpoint_or_proof() -> None:
    other = LOG.evidence(partition=1, index=2)
    assert broken(replace(GOOD, shard_proof=other.shard_proof)) == "shard checkpoint"
    assert broken(replace(GOOD, epoch_proof=other.epoch_proof)) == "shard in epoch log"
    mixed = replace(
        parse_tlog_proof(GOOD.shard_proof), checkpoint=parse_tlog_proof(other.shard_proof).checkpoint
    )
    assert broken(replace(GOOD, shard_proof=format_tlog_proof(mixed))) == "shard checkpoint"


def test_proofs_swapped_or_used_for_each_other() -> None:
    assert broken(replace(GOOD, shard_proof=GOOD.epoch_proof)) == "shard checkpoint"
    assert broken(replace(GOOD, epoch_proof=GOOD.shard_proof)) == "epoch checkpoint"
    swapped = replace(GOOD, shard_proof=GOOD.epoch_proof, epoch_proof=GOOD.shard_proof)
    assert broken(swapped) == "shard checkpoint"


def test_a_checkpoint_that_the_epoch_log_does_not_hold() -> None:
    """Signed by the log, true, and shown to one person only: a split view needs exactly this."""
    tree = LOG.shards["device.events", 0]
    evidence = replace(GOOD, shard_proof=tree.proof(2, tree.signed(5), 5))
    assert broken(evidence) == "shard in epoch log"
    forked = SmallTree(tree.origin, "log", [*tree.entries[:2], leaf_of(FORGED), *tree.entries[3:]])
    evidence = replace(
        GOOD, record=FORGED, leaf=leaf_of(FORGED), shard_proof=forked.proof(2, forked.signed())
    )
    assert broken(evidence) == "shard in epoch log"


FORGED = replace(record("device.events", 0, 4), value=b"what the operator would rather have")


def test_index_and_size_that_do_not_fit() -> None:
    shard = parse_tlog_proof(GOOD.shard_proof)
    for index in (0, 1, 3, 6, 7, 2**63 - 1):
        moved = format_tlog_proof(replace(shard, index=index))
        assert broken(replace(GOOD, shard_proof=moved)) == "leaf in shard"
    for hashes in (shard.hashes[:-1], (*shard.hashes, bytes(32)), shard.hashes[::-1], ()):
        changed = format_tlog_proof(replace(shard, hashes=hashes))
        assert broken(replace(GOOD, shard_proof=changed)) == "leaf in shard"
    smaller = LOG.shards["device.events", 0].signed(4)
    assert broken(replace(GOOD, shard_proof=format_tlog_proof(replace(shard, checkpoint=smaller)))) == (
        "leaf in shard"
    )


def test_a_node_of_the_tree_is_not_a_leaf() -> None:
    tree = LOG.shards["device.events", 0]
    shard = parse_tlog_proof(tree.proof(0, tree.signed()))
    higher = format_tlog_proof(replace(shard, hashes=shard.hashes[1:]))
    evidence = LOG.evidence(index=0)
    assert broken(replace(evidence, shard_proof=higher)) == "leaf in shard"


# ---- whom to believe -------------------------------------------------------------------------------------


def test_trust_is_never_taken_from_the_evidence() -> None:
    """A whole log of somebody else's making, in itself without fault."""
    impostor = SmallLog(SHARDS, key="impostor")
    assert verify(impostor.evidence(), replace(TRUSTED, log_key=key_of("impostor"))).holds
    assert broken(impostor.evidence()) == "shard checkpoint"
    mixed = replace(impostor.evidence(index=2), shard_proof=GOOD.shard_proof)
    assert broken(mixed) == "epoch checkpoint"


def test_another_logs_evidence_even_under_the_same_key() -> None:
    other = SmallLog(SHARDS, name="other.example")
    trust = replace(TRUSTED, log_name="other.example")
    assert verify(other.evidence("device.rejected"), trust).holds
    assert broken(other.evidence()) == "shard checkpoint"
    # What devices and authorities sign names the log, so an operator of two cannot move it over.
    moved = verify(other.evidence(), trust).broken
    assert moved is not None
    assert moved.name == "registry chain"
    assert "does not verify" in moved.detail
    assert not verify(GOOD, replace(TRUSTED, log_name="ward.exampl")).holds
    assert not verify(GOOD, replace(TRUSTED, log_name="ward.example/device.events")).holds


def test_a_weak_log_key_convinces_nobody() -> None:
    weak = b"\x01" + bytes(31)
    assert not verify(GOOD, replace(TRUSTED, log_key=weak)).holds
    assert not verify(GOOD, replace(TRUSTED, log_key=b"")).holds


def without_log_signature(note: Note) -> Note:
    witness = CosignatureSigner.from_seed("witness.example", seed_of("witness"), NOW_MS // 1000)
    stranger = Ed25519Signer.from_seed("stranger.example", seed_of("stranger"))
    return sign_note(note.text, [witness, stranger])


def test_other_signatures_do_not_replace_the_logs() -> None:
    for name, step in (("shard_proof", "shard checkpoint"), ("epoch_proof", "epoch checkpoint")):
        proof = parse_tlog_proof(getattr(GOOD, name))
        changed = format_tlog_proof(replace(proof, checkpoint=without_log_signature(proof.checkpoint)))
        assert broken(replace(GOOD, **{name: changed})) == step  # type: ignore[arg-type]


def test_cosignatures_beside_the_logs_signature_do_no_harm_to_the_epoch_log() -> None:
    assert verify(LOG.evidence(cosigned=[witness("stranger")]), TRUSTED).holds
    # A shard's checkpoint is a leaf of the epoch log, so not one byte may be added to it.
    shard = parse_tlog_proof(GOOD.shard_proof)
    note = shard.checkpoint.with_signatures(without_log_signature(shard.checkpoint).signatures)
    changed = replace(GOOD, shard_proof=format_tlog_proof(replace(shard, checkpoint=note)))
    assert broken(changed) == "shard in epoch log"
