"""The ledger receipt: of this root, on the trusted ledger, recomputed, and whose word it is."""

from dataclasses import replace

import pytest

from anchors.hcs27 import AnchorMessage, TreeHead, build_anchor
from pipeline.verify import verify
from processors.verification.verdict import Step
from schemas.checkpoint import parse_checkpoint
from schemas.evidence import AnchorReceipt, ChainPoint
from schemas.trust import LedgerTrust, TrustRoot
from tests.kit.parties import TRUST
from tests.kit.smalllog import FIRST_SEQUENCE, LEDGER, SHARDS, TRUSTED, SmallLog, receipt_of

LOG = SmallLog(SHARDS)
NOTE = LOG.epoch.signed()
HEAD = parse_checkpoint(NOTE.text)
GOOD = LOG.evidence("device.rejected")
RECEIPT = receipt_of(NOTE)


def judged(anchor: AnchorReceipt | None, trust: TrustRoot = TRUSTED) -> tuple[Step, str]:
    """The step about the receipt, and what was not proven."""
    verdict = verify(replace(GOOD, anchor=anchor), trust)
    assert verdict.steps[-1].name == "ledger receipt"
    return verdict.steps[-1], " ".join(verdict.not_proven)


def fails(anchor: AnchorReceipt, words: str, trust: TrustRoot = TRUSTED) -> None:
    step, _ = judged(anchor, trust)
    assert not step.holds
    assert words in step.detail


def knowing(*points: ChainPoint) -> TrustRoot:
    return replace(TRUSTED, ledger=replace(LEDGER, checkpoints=points))


def test_a_mirrors_word_is_called_so() -> None:
    step, unproven = judged(RECEIPT)
    assert step.holds
    assert "stated by mirror http://127.0.0.1:5551, unsigned" in step.detail
    assert step.by.endswith("unsigned")
    assert "the unsigned word of mirror" in unproven


def test_no_receipt_is_said() -> None:
    step, unproven = judged(None)
    assert step.holds
    assert step.detail == "none in this file"
    assert "that the root was anchored: the file has no receipt" in unproven


def test_trusted_ledger_topic_and_payer() -> None:
    fails(replace(RECEIPT, ledger="hedera:testnet"), "the trust file says hedera:attestream-local")
    fails(replace(RECEIPT, topic="0.0.1002"), "the trust file says 0.0.1001")
    fails(receipt_of(NOTE, payer="0.0.3"), "paid by 0.0.3, the trust file says 0.0.2")
    # Who names no ledger is told what the file says, as unsigned.
    step, _ = judged(receipt_of(NOTE, payer="0.0.3"), replace(TRUST, ledger=LedgerTrust()))
    assert step.holds
    assert "unsigned" in step.detail


def test_another_ledger_has_no_rules_here() -> None:
    trust = replace(TRUST, ledger=LedgerTrust())
    fails(replace(RECEIPT, ledger="fabric:consortium"), "no rules are known", trust)


def message(root: bytes = HEAD.root, size: int = HEAD.size, origin: str = HEAD.origin) -> bytes:
    return build_anchor(AnchorMessage("attestream", origin, "leaf", TreeHead(size, root)))


def test_the_message_anchors_this_root() -> None:
    for other in (message(root=bytes(32)), message(size=HEAD.size + 1)):
        fails(receipt_of(NOTE, message=other), "another epoch-log root")
    fails(receipt_of(NOTE, message=message(origin="other.example")), "anchors the log other.example")
    for other in (b"no anchor", b"{}", message() + b" x"):
        fails(receipt_of(NOTE, message=other), "is no anchor")


def test_every_part_of_the_segment_recomputes() -> None:
    (own,) = RECEIPT.segment
    start = RECEIPT.segment_start
    assert start is not None
    for changed in (
        replace(RECEIPT, segment=(replace(own, message=b"another"),)),
        replace(RECEIPT, segment=(replace(own, payer="0.0.3"),)),
        replace(RECEIPT, segment=(replace(own, consensus_timestamp_ns=own.consensus_timestamp_ns + 1),)),
        replace(RECEIPT, segment=(replace(own, running_hash=bytes(48)),)),
        replace(RECEIPT, segment=(replace(own, payer="two"),)),
        replace(RECEIPT, segment=(replace(own, sequence=own.sequence + 1),)),
        replace(RECEIPT, segment_start=replace(start, running_hash=bytes(48))),
        replace(RECEIPT, segment_start=replace(start, running_hash=bytes(47))),
        replace(RECEIPT, segment_start=replace(start, sequence=start.sequence - 1)),
        replace(RECEIPT, segment_start=replace(start, sequence=0)),
        replace(RECEIPT, segment_start=None),
        replace(RECEIPT, running_hash_version=2),
        replace(RECEIPT, segment=(own, own)),
        replace(RECEIPT, segment=()),
    ):
        assert not judged(changed)[0].holds, changed


def test_the_receipt_says_what_its_message_says() -> None:
    for changed in (
        replace(RECEIPT, sequence=FIRST_SEQUENCE + 1),
        replace(RECEIPT, consensus_timestamp_ns=RECEIPT.consensus_timestamp_ns + 1),
        replace(RECEIPT, message=message(root=bytes(32))),
        replace(RECEIPT, running_hash=bytes(48)),
    ):
        fails(changed, "as the receipt states it")
    open_payer = replace(TRUSTED, ledger=replace(LEDGER, payer=""))
    fails(replace(RECEIPT, payer="0.0.3"), "as the receipt states it", open_payer)


def test_the_first_message_of_a_topic_has_nothing_before_it() -> None:
    first = receipt_of(NOTE, sequence=1)
    assert first.segment_start is None
    assert judged(first)[0].holds


@pytest.mark.parametrize("behind", [0, 1, 5])
def test_a_known_point_at_or_behind_the_message_makes_it_the_ledgers_word(behind: int) -> None:
    receipt = receipt_of(NOTE, behind=behind)
    step, unproven = judged(receipt, knowing(receipt.segment[-1].point))
    assert step.holds
    assert f"the trust file's message {FIRST_SEQUENCE + behind}" in step.detail
    assert step.by == f"ledger {LEDGER.kind}"
    assert "unsigned word of mirror" not in unproven
    assert "transaction id" in unproven


def test_a_known_point_before_the_message_proves_nothing_about_it() -> None:
    """From a true running hash anybody can continue the chain with messages of his own."""
    assert RECEIPT.segment_start is not None
    step, unproven = judged(RECEIPT, knowing(RECEIPT.segment_start))
    assert step.holds
    assert "unsigned" in step.by
    assert "the unsigned word of mirror" in unproven


def test_a_chain_that_contradicts_a_known_point_fails() -> None:
    receipt = receipt_of(NOTE, behind=2)
    for sequence in range(FIRST_SEQUENCE - 1, FIRST_SEQUENCE + 3):
        fails(receipt, "is not the one that the trust file names", knowing(ChainPoint(sequence, bytes(48))))


def test_a_known_point_elsewhere_says_nothing() -> None:
    for sequence in (1, FIRST_SEQUENCE + 9):
        step, _ = judged(RECEIPT, knowing(ChainPoint(sequence, bytes(48))))
        assert step.holds
        assert "unsigned" in step.by


def test_words_of_the_file_move_no_cursor() -> None:
    """A terminal shows the verdict: no word of the file may look like another step of it."""
    step, unproven = judged(replace(RECEIPT, mirror="m\n ok  all is well\x1b[2K\u202e" + "x" * 9_000))
    assert step.holds
    for text in (step.detail, step.by, unproven):
        assert text.isprintable()
    assert len(step.detail) <= 600
    assert judged(replace(RECEIPT, topic="0.0.1\x1b[2J"))[0].detail.isprintable()
