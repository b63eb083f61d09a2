"""The crate opens telemetry and digests records exactly as Python does, and refuses tables that are none."""

from typing import Any

import attestream_fast
import numpy as np
import pytest
from attestream_fast import judge_blocks, record_digests
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import CODEC
from schemas.opening import Opened, opener, plain_opener
from schemas.records import Headers, record_digest
from tests.kit.cases.telemetry import damaged, damages, enveloped, envelopes, telemetry

PREFIX = b"prefix of what is signed "
native, plain = opener(PREFIX), plain_opener(PREFIX)

DATA = st.none() | st.binary(max_size=80) | st.just(bytes(5000))
NAME = st.text(st.characters(exclude_categories=["Cs"]), max_size=70)
RECORD = st.tuples(DATA, st.lists(st.tuples(NAME, DATA), max_size=4), DATA)


def as_bytes(opened: Opened | None) -> Any:
    """Values as bytes, in either case."""
    return opened and (*opened[:5], bytes(opened[5]), *opened[6:])


def alike(values: list[bytes | None]) -> None:
    assert list(map(as_bytes, native(values))) == list(map(as_bytes, plain(values)))


def test_the_crate_is_what_opens() -> None:
    assert isinstance(getattr(native, "__self__", None), attestream_fast.Opener)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.none() | telemetry, max_size=4), st.just("k1") | st.text(max_size=70), damages)
def test_telemetry_is_opened_by_both_or_by_none(
    records: list[dict[str, object] | None], key_id: str, harm: list[tuple[int, int, int]]
) -> None:
    values = [each and enveloped(CODEC.encode("telemetry", each), key_id) for each in records]
    alike(values)  # type: ignore[arg-type]
    for each in harm:
        values = [value and damaged(value, *each) for value in values]
        alike(values)  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(st.lists(envelopes, max_size=3), st.binary(max_size=200))
def test_other_envelopes_are_opened_by_none(records: list[dict[str, object]], noise: bytes) -> None:
    alike([CODEC.encode("signed_envelope", each) for each in records])
    alike(
        [noise, CODEC.header("signed_envelope") + noise, enveloped(CODEC.header("telemetry") + noise, "k1")]
    )


def test_names_and_codes_are_the_same_objects_from_batch_to_batch() -> None:
    record = {"device_id": "did:x", "boot": 1, "sequence": 1, "time": 5, "codes": [7], "values": [1.0]}
    value = enveloped(CODEC.encode("telemetry", record), "k1")
    first, second = native([value])[0], native([value])[0]
    assert first is not None
    assert second is not None
    for place in (0, 4, 6):
        assert first[place] is second[place]


@pytest.mark.parametrize("wrong", ["text", 7, bytearray(64)])
def test_what_is_not_bytes_is_the_callers_fault(wrong: Any) -> None:
    with pytest.raises(TypeError):
        native([wrong])
    with pytest.raises(TypeError):
        record_digests([wrong], [()], [b""])


@settings(max_examples=300)
@given(st.lists(RECORD, max_size=5))
def test_a_record_has_one_digest(records: list[tuple[bytes | None, Headers, bytes | None]]) -> None:
    keys, headers, values = ([each[n] for each in records] for n in range(3))
    expected = [record_digest(*each) for each in records]
    assert record_digests(keys, headers, values) == expected  # type: ignore[arg-type]
    assert record_digests(keys, [tuple(each) for each in headers], values) == expected  # type: ignore[arg-type]


def test_sequences_of_different_lengths_are_the_callers_fault() -> None:
    with pytest.raises(ValueError, match="shorter"):
        record_digests([b""], [()], [])


def test_a_name_that_is_no_text_is_an_error_in_both() -> None:
    for digest in (
        record_digests,
        lambda keys, headers, values: record_digest(keys[0], headers[0], values[0]),
    ):
        with pytest.raises(UnicodeEncodeError):
            digest([b""], [[("\ud800", b"")]], [b""])


def test_tables_of_blocks_that_do_not_fit_together_are_refused() -> None:
    tracks, samples, thresholds, which = (
        np.zeros((2, 25)),
        np.zeros((2, 9)),
        np.ones((1, 15)),
        np.zeros(2, int),
    )
    known, breaking = judge_blocks(tracks, samples, thresholds, which)
    assert (len(known), breaking) == (400, [])
    assert judge_blocks(tracks[:0], samples[:0], thresholds, which[:0]) == (b"", [])
    for given_ in (
        (tracks[:1], samples, thresholds, which),
        (tracks[:, :24].copy(), samples, thresholds, which),
        (tracks, samples[:1], thresholds, which),
        (tracks, np.zeros((2, 2)), thresholds, which),
        (tracks, np.zeros((2, 65)), thresholds, which),
        (tracks, samples, thresholds, which + 1),
        (tracks, samples, thresholds, which - 1),
        (tracks, samples, thresholds[:0], which),
    ):
        with pytest.raises(ValueError, match=r"blocks|thresholds"):
            judge_blocks(*given_)
    for no_table in (b"", None, np.zeros((2, 25), np.float32)):
        with pytest.raises((BufferError, TypeError)):
            judge_blocks(no_table, samples, thresholds, which)
