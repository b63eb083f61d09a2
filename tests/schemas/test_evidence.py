"""The evidence file: what is written reads back, and a hostile one costs one error."""

import base64
import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import evidence as module
from schemas.evidence import (
    FORMAT,
    MAX_EVIDENCE_BYTES,
    AnchorReceipt,
    Evidence,
    EvidenceError,
    EvidenceRecord,
    parse_evidence,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBER = st.integers(0, 2**63 - 1)
DATA = st.binary(max_size=40)
RECORDS = st.builds(
    EvidenceRecord,
    topic=TEXT,
    partition=NUMBER,
    offset=NUMBER,
    timestamp_ms=NUMBER,
    key=st.none() | DATA,
    headers=st.lists(st.tuples(TEXT, st.none() | DATA), max_size=4).map(tuple),
    value=st.none() | DATA,
)
ANCHORS = st.builds(
    AnchorReceipt,
    ledger=TEXT,
    topic=TEXT,
    sequence=NUMBER,
    consensus_timestamp_ns=NUMBER,
    transaction_id=TEXT,
    payer=TEXT,
    running_hash=DATA,
    tree_size=NUMBER,
    root=DATA,
    mirror=TEXT,
)
EVIDENCE = st.builds(
    Evidence,
    record=RECORDS,
    leaf=DATA,
    shard_proof=TEXT.map(str.encode),
    epoch_proof=TEXT.map(str.encode),
    anchor=st.none() | ANCHORS,
)
ONE = Evidence(
    EvidenceRecord("device.events", 3, 7, 1_760_000_000_000, b"did:x", (("a", b"1"), ("a", None)), b"\0"),
    b"leaf",
    "c2sp.org/tlog-proof@v1\n— é\n".encode(),
    b"c2sp.org/tlog-proof@v1\n",
    AnchorReceipt("hedera", "0.0.5", 4, 5, "0.0.2@1.2", "0.0.2", b"h" * 48, 9, b"r" * 32, "http://m"),
)
PATHS = [
    *(("record", name) for name in json.loads(ONE.to_json())["record"]),
    *(("anchor", name) for name in json.loads(ONE.to_json())["anchor"]),
    *((name,) for name in json.loads(ONE.to_json())),
]
WRONG: list[Any] = [
    True,
    1.5,
    -1,
    2**63,
    10**4000,
    [],
    {},
    [[]],
    "\ud800",
    "é",
    "AA",
    "AB==",
    "AA==\n",
    "QUJD REVG",
    None,
]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.sampled_from(WRONG),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


def changed(path: tuple[str, ...], value: Any) -> bytes:
    """The file of ONE with another value at a place."""
    document = json.loads(ONE.to_json())
    where = document
    for name in path[:-1]:
        where = where[name]
    where[path[-1]] = value
    return json.dumps(document).encode()


@given(EVIDENCE)
def test_evidence_reads_back(evidence: Evidence) -> None:
    assert parse_evidence(evidence.to_json().encode()) == evidence


def test_null_and_empty_are_told_apart() -> None:
    found = parse_evidence(changed(("record", "value"), None)).record.value
    assert found is None
    assert parse_evidence(changed(("record", "value"), "")).record.value == b""


BAD_HEADERS: list[Any] = [
    {},
    "AA==",
    [["a"]],
    [["a", "AA==", "AA=="]],
    [{"a": "AA=="}],
    [[1, "AA=="]],
    [[None, "AA=="]],
    [["\udc00", "AA=="]],
    [["a", 1]],
    [["a", "A"]],
]
NULL = None
AT_FAULT: list[tuple[tuple[str, ...], Any]] = [
    *itertools.product(PATHS, (True, 1.5, -1, 2**63, {}, "\ud800")),
    *((("record", name), NULL) for name in ("topic", "partition", "offset", "timestamp_ms", "headers")),
    *((("anchor", name), NULL) for name in json.loads(ONE.to_json())["anchor"]),
    *(((name,), NULL) for name in ("format", "record", "leaf", "shard_proof", "epoch_proof")),
    *itertools.product(
        (("leaf",), ("record", "key"), ("anchor", "root")),
        ("A", "AA", "AB==", "AA==\n", "QUJD REVG", "é", "AAAA=", "_-__"),
    ),
    *((("record", "headers"), headers) for headers in BAD_HEADERS),
    (("format",), "attestream-evidence/v2"),
]


@pytest.mark.parametrize(("path", "value"), AT_FAULT)
def test_member_at_fault_is_named(path: tuple[str, ...], value: Any) -> None:
    with pytest.raises(EvidenceError, match=path[-1]):
        parse_evidence(changed(path, value))


def test_wrong_type_is_not_called_bad_base64() -> None:
    with pytest.raises(EvidenceError, match=r"record\.key is not base64 text"):
        parse_evidence(changed(("record", "key"), 5))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b"\xff\xfe{\0}\0",
        b"\xef\xbb\xbf{}",
        ONE.to_json().encode("utf-16"),
        ONE.to_json().encode("utf-32"),
        b"[" * 200_000,
        b'{"record":' * 200_000,
        b'{"format":NaN}',
        b'{"format":-Infinity}',
        b'{"format":1e999}',
        b'{"format":' + b"9" * 5_000 + b"}",
        b'{"format":"' + b"x" * 100_000 + b'"}',
        ONE.to_json().encode() + b"{}",
        ONE.to_json().encode()[:-1],
    ],
)
def test_what_is_no_evidence_is_one_short_error(data: bytes) -> None:
    with pytest.raises(EvidenceError) as caught:
        parse_evidence(data)
    assert len(str(caught.value)) < 300


def test_second_member_of_a_name_is_refused() -> None:
    """One reader takes the first, another the last: they would see two records in one file."""
    text = ONE.to_json().replace('"offset": 7', '"offset": 6, "offset": 7')
    with pytest.raises(EvidenceError, match="two members of one name"):
        parse_evidence(text.encode())


def test_oversized_file_is_refused_before_it_is_read() -> None:
    with pytest.raises(EvidenceError, match="above the limit"):
        parse_evidence(b" " * (MAX_EVIDENCE_BYTES + 1))


def test_number_of_headers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_HEADERS", 2)
    with pytest.raises(EvidenceError, match="headers is not a list of at most 2"):
        parse_evidence(changed(("record", "headers"), [["a", None]] * 3))


def test_unknown_members_are_passed_over() -> None:
    assert parse_evidence(changed(("registry_chain",), [1])) == ONE


def test_every_place_takes_every_wrong_value_in_stride() -> None:
    for path in PATHS:
        for value in WRONG:
            try:
                parse_evidence(changed(path, value))
            except EvidenceError:
                continue


@settings(max_examples=200)
@given(st.sampled_from(PATHS), JSON_VALUES)
def test_wrong_types_are_evidence_or_one_error(path: tuple[str, ...], value: Any) -> None:
    try:
        found = parse_evidence(changed(path, value))
    except EvidenceError:
        return
    assert parse_evidence(found.to_json().encode()) == found


@given(st.binary(max_size=100), st.integers(0, len(ONE.to_json())), st.integers(0, 20))
def test_damaged_bytes_are_evidence_or_one_error(noise: bytes, at: int, cut: int) -> None:
    data = ONE.to_json().encode()
    try:
        parse_evidence(data[:at] + noise + data[at + cut :])
    except EvidenceError:
        return


def test_file_is_ascii_and_bytes_are_standard_base64() -> None:
    text = ONE.to_json()
    assert text.isascii()
    document = json.loads(text)
    assert document["format"] == FORMAT
    assert document["record"]["key"] == base64.b64encode(b"did:x").decode()
    assert document["record"]["headers"] == [["a", "MQ=="], ["a", None]]
