"""What a batch of telemetry is opened to is what the codec reads of it, and what its device signed."""

from array import array

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import CODEC
from schemas.envelope import PayloadKind, pae, pae_prefix
from schemas.events import Event, check_header, check_readings
from schemas.opening import Open, opener, plain_opener
from tests.kit.cases.telemetry import damaged, damages, enveloped, telemetry

PREFIX = pae_prefix(PayloadKind.TELEMETRY, "log.example")
OPENERS = [opener(PREFIX), plain_opener(PREFIX)]
"""What is at work here, and what is at work without the crate: the same where there is none."""


def check(open_all: Open, value: bytes) -> bool:
    """Compare with the codec; return whether it was opened."""
    (opened,) = open_all([value])
    if opened is None:
        return False
    device_id, boot, sequence, time_us, codes, values, key_id, signature, message, digest = opened
    # Of the codec itself: what decodes envelopes and events elsewhere takes the same shortcut first.
    envelope = CODEC.decode("signed_envelope", value)
    assert envelope["signatures"] == [{"key_id": key_id, "algorithm": "ED25519", "signature": signature}]
    payload = envelope["payload"]
    assert message == pae(PREFIX, payload)
    assert digest == blake3(payload).digest()
    record = CODEC.decode("telemetry", payload)
    numbers = device_id, boot, sequence, time_us, list(codes)
    assert numbers == tuple(record[name] for name in ("device_id", "boot", "sequence", "time", "codes"))
    assert bytes(values) == array("d", record["values"]).tobytes()
    check_header(Event(PayloadKind.TELEMETRY, device_id, boot, sequence, time_us, record))
    check_readings(record["codes"], record["values"])
    return True


@pytest.mark.parametrize("open_all", OPENERS)
@settings(max_examples=300, deadline=None)
@given(record=telemetry, key_id=st.just("k1") | st.text(max_size=70), harm=damages)
def test_whatever_is_opened_is_what_the_codec_reads(
    open_all: Open, record: dict[str, object], key_id: str, harm: list[tuple[int, int, int]]
) -> None:
    value = enveloped(CODEC.encode("telemetry", record), key_id)
    check(open_all, value)
    for each in harm:
        value = damaged(value, *each)
        check(open_all, value)


@pytest.mark.parametrize("open_all", OPENERS)
def test_what_devices_send_is_opened_and_all_else_has_none_in_its_place(open_all: Open) -> None:
    record = {
        "device_id": "did:key:z6MkDevice", "boot": 3, "sequence": 70_000, "time": 1_700_000_000_000_000,
        "codes": [147842, 149514], "values": [71.3, -0.0],
    }  # fmt: skip
    value = enveloped(CODEC.encode("telemetry", record), "k1")
    assert check(open_all, value)
    found = open_all([None, value, b"", value[:-1], value])
    assert [each is not None for each in found] == [False, True, False, False, True]
    assert found[1] == found[4]
    assert list(open_all([])) == []
