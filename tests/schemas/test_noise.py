"""Prints of noise: what was written is read, anything else is refused with one error."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import CODEC
from schemas.errors import CodecError
from schemas.noise import NoiseBatch, NoiseBlock, NoisePrint, decode_noise, encode_noise

BLOCK = NoiseBlock("did:example:1", 1, 16, 1_700_000_000_000_000, 15, (NoisePrint(147842, 3, 2**48 - 1),))


def written(**changes: Any) -> bytes:
    block = {
        "device_id": "d", "boot": 1, "sequence": 8, "time": 0, "offset": 7,
        "codes": [1], "backs": [0], "signs": [5], **changes,
    }  # fmt: skip
    return CODEC.encode("noise_prints", {"topic": "t", "partition": 0, "blocks": [block]})


def test_what_was_written_is_read() -> None:
    assert decode_noise(encode_noise("raw", 3, [BLOCK, BLOCK])) == NoiseBatch("raw", 3, (BLOCK, BLOCK))
    assert decode_noise(written()).blocks[0].prints == (NoisePrint(1, 0, 5),)


@pytest.mark.parametrize(
    "changes",
    [
        {"codes": []},
        {"backs": [0, 1]},
        {"signs": []},
        {"backs": [8]},
        {"backs": [-1]},
        {"signs": [-1]},
        {"signs": [2**48]},
        {"sequence": -1},
    ],
    ids=str,
)
def test_what_no_detector_makes_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CodecError):
        decode_noise(written(**changes))


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for value in (data, written()[:10] + data):
        try:
            decode_noise(value)
        except CodecError:
            continue
