"""The crate as Python sees it: arguments, errors, threads, and that `schemas.ed25519` uses it."""

import sys
import threading
from typing import Any

import attestream_fast
import pytest
from attestream_fast import verify_batch

from schemas import ed25519
from schemas.ed25519 import verify_with_wheel
from tests.native.cases import bad, columns, good, honest

KEY, MESSAGE, SIGNATURE = honest(1)


def test_the_crate_is_at_work() -> None:
    assert f"attestream_fast ({attestream_fast.BACKEND})" == ed25519.VERIFIER
    assert attestream_fast.BACKEND in {"avx512ifma", "avx2", "serial"}


def test_any_sequences_will_do() -> None:
    assert verify_batch((KEY,), [MESSAGE], (SIGNATURE,)) == [True]
    assert verify_batch([], (), []) == []


@pytest.mark.parametrize("lengths", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 2, 1), (1, 2, 2), (2, 1, 2)])
def test_sequences_of_different_lengths_are_the_callers_fault(lengths: tuple[int, int, int]) -> None:
    batch = [[item] * length for item, length in zip((KEY, MESSAGE, SIGNATURE), lengths, strict=True)]
    for verify in (verify_batch, verify_with_wheel):
        with pytest.raises(ValueError, match=r"shorter|longer"):
            verify(*batch)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("wrong", ["text", 7, None, bytearray(64), memoryview(bytes(64))])
def test_what_is_not_bytes_is_the_callers_fault(place: int, wrong: Any) -> None:
    batch: list[Any] = [[KEY], [MESSAGE], [SIGNATURE]]
    batch[place] = [wrong]
    for verify in (verify_batch, verify_with_wheel):
        with pytest.raises(TypeError):
            verify(*batch)
    assert verify_batch([KEY], [MESSAGE], [SIGNATURE]) == [True]


def test_other_threads_run_while_a_batch_is_verified() -> None:
    """With no switch of threads in sight, the main one goes on only because the call lets go of the GIL."""
    batch = columns([good()[0]] * 5000)
    begun, ended = threading.Event(), []

    def verify() -> None:
        begun.set()
        verify_batch(*batch)
        ended.append(True)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        thread = threading.Thread(target=verify)
        thread.start()
        begun.wait()
        seen = list(ended)
    finally:
        sys.setswitchinterval(interval)
    thread.join()
    assert (seen, ended) == ([], [True])


def test_threads_verify_side_by_side() -> None:
    batch = [*good()[:200], *bad()[:200]]
    expected = [case.verdict for case in batch]
    seen: list[list[bool]] = []

    def verify() -> None:
        seen.extend(verify_batch(*columns(batch)) for _ in range(5))

    threads = [threading.Thread(target=verify) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [expected] * 20
