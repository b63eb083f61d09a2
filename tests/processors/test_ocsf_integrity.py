"""The attestation of an alert, checked by a reader that shares no code with the writer."""

import hashlib
import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.topics import RAW_TOPICS, SEALED_TOPICS
from processors.ocsf import Activity, Alert, encode, integrity
from schemas.records import EvidenceRef, Severity
from tests.kit.denials import REPORTER, denial, denial_alert

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=20)  # halves of surrogate pairs too
SCORES = st.none() | st.floats() | st.sampled_from([0.0, 1.0, 1e-7, 0.12345678, 1e21, 2.0**53])


def jcs(value: Any) -> str:
    """RFC 8785, of its numbers the whole ones and plain decimals, which Python and ECMAScript write alike."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{jcs(name)}:{jcs(value[name])}" for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(jcs(each) for each in value) + "]"
    if isinstance(value, float):
        assert re.fullmatch(r"-?(0|[1-9]\d*)\.\d*[1-9]", repr(value)), value
    if isinstance(value, int) and not isinstance(value, bool):
        assert abs(value) < 2**53
    return json.dumps(value, ensure_ascii=False)


def fingerprint_of(document: dict[str, Any]) -> str:
    """The fingerprint by the profile's own words: over the whole event but for itself and signatures."""
    (attestation,) = document["attestation_list"]
    bare = {name: value for name, value in attestation.items() if name not in ("fingerprint", "signatures")}
    return hashlib.sha256(jcs({**document, "attestation_list": [bare]}).encode()).hexdigest()


def alert(**changes: Any) -> Alert:
    fields: dict[str, Any] = {
        "uid": "00" * 16, "event_uid": "device.findings/3/7", "activity": Activity.CREATE,
        "analytic": "bounds", "title": "title", "types": ("Telemetry anomaly",),
        "severity": Severity.MEDIUM, "message": "message",
        "start_ms": 1_700_000_000_123, "end_ms": 1_700_000_000_123, "count": 1,
        "device_id": "did:key:z6MkDevice",
        "evidence": (
            EvidenceRef("device.telemetry.raw", 3, 41, b"\xab" * 32),
            EvidenceRef("device.events", 2, 9),
            EvidenceRef("log.checkpoints", 0, 5),
        ),
    }  # fmt: skip
    return Alert(**{**fields, **changes})


@given(ANY_TEXT, ANY_TEXT, st.dictionaries(st.text(st.characters(codec="ascii")), ANY_TEXT), SCORES)
def test_a_stranger_finds_the_fingerprint_again(
    message: str, subject: str, parameters: dict[str, str], score: float | None
) -> None:
    value = encode(alert(message=message, subject=subject, parameters=parameters, score=score), REPORTER)
    document = json.loads(value)
    assert document["attestation_list"][0]["fingerprint"]["value"] == fingerprint_of(document)
    assert value.decode() == jcs(document)


def test_a_denial_is_attested_too() -> None:
    document = json.loads(encode(denial_alert(denial()), REPORTER))
    assert document["attestation_list"][0]["fingerprint"]["value"] == fingerprint_of(document)


@pytest.mark.parametrize("path", [("message",), ("metadata", "uid"), ("attestation_list", 0, "chain_uid")])
def test_a_change_shows(path: tuple[str | int, ...]) -> None:
    document = json.loads(encode(alert(), REPORTER))
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] += "x"
    assert document["attestation_list"][0]["fingerprint"]["value"] != fingerprint_of(document)


def test_the_attestation_names_log_and_shard_and_claims_no_proof() -> None:
    document = json.loads(encode(alert(), REPORTER))
    (attestation,) = document["attestation_list"]
    assert set(attestation) == {"authority_uid", "chain_uid", "fingerprint"}
    assert attestation["authority_uid"] == "attestream.test"
    assert attestation["chain_uid"] == "attestream.test/alerts/0"
    assert {
        name: attestation["fingerprint"][name] for name in ("algorithm", "encoding", "serialization")
    } == {
        "algorithm": "SHA-256",
        "encoding": "Hex",
        "serialization": "JCS",
    }
    assert document["metadata"]["profiles"] == ["host", "record_integrity"]


def test_evidence_names_the_shard_that_seals_it_and_none_where_none_does() -> None:
    document = json.loads(encode(alert(), REPORTER))
    shards = [each["data"].get("shard") for each in document["evidences"]]
    assert shards == [None, "attestream.test/device.events/2", "attestream.test"]


def test_what_is_called_sealed_is_what_the_pipeline_seals() -> None:
    assert set(SEALED_TOPICS) == integrity.SEALED_TOPICS
    assert not integrity.SEALED_TOPICS & set(RAW_TOPICS)


@pytest.mark.parametrize(("score", "told"), [(1.0, 1), (0.98765432, 0.9877), (1e-9, 0), (math.inf, "inf")])
def test_a_score_is_written_as_any_reader_writes_it(score: float, told: object) -> None:
    found = json.loads(encode(alert(score=score), REPORTER))["unmapped"]["score"]
    assert found == told
    assert type(found) is type(told)
