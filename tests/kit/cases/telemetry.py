"""Telemetry and envelopes as strategies: of the common shape and of others, whole and damaged."""

from hypothesis import strategies as st

from schemas.codec import CODEC

numbers = st.one_of(st.integers(-3, 300), st.integers(-(2**63), 2**63 - 1))
telemetry = st.builds(
    lambda device, boot, sequence, time, readings: {
        "device_id": device,
        "boot": boot,
        "sequence": sequence,
        "time": time,
        "codes": [code for code, _ in readings],
        "values": [value for _, value in readings],
    },
    st.one_of(st.just("did:key:z6MkDevice"), st.text(max_size=80)),
    numbers,
    numbers,
    numbers,
    st.lists(
        st.tuples(st.one_of(st.just(147842), st.integers(-(2**31), 2**31 - 1)), st.floats()), max_size=70
    ),
)
envelopes = st.builds(
    lambda payload, signatures: {"payload": payload, "signatures": signatures},
    st.one_of(st.binary(max_size=300), st.just(bytes(9000)), st.just(bytes(17000))),
    st.lists(
        st.fixed_dictionaries(
            {
                "key_id": st.one_of(st.just("k1"), st.text(max_size=70)),
                "algorithm": st.just("ED25519"),
                "signature": st.one_of(st.binary(min_size=64, max_size=64), st.binary(max_size=70)),
            }
        ),
        min_size=0,
        max_size=3,
    ),
)


def damaged(data: bytes, at: int, byte: int, how: int) -> bytes:
    at %= len(data) + 1
    match how:
        case 0:
            return data[:at] + bytes((byte,)) + data[at + 1 :]
        case 1:
            return data[:at] + bytes((byte,)) + data[at:]
        case 2:
            return data[:at] + data[at + 1 :]
        case 3:
            return data[:at]
    return data + bytes((byte,))


damages = st.lists(
    st.tuples(st.integers(0, 2**16), st.sampled_from([0, 1, 2, 127, 128, 129, 255]), st.integers(0, 4)),
    max_size=3,
)


def enveloped(payload: bytes, key_id: str) -> bytes:
    """Put a payload into an envelope with one signature, which signs nothing."""
    signature = {"key_id": key_id, "algorithm": "ED25519", "signature": bytes(range(64))}
    return CODEC.encode("signed_envelope", {"payload": payload, "signatures": [signature]})
