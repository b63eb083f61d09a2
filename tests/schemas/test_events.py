"""The rules of events: each one is tried at its edge."""

import contextlib
import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import CODEC
from schemas.envelope import PayloadKind
from schemas.errors import CodecError, EnvelopeError, FormatError
from schemas.events import (
    EVENT_KINDS,
    MAX_CODE,
    MAX_READINGS,
    MAX_SEQUENCE,
    MAX_TEXT,
    decode_event,
    encode_event,
)
from schemas.mdc import BY_CODE, BY_NAME, SIGNALS, label

HEADER: dict[str, Any] = {"device_id": "did:example:monitor", "boot": 1, "sequence": 1, "time": 0}
BODIES: dict[PayloadKind, dict[str, Any]] = {
    PayloadKind.TELEMETRY: {"codes": [147842], "values": [82.0]},
    PayloadKind.ACCESS: {
        "subject": "nurse-7",
        "action": "unlock",
        "resource": "pump",
        "purpose": "",
        "session": "",
        "outcome": "GRANTED",
    },
    PayloadKind.LIFECYCLE: {"kind": "BOOT", "firmware": None, "pseudonym": None},
}


def payload(kind: PayloadKind, **changes: Any) -> bytes:
    return encode_event(kind, {**HEADER, **BODIES[kind], **changes})


@pytest.mark.parametrize("kind", EVENT_KINDS)
def test_event_reads_back(kind: PayloadKind) -> None:
    event = decode_event(kind, payload(kind, boot=3, sequence=4, time=-5))
    assert (event.kind, event.device_id, event.boot, event.sequence, event.time_us) == (
        kind,
        HEADER["device_id"],
        3,
        4,
        -5,
    )
    body = {name: list(each) if name in ("codes", "values") else each for name, each in event.body.items()}
    assert body == {**HEADER, **BODIES[kind], "boot": 3, "sequence": 4, "time": -5}


@pytest.mark.parametrize("kind", EVENT_KINDS)
@pytest.mark.parametrize("device_id", ["", "monitor", "DID:example:monitor", " did:x", "did:" + "x" * 509])
def test_device_id_is_a_did_of_bounded_length(kind: PayloadKind, device_id: str) -> None:
    with pytest.raises(EnvelopeError, match="is not a DID of at most 512 characters"):
        decode_event(kind, payload(kind, device_id=device_id))


@pytest.mark.parametrize("kind", EVENT_KINDS)
def test_longest_device_id_is_taken(kind: PayloadKind) -> None:
    longest = "did:" + "x" * (MAX_TEXT - 4)
    assert decode_event(kind, payload(kind, device_id=longest)).device_id == longest


@pytest.mark.parametrize("kind", EVENT_KINDS)
@pytest.mark.parametrize("name", ["boot", "sequence"])
@pytest.mark.parametrize("number", [0, -1, MAX_SEQUENCE + 1, 2**63 - 1, -(2**63)])
def test_boot_and_sequence_count_from_one(kind: PayloadKind, name: str, number: int) -> None:
    with pytest.raises(EnvelopeError, match=r"must lie in 1 to 2\^62"):
        decode_event(kind, payload(kind, **{name: number}))
    for edge in (1, MAX_SEQUENCE):
        assert decode_event(kind, payload(kind, **{name: edge})).body[name] == edge


@pytest.mark.parametrize(("codes", "values"), [([1], []), ([], [1.0]), ([1, 2], [1.0]), ([1], [1.0, 2.0])])
def test_codes_and_values_are_parallel(codes: list[int], values: list[float]) -> None:
    with pytest.raises(EnvelopeError, match=f"{len(codes)} codes but {len(values)} values"):
        decode_event(PayloadKind.TELEMETRY, payload(PayloadKind.TELEMETRY, codes=codes, values=values))


@pytest.mark.parametrize("count", [0, 1, MAX_READINGS])
def test_up_to_256_readings_are_taken(count: int) -> None:
    data = payload(PayloadKind.TELEMETRY, codes=[147842] * count, values=[1.0] * count)
    assert len(decode_event(PayloadKind.TELEMETRY, data).body["codes"]) == count


def test_more_readings_are_refused() -> None:
    count = MAX_READINGS + 1
    data = payload(PayloadKind.TELEMETRY, codes=[147842] * count, values=[1.0] * count)
    with pytest.raises(EnvelopeError, match="257 readings, allowed are 256"):
        decode_event(PayloadKind.TELEMETRY, data)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("others", [[], [0.0], [math.inf], [1e308, 1e308]])
def test_reading_that_is_no_number_is_refused(bad: float, others: list[float]) -> None:
    values = [*others, bad]
    data = payload(PayloadKind.TELEMETRY, codes=[7] * len(values), values=values)
    with pytest.raises(EnvelopeError, match="a missing reading is left out"):
        decode_event(PayloadKind.TELEMETRY, data)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20))
def test_every_finite_reading_is_taken_even_where_the_sum_overflows(values: list[float]) -> None:
    values += [1.7e308, 1.7e308]
    data = payload(PayloadKind.TELEMETRY, codes=[7] * len(values), values=values)
    assert list(decode_event(PayloadKind.TELEMETRY, data).body["values"]) == values


@pytest.mark.parametrize("code", [-1, -(2**31)])
def test_code_is_not_negative(code: int) -> None:
    with pytest.raises(EnvelopeError, match=f"a code is not between 0 and {MAX_CODE}"):
        decode_event(PayloadKind.TELEMETRY, payload(PayloadKind.TELEMETRY, codes=[code], values=[1.0]))


def test_code_of_more_than_32_bits_is_refused_though_the_decoder_reads_it() -> None:
    good = payload(PayloadKind.TELEMETRY, codes=[0], values=[1.0])
    wide = b"\x80\x80\x80\x80\x80\x40"  # zigzag varint of 2^40
    arrays = b"\x02\x00\x00\x02"
    assert good.count(arrays) == 1
    with pytest.raises(FormatError):
        decode_event(PayloadKind.TELEMETRY, good.replace(arrays, b"\x02" + wide + b"\x00\x02"))


TEXTS = [
    *((PayloadKind.ACCESS, name) for name in ("subject", "action", "resource", "purpose", "session")),
    *((PayloadKind.LIFECYCLE, name) for name in ("firmware", "pseudonym")),
]


@pytest.mark.parametrize(("kind", "name"), TEXTS)
def test_texts_are_bounded(kind: PayloadKind, name: str) -> None:
    longest = "é" * MAX_TEXT
    assert decode_event(kind, payload(kind, **{name: longest})).body[name] == longest
    with pytest.raises(EnvelopeError, match=f"{name} has 513 characters, allowed are 512"):
        decode_event(kind, payload(kind, **{name: longest + "x"}))


@pytest.mark.parametrize(("kind", "other"), list(itertools.product(EVENT_KINDS, PayloadKind)))
def test_event_of_another_kind_is_refused(kind: PayloadKind, other: PayloadKind) -> None:
    if kind is other:
        return
    with pytest.raises(CodecError, match=f"expected a {other.value} record, found {kind.value}"):
        decode_event(other, payload(kind))


@given(st.sampled_from(EVENT_KINDS), st.binary(max_size=120))
def test_hostile_bytes_are_an_event_or_one_error(kind: PayloadKind, body: bytes) -> None:
    with contextlib.suppress(FormatError):
        decode_event(kind, CODEC.header(kind.value) + body)


def test_signals_have_one_code_and_one_name_each() -> None:
    assert len(BY_CODE) == len(BY_NAME) == len(SIGNALS)
    assert all(0 < signal.code <= MAX_CODE and signal.unit for signal in SIGNALS)


def test_unknown_code_is_shown_as_its_number() -> None:
    assert (label(147842), label(1)) == ("HR", "MDC 1")
