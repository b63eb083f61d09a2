"""What evidence proves, what it does not, and that each byte of it counts."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.verify import Verdict, verify
from schemas.evidence import Evidence, EvidenceError, parse_evidence
from schemas.note import CosignatureSigner, Ed25519Signer, Note, sign_note
from schemas.tlogproof import format_tlog_proof, parse_tlog_proof
from schemas.trust import LedgerTrust
from tests.kit.parties import NOW_MS, TRUST, key_of, seed_of
from tests.kit.smalllog import LEDGER, SHARDS, TRUSTED, SmallLog, SmallTree, leaf_of, record

LOG = SmallLog(SHARDS)
STEPS = [
    "record",
    "shard checkpoint",
    "leaf in shard",
    "epoch checkpoint",
    "shard in epoch log",
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
    for words in ("time:", "completeness:", "mirror's unsigned word", "the device's key"):
        assert words in anchored
    plain = verify(LOG.evidence(anchored=False), TRUSTED)
    assert plain.holds
    assert "that the root was anchored: the file has no receipt" in plain.not_proven
    assert plain.steps[-1].detail == "none in this file"


def test_a_tree_of_one_leaf_and_an_epoch_log_of_one_entry() -> None:
    log = SmallLog([("device.events", 0, 1)])
    log.epoch.entries = log.epoch.entries[1:]
    evidence = replace(log.evidence(anchored=False), epoch_proof=log.epoch.proof(0, log.epoch.signed()))
    assert verify(evidence, TRUSTED).holds


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
    assert verify(other.evidence(), replace(TRUSTED, log_name="other.example")).holds
    assert broken(other.evidence()) == "shard checkpoint"
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
    proof = parse_tlog_proof(GOOD.epoch_proof)
    more = without_log_signature(proof.checkpoint).signatures
    note = proof.checkpoint.with_signatures(more)
    cosigned = replace(GOOD, epoch_proof=format_tlog_proof(replace(proof, checkpoint=note)))
    assert verify(cosigned, TRUSTED).holds
    # A shard's checkpoint is a leaf of the epoch log, so not one byte may be added to it.
    shard = parse_tlog_proof(GOOD.shard_proof)
    note = shard.checkpoint.with_signatures(without_log_signature(shard.checkpoint).signatures)
    changed = replace(GOOD, shard_proof=format_tlog_proof(replace(shard, checkpoint=note)))
    assert broken(changed) == "shard in epoch log"


# ---- the receipt -----------------------------------------------------------------------------------------


def test_a_receipt_is_of_this_root_on_the_trusted_ledger() -> None:
    anchor = GOOD.anchor
    assert anchor is not None
    for changed in (
        replace(anchor, tree_size=anchor.tree_size - 1),
        replace(anchor, root=bytes(32)),
        replace(anchor, root=b""),
        replace(anchor, topic="0.0.1002"),
        replace(anchor, payer="0.0.3"),
        replace(anchor, ledger="hedera:testnet"),
    ):
        assert broken(replace(GOOD, anchor=changed)) == "ledger receipt"
    # Who names no ledger is told what the file says, as unsigned.
    verdict = verify(
        replace(GOOD, anchor=replace(anchor, payer="0.0.3")), replace(TRUST, ledger=LedgerTrust())
    )
    assert verdict.holds
    assert "unsigned" in verdict.steps[-1].detail
    assert LEDGER.topic in verdict.steps[-1].detail


# ---- every byte ------------------------------------------------------------------------------------------

FILE = LOG.evidence(index=2).to_json().encode()
PARSED = parse_evidence(FILE)
UNSIGNED = ("sequence", "consensus_timestamp_ns", "transaction_id", "running_hash", "mirror")


def white_space() -> set[int]:
    """Where the file has white space that is JSON's, not a text's."""
    found, inside = set(), False
    for at, byte in enumerate(FILE):
        if byte == ord('"'):
            inside = not inside  # the file holds no escaped quotation mark
        elif not inside and byte in b" \n":
            found.add(at)
    return found


def receipt_words() -> set[int]:
    """Where the receipt says what only a mirror states, unsigned; and the name `anchor` itself.

    Without that name the file has no receipt, and the verdict says so.
    """
    receipt = FILE.index(b'"anchor"')
    found = set(range(receipt + 1, receipt + 7))
    for name in UNSIGNED:
        start = FILE.index(b'"%s": ' % name.encode(), receipt) + len(name) + 4
        end = FILE.index(b"\n", start)
        found |= {at for at in range(start, end) if FILE[at] not in b'",'}
    return found


WHITE_SPACE, RECEIPT_WORDS = white_space(), receipt_words()
FREE = WHITE_SPACE | RECEIPT_WORDS
"""The only places where a byte may change and the file still holds."""


def judged(data: bytes) -> tuple[Evidence, Verdict] | None:
    """Evidence and verdict; None where the parser refused, with its one error."""
    try:
        evidence = parse_evidence(data)
    except EvidenceError:
        return None
    return evidence, verify(evidence, TRUSTED)


def check(data: bytes, places: set[int]) -> bool:
    """Tell whether changed bytes hold; if they do, nothing that was signed or is believed has changed."""
    found = judged(data)
    if found is None or not found[1].holds:
        return False
    evidence, verdict = found
    assert places <= FREE, (places, data)
    assert evidence.record == PARSED.record
    assert evidence.leaf == PARSED.leaf
    assert evidence.shard_proof == PARSED.shard_proof
    assert evidence.epoch_proof == PARSED.epoch_proof
    if evidence.anchor is None:
        assert any("the file has no receipt" in each for each in verdict.not_proven)
    else:
        said = {name: getattr(evidence.anchor, name) for name in UNSIGNED}
        assert PARSED.anchor is not None
        assert replace(PARSED.anchor, **said) == evidence.anchor
        assert "unsigned" in verdict.steps[-1].detail
    return True


def test_every_bit_of_an_evidence_file_counts() -> None:
    """Each of eight bits of each byte: 15,808 files, none of which says another thing and holds."""
    held, tried = set(), 0
    for at in range(len(FILE)):
        for bit in range(8):
            tried += 1
            data = bytearray(FILE)
            data[at] ^= 1 << bit
            if check(bytes(data), {at}):
                held.add(at)
    assert tried == 8 * len(FILE) == 15_808
    # The list of free places is no longer than it must be (padding of base64 apart).
    assert held == {at for at in RECEIPT_WORDS if FILE[at] != ord("=")}


@pytest.mark.parametrize("other", [b"\t", b"\r", b" ", b"\n"])
def test_white_space_between_members_says_nothing(other: bytes) -> None:
    for at in WHITE_SPACE:
        assert check(FILE[:at] + other + FILE[at + 1 :], {at})


@given(st.data())
@settings(max_examples=300)
def test_any_byte_of_an_evidence_file_counts(data: st.DataObject) -> None:
    places = data.draw(st.sets(st.integers(0, len(FILE) - 1), min_size=1, max_size=3))
    changed = bytearray(FILE)
    for at in places:
        changed[at] ^= data.draw(st.integers(1, 255))
    check(bytes(changed), places)


@given(st.integers(0, len(FILE) - 1), st.integers(0, 200), st.binary(max_size=6))
@settings(max_examples=300)
def test_bytes_cut_out_or_put_in(at: int, cut: int, added: bytes) -> None:
    data = FILE[:at] + added + FILE[at + cut :]
    found = judged(data)
    if found is not None and found[1].holds:
        evidence = found[0]
        assert (evidence.record, evidence.leaf) == (PARSED.record, PARSED.leaf)
        assert (evidence.shard_proof, evidence.epoch_proof) == (PARSED.shard_proof, PARSED.epoch_proof)


def members(document: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    if isinstance(document, dict):
        for name, value in document.items():
            yield from members(value, (*path, name))
    if isinstance(document, list):
        for number, value in enumerate(document):
            yield from members(value, (*path, number))


PATHS = list(members(json.loads(FILE)))
ODD: list[object] = [
    None,
    True,
    0,
    -1,
    2**63,
    1.5,
    1e400,
    "",
    "AA==",
    "\ud800",
    [],
    {},
    [[]],
    [["a", None]],
    "index 0\n\n",
]


@given(st.sampled_from(PATHS), st.sampled_from(ODD))
@settings(max_examples=500)
def test_any_member_of_another_kind_is_refused_or_fails_and_never_raises(
    path: tuple[str | int, ...], odd: object
) -> None:
    document = json.loads(FILE)
    if path:
        holder = document
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = odd
    else:
        document = odd
    found = judged(json.dumps(document).encode())
    if found is not None and found[1].holds:
        assert found[0] == PARSED or path[0] == "anchor"


@given(st.binary(max_size=200))
def test_noise_is_no_evidence(noise: bytes) -> None:
    assert judged(noise) is None


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
def test_parts_of_noise_fail_at_a_step(leaf: bytes, shard: bytes, epoch: bytes) -> None:
    assert broken(replace(GOOD, leaf=leaf)) == "record"
    assert broken(replace(GOOD, shard_proof=shard)) == "shard checkpoint"
    assert broken(replace(GOOD, epoch_proof=epoch)) == "epoch checkpoint"
