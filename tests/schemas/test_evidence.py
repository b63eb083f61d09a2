"""The evidence file: what is written reads back, and a hostile one costs one error."""

import base64
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import evidence as module
from schemas.evidence import (
    FORMAT,
    MAX_EVIDENCE_BYTES,
    MAX_REGISTRY_ENTRIES,
    MAX_SEGMENT,
    AnchorReceipt,
    ChainPoint,
    Evidence,
    EvidenceError,
    EvidenceRecord,
    ProvenRecord,
    SegmentMessage,
    parse_evidence,
)
from schemas.records import record_digest, value_digest

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBER = st.integers(0, 2**63 - 1)
DATA = st.binary(max_size=40)
HEADERS = st.lists(st.tuples(TEXT, st.none() | DATA), max_size=4).map(tuple)
PROOF = TEXT.map(str.encode)
WHOLE = st.builds(
    EvidenceRecord,
    topic=TEXT,
    partition=NUMBER,
    offset=NUMBER,
    timestamp_ms=NUMBER,
    key=st.none() | DATA,
    headers=HEADERS,
    value=st.none() | DATA,
)
RECORDS = WHOLE | st.builds(
    EvidenceRecord,
    topic=TEXT,
    partition=NUMBER,
    offset=NUMBER,
    timestamp_ms=NUMBER,
    key=st.none() | DATA,
    headers=HEADERS,
    value=st.none(),
    withheld=st.binary(min_size=32, max_size=32),
)
POINTS = st.builds(ChainPoint, sequence=NUMBER, running_hash=DATA)
MESSAGES = st.builds(
    SegmentMessage,
    sequence=NUMBER,
    consensus_timestamp_ns=NUMBER,
    payer=TEXT,
    message=DATA,
    running_hash=DATA,
)
ANCHORS = st.builds(
    AnchorReceipt,
    ledger=TEXT,
    topic=TEXT,
    sequence=NUMBER,
    consensus_timestamp_ns=NUMBER,
    transaction_id=TEXT,
    payer=TEXT,
    mirror=TEXT,
    message=DATA,
    running_hash=DATA,
    running_hash_version=NUMBER,
    segment_start=st.none() | POINTS,
    segment=st.lists(MESSAGES, max_size=3).map(tuple),
)
EVIDENCE = st.builds(
    Evidence,
    record=RECORDS,
    leaf=DATA,
    shard_proof=PROOF,
    epoch_proof=PROOF,
    registry=st.lists(
        st.builds(ProvenRecord, record=RECORDS, leaf=DATA, shard_proof=PROOF, epoch_proof=PROOF), max_size=2
    ).map(tuple),
    anchor=st.none() | ANCHORS,
)
RECORD = EvidenceRecord("device.events", 3, 7, 1_760_000_000_000, b"did:x", (("a", b"1"), ("a", None)), b"\0")
ENTRY = EvidenceRecord("identity.registry", 0, 2, 1_750_000_000_000, b"did:x", (), b"entry")
ONE = Evidence(
    RECORD,
    b"leaf",
    "c2sp.org/tlog-proof@v1\n— é\n".encode(),
    b"c2sp.org/tlog-proof@v1\n",
    (ProvenRecord(ENTRY, b"leaf", b"shard", b"epoch"),),
    AnchorReceipt(
        "hedera",
        "0.0.5",
        4,
        5,
        "0.0.2@1.2",
        "0.0.2",
        "http://m",
        b"{}",
        b"h" * 48,
        3,
        ChainPoint(3, b"g" * 48),
        (SegmentMessage(4, 5, "0.0.2", b"{}", b"h" * 48),),
    ),
)
DOCUMENT = json.loads(ONE.to_json())
Path = tuple[str | int, ...]


def paths_of(document: Any, path: Path = ()) -> Iterator[Path]:
    """Every member of an object, at every depth, but not the pairs of headers."""
    items: Any = document.items() if isinstance(document, dict) else ()
    if isinstance(document, list) and path[-1] != "headers":
        items = enumerate(document)
    for name, value in items:
        yield (*path, name)
        yield from paths_of(value, (*path, name))


PATHS = list(paths_of(DOCUMENT))
NAMED = [path for path in PATHS if isinstance(path[-1], str)]
NULLABLE = ("key", "value", "anchor", "segment_start")
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


def changed(path: Path, value: Any) -> bytes:
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
AT_FAULT: list[tuple[Path, Any]] = [
    *itertools.product(NAMED, (True, 1.5, -1, 2**63, "\ud800")),
    *((path, {}) for path in NAMED if path[-1] not in ("record", "anchor", "segment_start")),
    *((path, None) for path in NAMED if path[-1] not in NULLABLE),
    *itertools.product(
        (("leaf",), ("record", "key"), ("anchor", "message"), ("anchor", "segment", 0, "running_hash")),
        ("A", "AA", "AB==", "AA==\n", "QUJD REVG", "é", "AAAA=", "_-__"),
    ),
    *((("record", "headers"), headers) for headers in BAD_HEADERS),
    (("format",), "attestream-evidence/v2"),
    (("registry",), [None]),
    (("registry",), [{}] * (MAX_REGISTRY_ENTRIES + 1)),
    (("anchor", "segment"), [{}] * (MAX_SEGMENT + 1)),
    *((("record", "value_digest"), wrong) for wrong in (None, "", 5, "AA==", "A" * 43 + "=")),
]


@pytest.mark.parametrize(("path", "value"), AT_FAULT)
def test_member_at_fault_is_named(path: Path, value: Any) -> None:
    with pytest.raises(EvidenceError, match=str(path[-1])):
        parse_evidence(changed(path, value))


@pytest.mark.parametrize("path", NAMED)
def test_member_that_is_left_out_is_named(path: Path) -> None:
    """Also where null would do: a name that was changed must not read as one left out."""
    document = json.loads(ONE.to_json())
    where = document
    for name in path[:-1]:
        where = where[name]
    del where[path[-1]]
    with pytest.raises(EvidenceError, match=str(path[-1])):
        parse_evidence(json.dumps(document).encode())


def test_value_is_withheld_by_its_digest() -> None:
    redacted = ONE.redacted()
    assert redacted.record.value is None
    assert redacted.record.withheld == value_digest(RECORD.value)
    assert redacted.record.digest == RECORD.digest == record_digest(RECORD.key, RECORD.headers, RECORD.value)
    assert redacted.registry == ()
    assert redacted.redacted() == redacted
    assert parse_evidence(redacted.to_json().encode()) == redacted
    assert "value_digest" not in DOCUMENT["record"]
    null = replace(ONE, record=replace(RECORD, value=None))
    assert null.record.digest != redacted.record.digest
    assert null.redacted().record.digest == null.record.digest


def test_value_and_its_digest_together_are_refused() -> None:
    with pytest.raises(EvidenceError, match="withheld"):
        replace(RECORD, withheld=bytes(32))
    with pytest.raises(EvidenceError, match="32 bytes"):
        replace(RECORD, value=None, withheld=bytes(31))


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
def test_wrong_types_are_evidence_or_one_error(path: Path, value: Any) -> None:
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
