"""Digests of records: known bytes, and no two records with one digest input; leaves and findings."""

import itertools
from collections.abc import Sequence

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from schemas import records
from schemas.codec import CODEC
from schemas.errors import CodecError
from schemas.records import (
    EvidenceRef,
    Finding,
    FindingStatus,
    Headers,
    Severity,
    decode_finding,
    encode_leaf,
    key_digest,
    record_digest,
    value_digest,
)

DATA = st.none() | st.binary(max_size=6)
NAME = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
HEADERS = st.lists(st.tuples(NAME, DATA), max_size=4)
PLACE = (DATA, HEADERS)


def part(data: bytes | None) -> bytes:
    return b"\xff\xff\xff\xff" if data is None else len(data).to_bytes(4, "big") + data


def digest_input(key: bytes | None, headers: Headers) -> bytes:
    """What `key_digest` hashes, written down from docs/formats.md."""
    parts = [part(key), len(headers).to_bytes(4, "big")]
    parts += [part(each) for name, value in headers for each in (name.encode(), value)]
    return b"".join(parts)


def read_back(data: bytes) -> tuple[bytes | None, list[tuple[str, bytes | None]]]:
    """Undo `digest_input`: what can be read back in one way only cannot be the input of two records."""
    position = 0

    def take() -> bytes | None:
        nonlocal position
        length, position = data[position : position + 4], position + 4
        if length == b"\xff\xff\xff\xff":
            return None
        start, position = position, position + int.from_bytes(length, "big")
        return data[start:position]

    key = take()
    count, position = int.from_bytes(data[position : position + 4], "big"), position + 4
    headers = []
    for _ in range(count):
        name, value = take(), take()
        assert name is not None
        headers.append((name.decode(), value))
    assert position == len(data)
    return key, headers


def test_digests_of_known_bytes() -> None:
    key, headers, value = b"k", [("h", b"v"), ("n", None), ("", b"")], b"value"
    spelled = bytes.fromhex(
        "00000001 6b"  # the key
        "00000003"  # three headers
        "00000001 68 00000001 76"
        "00000001 6e ffffffff"
        "00000000 00000000"
    )
    assert key_digest(key, headers) == blake3(spelled).digest()
    assert value_digest(value) == blake3(b"\0\0\0\x05value").digest()
    both = blake3(spelled).digest() + blake3(b"\0\0\0\x05value").digest()
    assert record_digest(key, headers, value) == blake3(both).digest()


@pytest.mark.parametrize(
    ("digest", "known"),
    [
        (key_digest(b"k", [("h", b"v")]), "b39df298d58bd28a79585891ad3095ccbed1edcbfe006a653cb0d0f57c0c37d7"),
        (value_digest(b"value"), "0a63026b3ef9ceed2063dc741bc000297c985541d9f18ecca4f3ffb694415ea6"),
        (
            record_digest(b"k", [("h", b"v")], b"value"),
            "62dfd38765ba341c76de87cebb8c9b81bae7c85289351467e95e6e5da6089054",
        ),
        (record_digest(None, [], None), "99b688b77618d2bc29e1a96d5201daad183b658946893dbe9d97ded320ef45c5"),
    ],
)
def test_digest_is_the_one_of_every_log_that_exists(digest: bytes, known: str) -> None:
    """Computed once with BLAKE3 alone: a change here breaks every log."""
    assert digest.hex() == known


@given(*PLACE)
def test_digest_input_can_be_read_back_in_one_way_only(
    key: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    data = digest_input(key, headers)
    assert read_back(data) == (key, headers)
    assert key_digest(key, headers) == blake3(data).digest()


@given(st.tuples(DATA, HEADERS, DATA), st.tuples(DATA, HEADERS, DATA))
def test_different_records_have_different_digests(
    one: tuple[bytes | None, Headers, bytes | None], other: tuple[bytes | None, Headers, bytes | None]
) -> None:
    assert (record_digest(*one) == record_digest(*other)) is (one == other)


def test_bytes_cannot_move_between_parts() -> None:
    """Same concatenation, other borders; null beside empty; a header beside a longer key."""
    tries: list[tuple[bytes | None, Headers, bytes | None]] = [
        (b"ab", [("c", b"d")], b"e"),
        (b"a", [("bc", b"d")], b"e"),
        (b"ab", [("cd", b"")], b"e"),
        (b"ab", [("cd", None)], b"e"),
        (b"ab", [("c", b"de")], b""),
        (b"ab", [("c", b"de")], None),
        (b"", [("c", b"d")], b"e"),
        (None, [("c", b"d")], b"e"),
        (b"ab", [], b"cde"),
        (b"ab", [("", None)], b"cde"),
        (b"ab", [("", None), ("", None)], b"cde"),
    ]
    assert len({record_digest(*each) for each in tries}) == len(tries)


def test_order_and_number_of_headers_matter() -> None:
    headers = [("a", b"1"), ("a", b"2"), ("b", b"1")]
    orders: list[Sequence[tuple[str, bytes | None]]] = list(itertools.permutations(headers))
    orders += [headers[:2], headers[1:], [*headers, headers[0]]]
    assert len({key_digest(b"k", order) for order in orders}) == len(orders)


def test_value_can_be_withheld() -> None:
    """Whoever holds only the value's digest still computes the record's."""
    key, headers, value = b"k", [("h", b"v")], b"secret"
    assert blake3(key_digest(key, headers) + value_digest(value)).digest() == record_digest(
        key, headers, value
    )


def test_leaf_holds_place_time_and_digest_only() -> None:
    leaf = encode_leaf(7, 1_760_000_000_000, bytes(range(32)))
    assert CODEC.decode("leaf", leaf) == {
        "offset": 7,
        "timestamp": 1_760_000_000_000,
        "digest": bytes(range(32)),
    }
    with pytest.raises(CodecError):
        encode_leaf(7, 0, bytes(31))


FINDING = Finding(
    rule="out_of_bounds",
    severity=Severity.HIGH,
    device_id="did:example:monitor",
    time_us=1_760_000_000_000_000,
    explanation="HR 400 bpm",
    evidence=(EvidenceRef("device.telemetry.raw", 3, 9, bytes(32)), EvidenceRef("device.events", 3, 1)),
    score=1.5,
    subject="nurse-7",
    parameters={"high": "300"},
)


def test_finding_reads_back() -> None:
    assert decode_finding(FINDING.encode(bytes(range(16)))) == {
        "id": FINDING.id,
        "rule": "out_of_bounds",
        "status": "OPENED",
        "severity": "HIGH",
        "score": 1.5,
        "device_id": "did:example:monitor",
        "subject": "nurse-7",
        "time": 1_760_000_000_000_000,
        "explanation": "HR 400 bpm",
        "evidence": [
            {"topic": "device.telemetry.raw", "partition": 3, "offset": 9, "digest": bytes(32)},
            {"topic": "device.events", "partition": 3, "offset": 1, "digest": None},
        ],
        "parameters": {"high": "300"},
        "salt": bytes(range(16)),
    }


def test_id_of_a_finding_follows_from_its_cause() -> None:
    spelled = b"".join(
        part(t) for t in (b"out_of_bounds", b"did:example:monitor", b"device.telemetry.raw/3/9")
    )
    assert FINDING.id == blake3(spelled).digest(16)


def finding(**changes: object) -> Finding:
    fields = {name: getattr(FINDING, name) for name in records.Finding.__dataclass_fields__}
    return Finding(**{**fields, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"status": FindingStatus.CLEARED},
        {"score": 9.0},
        {"time_us": 0},
        {"explanation": "it goes on"},
        {"evidence": FINDING.evidence[:1]},
        {"parameters": {}},
    ],
)
def test_update_of_a_finding_keeps_its_id(changes: dict[str, object]) -> None:
    assert finding(**changes).id == FINDING.id


@pytest.mark.parametrize(
    "changes",
    [
        {"rule": "stuck_sensor"},
        {"device_id": "did:example:pump"},
        {"cause": "HR"},
        {"evidence": FINDING.evidence[1:]},
        {"evidence": ()},
    ],
)
def test_another_cause_is_another_finding(changes: dict[str, object]) -> None:
    assert finding(**changes).id != FINDING.id


def test_cause_stands_before_the_first_evidence() -> None:
    assert finding(cause="HR").id == finding(cause="HR", evidence=()).id
