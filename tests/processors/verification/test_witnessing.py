"""Witnesses: whose cosignatures count, how many, and which time they vouch for."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pipeline.verify import verify
from processors.verification.verdict import Verdict
from schemas.evidence import Evidence
from schemas.note import CosignatureSigner, Note, sign_note
from schemas.tlogproof import format_tlog_proof, parse_tlog_proof
from schemas.trust import TrustRoot
from tests.kit.parties import seed_of
from tests.kit.smalllog import (
    NOW_S,
    SHARDS,
    TRUSTED,
    WITNESSED,
    WITNESSES,
    SmallLog,
    policy_of,
    witness,
)

LOG = SmallLog(SHARDS)


def cosigned(*signers: CosignatureSigner) -> Evidence:
    return LOG.evidence("device.rejected", cosigned=signers)


def step_of(verdict: Verdict) -> tuple[bool, str, str]:
    step = next(each for each in verdict.steps if each.name == "witnesses")
    return step.holds, step.detail, step.by


def with_note(evidence: Evidence, note: Note) -> Evidence:
    proof = replace(parse_tlog_proof(evidence.epoch_proof), checkpoint=note)
    return replace(evidence, epoch_proof=format_tlog_proof(proof))


@pytest.mark.parametrize(
    ("names", "holds"),
    [
        ((), False),
        (("hospital",), False),
        (("stranger", "hospital"), False),
        (("hospital", "maker"), True),
        (WITNESSES, True),
        ((*WITNESSES, "stranger"), True),
    ],
)
def test_two_of_three_must_have_cosigned(names: Sequence[str], holds: bool) -> None:
    verdict = verify(cosigned(*(witness(name) for name in names)), WITNESSED)
    assert verdict.holds is holds
    found, detail, _ = step_of(verdict)
    assert found is holds
    assert "2 of 3: hospital, regulator, maker" in detail
    if not holds:
        assert verdict.broken is not None
        assert verdict.broken.name == "witnesses"
        assert verdict.existed_before_s is None


def test_trusted_time_is_the_earliest_that_a_quorum_states() -> None:
    times = {"hospital": NOW_S + 50, "regulator": NOW_S + 10, "maker": NOW_S + 20}
    verdict = verify(cosigned(*(witness(name, at) for name, at in times.items())), WITNESSED)
    assert verdict.existed_before_s == NOW_S + 20
    _, detail, by = step_of(verdict)
    assert "existed before 2023-11-14 22:13:40 UTC by the clocks of regulator, maker" in detail
    assert by == "witnesses hospital, regulator, maker"
    unproven = " ".join(verdict.not_proven)
    assert "a single history" not in unproven
    assert "the moment:" in unproven


def test_one_witness_with_a_wrong_clock_cannot_date_a_record_back() -> None:
    signers = (witness("hospital", 1), witness("regulator", NOW_S + 10), witness("maker", NOW_S + 20))
    assert verify(cosigned(*signers), WITNESSED).existed_before_s == NOW_S + 10


def test_the_same_witness_twice_is_one() -> None:
    twice = (witness("hospital"), witness("hospital", NOW_S + 1))
    assert not verify(cosigned(*twice), WITNESSED).holds


def test_a_cosignature_of_another_checkpoint_does_not_count() -> None:
    other = SmallLog([*SHARDS, ("device.findings", 0, 1)]).epoch.signed()
    borrowed = sign_note(other.text, [witness("hospital"), witness("maker")]).signatures
    note = LOG.epoch.signed()
    evidence = with_note(LOG.evidence("device.rejected", anchored=False), note.with_signatures(borrowed))
    held, detail, _ = step_of(verify(evidence, WITNESSED))
    assert not held
    assert "hospital does not fit the note" in detail


def test_a_stranger_under_a_witness_name_does_not_count() -> None:
    impostors = [
        CosignatureSigner.from_seed(name, seed_of("mallory"), NOW_S) for name in ("hospital", "maker")
    ]
    assert not verify(cosigned(*impostors), WITNESSED).holds


def test_a_time_that_was_changed_breaks_the_signature() -> None:
    evidence = cosigned(witness("hospital"), witness("maker"))
    proof = parse_tlog_proof(evidence.epoch_proof)
    log, first, second = proof.checkpoint.signatures
    earlier = replace(first, blob=(NOW_S - 1).to_bytes(8, "big") + first.blob[8:])
    note = replace(proof.checkpoint, signatures=(log, earlier, second))
    assert not verify(with_note(evidence, note), WITNESSED).holds


def test_who_names_no_witnesses_learns_what_that_leaves_open() -> None:
    for trust in (TRUSTED, replace(TRUSTED, witness_policy="quorum none\n")):
        verdict = verify(cosigned(*(witness(name) for name in WITNESSES)), trust)
        assert verdict.holds
        assert verdict.existed_before_s is None
        unproven = " ".join(verdict.not_proven)
        assert "time:" in unproven
        assert "a single history:" in unproven


@pytest.mark.parametrize("time_s", [0, 2**40, 2**63 - 1])
def test_a_time_of_no_use_is_no_trouble(time_s: int) -> None:
    verdict = verify(cosigned(*(witness(name, time_s) for name in WITNESSES)), WITNESSED)
    assert verdict.holds
    assert verdict.existed_before_s == (time_s or None)


def test_any_policy_of_the_language_decides() -> None:
    evidence = cosigned(witness("hospital"))
    trusts: dict[str, bool] = {policy_of(threshold="any"): True, policy_of(threshold="all"): False}
    for policy, holds in trusts.items():
        trust: TrustRoot = replace(TRUSTED, witness_policy=policy)
        assert verify(evidence, trust).holds is holds
