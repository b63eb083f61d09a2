"""The crate, the wheel and the specification say the same of every signature, in whatever company it is."""

import random

import pytest
from attestream_fast import verify_batch
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.ed25519 import verify_with_wheel
from tests.kit.zip215 import TORSION, signature_over, torsioned, zip215
from tests.native.cases import KINDS, MESSAGE, Case, bad, columns, flipped, good, honest, judged, of_kind

SOME = 24
LENGTHS = (1, 2, 3, 4, 5, 31, 32, 33, 63, 64, 65, 95, 96, 200, 300)


def check(batch: list[Case]) -> None:
    assert verify_batch(*columns(batch)) == [case.verdict for case in batch]


def one_of(rng: random.Random, *, holds: bool) -> Case:
    return rng.choice(good() if holds else bad())


@pytest.mark.parametrize("kind", KINDS)
def test_three_opinions_on_each_kind(kind: str) -> None:
    cases = list(of_kind(kind))
    check(cases)
    for case in cases:
        assert verify_batch([case.key], [case.message], [case.signature]) == [case.verdict]
    for case in random.Random(kind).sample(cases, min(SOME, len(cases))):
        assert zip215(case.key, case.message, case.signature) is case.verdict


def test_there_are_cases_enough_of_either_verdict() -> None:
    assert len(of_kind("vectors")) == 196
    assert all(case.verdict for case in of_kind("vectors"))
    assert min(len(good()), len(bad())) > 300
    assert {case.kind for case in good()} >= {
        "honest",
        "torsion",
        "strange R",
        "vectors",
        "non-canonical",
    }


@settings(max_examples=150)
@given(
    st.integers(0, 300),
    st.sampled_from([0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.99, 1.0]),
    st.randoms(use_true_random=False),
)
def test_batches_of_all_lengths_kinds_and_shares(length: int, share: float, rng: random.Random) -> None:
    check([one_of(rng, holds=rng.random() >= share) for _ in range(length)])


@pytest.mark.parametrize("length", LENGTHS)
def test_bad_ones_first_last_between_everywhere_and_nowhere(length: int) -> None:
    rng = random.Random(length)
    places = [{0}, {length - 1}, {length // 2}, {0, length - 1}, set(range(length)), set()]
    places += [set(range(0, length, 2)), set(range(length // 2)), set(range(length // 2, length))]
    for wrong in places:
        check([one_of(rng, holds=place not in wrong) for place in range(length)])


@settings(max_examples=150)
@given(st.binary(max_size=60), st.integers(0, 10**6), st.lists(st.integers(0, 100_000), max_size=4))
def test_flips_of_any_bits_among_good_ones(message: bytes, number: int, bits: list[int]) -> None:
    key, _, signature = honest(number)
    whole = key + signature + message
    for bit in bits:
        whole = flipped(whole, bit % (8 * len(whole)))
    case = judged("flips", (whole[:32], whole[96:], whole[32:96]))
    check([*good()[:7], case, *good()[7:12]])


@settings(max_examples=100)
@given(st.binary(max_size=70), st.binary(max_size=40), st.binary(max_size=9))
def test_bytes_of_any_length_are_judged_and_never_an_error(
    signature: bytes, key: bytes, message: bytes
) -> None:
    case = judged("bytes", (key, message, signature))
    check([case, *good()[:3], case])


@settings(max_examples=25)
@given(st.data())
def test_torsion_that_cancels_between_signatures_changes_no_verdict(data: st.DataObject) -> None:
    """Each R is acceptable alone, by the cofactored equation; a wrong s is not, whatever cancels."""
    order = data.draw(st.permutations(range(8)))
    batch = []
    for number, index in enumerate(order):
        in_r, in_a = TORSION[index], TORSION[data.draw(st.integers(0, 7))]
        secret, nonce, wrong = 19**30 + number, 23**30 + number, data.draw(st.sampled_from([0, 0, 0, 1]))
        key = torsioned(secret, in_a)
        signature = signature_over(torsioned(nonce, in_r), nonce + wrong, key, secret, MESSAGE)
        batch.append(judged("cancelling", (key, MESSAGE, signature)))
        assert batch[-1].verdict is (wrong == 0)
    check(batch)


def test_errors_that_cancel_between_signatures_are_all_found() -> None:
    """s + 1 beside s - 1: a sum with equal coefficients would vanish."""
    for copies in (1, 5, 50):
        batch = []
        for number in range(2 * copies):
            secret, nonce = 29**30 + number, 31**30 + number
            key = torsioned(secret, TORSION[0])
            signature = signature_over(
                torsioned(nonce, TORSION[0]), nonce + (-1) ** number, key, secret, MESSAGE
            )
            batch.append(judged("errors", (key, MESSAGE, signature)))
        assert not any(case.verdict for case in batch)
        check(batch)


@pytest.mark.parametrize("copies", [2, 3, 31, 64, 257])
def test_duplicates_have_one_verdict(copies: int) -> None:
    rng = random.Random(copies)
    for holds, fails in zip(rng.sample(good(), 5), rng.sample(bad(), 5), strict=True):
        check([holds] * copies)
        check([fails] * copies)
        check([holds, fails] * copies)
        check([holds] * copies + [fails] + [holds] * copies)


def test_long_batches_and_what_came_before_them() -> None:
    """More than are ever judged together; the second and third follow a calm and a storm."""
    rng = random.Random(9)
    calm = [one_of(rng, holds=True) for _ in range(9000)]
    check(calm)
    storm = [one_of(rng, holds=rng.random() < 0.5) for _ in range(3000)]
    check(storm)
    mixed = [one_of(rng, holds=rng.random() < 0.99) for _ in range(3000)]
    check(mixed)
    assert verify_with_wheel(*columns(mixed[:500])) == [case.verdict for case in mixed[:500]]
