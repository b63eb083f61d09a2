"""A device's state survives its bytes, and remembers no more than it must."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.splice import Splice
from processors.state import (
    BASE_BYTES,
    DELTA,
    MOST_SINCE,
    REMEMBERED,
    DeviceState,
    RememberedSequences,
    decode_state,
    digest_of,
    last_append_if_due,
)
from schemas.codec import CODEC
from schemas.errors import CodecError

LONG = st.integers(0, 2**62)


@given(LONG, LONG, LONG, LONG, st.integers(0, 100), st.binary(max_size=64) | st.binary(max_size=9000))
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
    assert value == CODEC.encode(
        "device_state",
        {
            "boot": boot,
            "sequence": sequence,
            "last_append_ms": append_ms,
            "silent_since_ms": silent_ms,
            "remembered": state.remembered.pack(),
            "detectors": detectors,
        },
    )
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


def accept(state: DeviceState, sequence: int) -> None:
    """What admission changes."""
    state.sequence, state.last_append_ms = sequence, 1000 * sequence
    state.remembered.add(sequence, 7 * sequence, sequence.to_bytes(32, "big"))


STEPS = st.lists(
    st.tuples(
        st.integers(0, 9),  # events before it is written
        st.sampled_from(("whole", "splice", "silent", "boot", "reload")),
        st.binary(max_size=9),
    ),
    max_size=30,
)


@given(STEPS)
def test_a_state_and_its_delta_are_the_state_whatever_is_written_when(
    steps: list[tuple[int, str, bytes]],
) -> None:
    state, detectors, kept = DeviceState(None), b"", dict[bytes, bytes]()
    for number, (events, what, data) in enumerate(steps):
        if what == "boot":
            state.restart(state.boot + 1)
        # As in ingest: between two that are written whole something was accepted, so none comes twice.
        for _ in range(max(events, what == "whole")):
            accept(state, state.sequence + 1)
        state.silent_since_ms = state.last_append_ms if what == "silent" else 0
        base_detectors = decode_state(kept[b""])[1] if b"" in kept else b""
        if state.is_due_whole or what == "whole":
            detectors = data
            suffix, value = state.write(detectors)
            assert suffix == b""
        else:
            begin = number % (len(base_detectors) + 1)
            splice = Splice(data, begin, len(base_detectors), data[::-1])
            detectors = splice.applied(base_detectors)
            suffix, value = state.write(splice)
            assert suffix == DELTA
        kept[suffix] = value
        found, found_detectors = decode_state(kept[b""], kept.get(DELTA))
        assert found_detectors == detectors
        assert found.encode(detectors) == state.encode(detectors)
        assert (found.base, found.remembered.since) == (state.base, state.remembered.since)
        due = 0 if state.silent_since_ms else state.last_append_ms
        assert last_append_if_due(kept[b""], kept.get(DELTA)) == due
        if what == "reload":
            state = found


@given(
    st.lists(LONG, max_size=MOST_SINCE),
    st.binary(max_size=300),
    st.binary(max_size=9000),
    st.integers(0, 2**40),
    LONG,
)
def test_a_delta_is_what_the_codec_writes(
    added: list[int], head: bytes, tail: bytes, begin: int, append_ms: int
) -> None:
    state = DeviceState(None, 1, 2, append_ms, 4)
    state.write(b"")
    for sequence in added:
        state.remembered.add(sequence, sequence, bytes(32))
    suffix, value = state.write(Splice(head, begin, begin + 1, tail))
    numbers = b"".join(each.to_bytes(8, "big") for each in (2, append_ms, 4, begin, begin + 1))
    assert suffix == DELTA
    assert value == CODEC.encode(
        "device_delta",
        {
            "base": state.base,
            "numbers": numbers,
            "remembered": state.remembered.pack(),
            "head": head,
            "tail": tail,
        },
    )


def by_the_codec(value: bytes, delta: bytes) -> list[object] | None:
    """What the codec reads of a state and a delta of it; None where it reads none."""
    try:
        whole, changed = CODEC.decode("device_state", value), CODEC.decode("device_delta", delta)
        since = changed["remembered"]
        if len(since) % 32:
            return None
        numbers = [int.from_bytes(changed["numbers"][at : at + 8], "big") for at in range(0, 40, 8)]
        if max(numbers[:3]) >= 2**63:  # the codec reads any bytes here, but no state could hold it
            return None
        told = Splice(changed["head"], numbers[3], numbers[4], changed["tail"])
        remembered = (whole["remembered"] + since)[-REMEMBERED * 32 :]
        return [whole["boot"], *numbers[:3], remembered, told.applied(whole["detectors"])]
    except CodecError:
        return None


@given(
    st.lists(LONG, min_size=4, max_size=4),
    st.binary(max_size=200),
    st.binary(max_size=200),
    st.lists(st.tuples(st.booleans(), st.integers(0, 600), st.integers(0, 255)), max_size=3),
)
def test_a_state_and_its_delta_whole_or_harmed_are_what_the_codec_reads_of_them(
    numbers: list[int], head: bytes, tail: bytes, harm: list[tuple[bool, int, int]]
) -> None:
    boot, sequence, append_ms, silent_ms = numbers
    state = DeviceState(None, boot, sequence, append_ms, silent_ms)
    state.remembered.add(7, 8, bytes(32))
    value = state.encode(tail)
    state.base = digest_of(value)
    _, delta = state.write(Splice(head, 0, len(tail) // 2, b"end"))
    for is_of_delta, place, byte in harm:
        data = delta if is_of_delta else value
        at = place % (len(data) + 1)
        data = data[:at] + (bytes((byte,)) + data[at + 1 :] if byte else b"")
        delta, value = (data, value) if is_of_delta else (delta, data)
    # A delta names its state: one that is harmed is another.
    if len(delta) >= 18:
        delta = delta[:10] + digest_of(value) + delta[18:]
    expected = by_the_codec(value, delta)
    if expected is None:
        with pytest.raises(CodecError):
            decode_state(value, delta)
        return
    found, detectors = decode_state(value, delta)
    read = [found.boot, found.sequence, found.last_append_ms, found.silent_since_ms]
    assert [*read, found.remembered.pack(), detectors] == expected


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_number_that_no_state_can_hold_is_refused_when_it_is_read(place: int) -> None:
    state = DeviceState(None, 1, 2, 3, 4)
    _, value = state.write(b"detectors")
    _, delta = state.write(Splice(b"", 0, 9, b""))
    at = 18 + 8 * place
    with pytest.raises(CodecError, match="no state could hold"):
        decode_state(value, delta[:at] + (2**63).to_bytes(8, "big") + delta[at + 8 :])


def test_a_delta_of_an_earlier_state_changes_nothing() -> None:
    state = DeviceState(None)
    accept(state, 1)
    _, first = state.write(b"one")
    accept(state, 2)
    _, delta = state.write(Splice(b"two", 0, 0, b""))
    assert decode_state(first, delta)[0].sequence == 2
    accept(state, 3)
    _, second = state.write(b"three")
    found, detectors = decode_state(second, delta)
    assert (found.sequence, detectors) == (3, b"three")
    assert last_append_if_due(second, delta) == 3000


def of_numbers(*numbers: int) -> bytes:
    return b"".join(each.to_bytes(8, "big") for each in numbers)


def test_a_delta_that_nobody_wrote_is_one_error() -> None:
    state = DeviceState(None)
    _, value = state.write(b"detectors")
    plain = {
        "base": digest_of(value),
        "numbers": of_numbers(1, 2, 0, 0, 9),
        "remembered": b"",
        "head": b"",
        "tail": b"",
    }
    assert decode_state(value, CODEC.encode("device_delta", plain))[1] == b"detectors"
    for changed in (
        {"numbers": of_numbers(1, 2, 0, 0, 10)},
        {"numbers": of_numbers(1, 2, 0, 5, 4)},
        {"numbers": of_numbers(1, 2, 0, 2**64 - 1, 2**64 - 1)},
        {"remembered": bytes(31)},
    ):
        with pytest.raises(CodecError):
            decode_state(value, CODEC.encode("device_delta", {**plain, **changed}))
    delta = CODEC.encode("device_delta", plain)
    for size in range(len(delta)):
        with pytest.raises(CodecError):
            decode_state(value, delta[:size])
    with pytest.raises(CodecError):
        decode_state(value, delta + b"\0")
    with pytest.raises(CodecError):
        decode_state(value, value)
    assert len(state.base) == BASE_BYTES
