"""The hand-written leaf encoder is the codec, byte for byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import CODEC
from schemas.errors import CodecError
from schemas.records import encode_leaf

LONGS = st.integers(-(2**63), 2**63 - 1)


@given(LONGS, LONGS, st.binary(min_size=32, max_size=32))
def test_leaf_equals_the_codecs(offset: int, timestamp_ms: int, digest: bytes) -> None:
    record = {"offset": offset, "timestamp": timestamp_ms, "digest": digest}
    assert encode_leaf(offset, timestamp_ms, digest) == CODEC.encode("leaf", record)
    assert CODEC.decode("leaf", encode_leaf(offset, timestamp_ms, digest)) == record


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_digest_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(CodecError, match="digest"):
        encode_leaf(1, 2, bytes(size))
