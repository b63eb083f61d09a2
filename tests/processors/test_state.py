"""A device's state survives its bytes, and remembers no more than it must."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.state import REMEMBERED, DeviceState, RememberedSequences, decode_state, last_append_if_due
from schemas.errors import CodecError

LONG = st.integers(0, 2**62)


@given(LONG, LONG, LONG, LONG, st.integers(0, 100), st.binary(max_size=64))
def test_a_state_reads_back(
    boot: int, sequence: int, append_ms: int, silent_ms: int, remembered: int, detectors: bytes
) -> None:
    state = DeviceState(None, boot, sequence, append_ms, silent_ms)
    for number in range(remembered):
        state.remembered.add(number + 1, number * 3, number.to_bytes(32, "big"))
    value = state.encode(detectors)
    found, found_detectors = decode_state(value)
    assert found_detectors == detectors
    assert found.encode(detectors) == value
    assert found.remembered.pack() == state.remembered.pack()
    assert (found.boot, found.sequence, found.last_append_ms, found.silent_since_ms) == (
        boot,
        sequence,
        append_ms,
        silent_ms,
    )


@given(st.lists(st.tuples(LONG, LONG, st.binary(min_size=32, max_size=32)), max_size=200))
def test_the_newest_64_are_remembered_and_no_other(added: list[tuple[int, int, bytes]]) -> None:
    remembered = RememberedSequences()
    for sequence, offset, digest in added:
        remembered.add(sequence, offset, digest)
    kept = added[-REMEMBERED:]
    assert len(remembered.pack()) == 32 * len(kept)
    assert remembered.newest_offset == (kept[-1][1] if kept else None)
    assert remembered.oldest == (kept[0][0] if kept else 0)
    for sequence, _, _ in added:
        first = next(((o, d[:16]) for s, o, d in kept if s == sequence), None)
        assert remembered.find(sequence) == first


@given(st.binary(max_size=100))
def test_bytes_that_are_no_state_are_one_error(noise: bytes) -> None:
    with pytest.raises(CodecError):
        decode_state(noise)


def test_a_state_cut_short_is_an_error_not_a_smaller_state() -> None:
    value = DeviceState(None, 1, 2, 3).encode(b"detectors")
    for size in range(len(value)):
        with pytest.raises(CodecError):
            decode_state(value[:size])


@given(
    boot=st.integers(0, 2**63 - 1),
    sequence=st.integers(0, 2**63 - 1),
    last_append_ms=st.integers(0, 2**63 - 1),
    silent_since_ms=st.one_of(st.just(0), st.integers(0, 2**63 - 1)),
    detectors=st.binary(max_size=20),
)
def test_when_a_device_is_due_is_what_its_whole_state_says(
    boot: int, sequence: int, last_append_ms: int, silent_since_ms: int, detectors: bytes
) -> None:
    value = DeviceState(None, boot, sequence, last_append_ms, silent_since_ms).encode(detectors)
    decoded, _ = decode_state(value)
    assert last_append_if_due(value) == (0 if decoded.silent_since_ms else decoded.last_append_ms)


def test_a_state_cut_short_in_its_front_is_an_error_too() -> None:
    value = DeviceState(None, 1, 2, 3).encode(b"detectors")
    for size in range(len(value) - len(b"detectors") - 2):
        with pytest.raises(CodecError):
            last_append_if_due(value[:size])
