"""What the records of each topic are: key, value, schema and headers, for documents that are generated."""

from dataclasses import dataclass, replace

from pipeline.partytopics import party_topic, undelivered_topic
from pipeline.topics import (
    ACCESS_RAW,
    ALERTS,
    ANCHORS,
    CHECKPOINTS,
    CONTROLS,
    DECISIONS,
    EVENTS,
    FINDINGS,
    INTEGRITY,
    LIFECYCLE_RAW,
    POLICIES,
    PRINTS,
    RAW_TOPICS,
    REGISTRY,
    REJECTED,
    TELEMETRY_RAW,
    changelog_of,
)

ENVELOPE = "signed_envelope"
AVRO, JSON, TEXT, BYTES = "avro/binary", "application/json", "text/plain", "application/octet-stream"
_SOURCE = {"source": "the raw record's topic/partition/offset"}
_REGISTRY_OFFSET = {"registry.offset": "offset of the registry that applied, in decimal"}
_CLOUD_EVENT = {
    "content-type": "application/json; charset=utf-8",
    "ce_specversion": "1.0",
    "ce_id": "place of the first record told of; of a report with + and a digest of the places of all",
    "ce_source": "urn:attestream:<log name>:correlate",
    "ce_type": "org.attestream.alert.v1",
    "ce_subject": "the device, or the rule where there is none",
    "ce_time": "broker time of the last record told of",
    "ce_salt": "16 unpredictable bytes in hex",
}


@dataclass(frozen=True, slots=True)
class Content:
    """What the records of a topic are: key and value in words, the value's schema and headers."""

    key: str
    value: str
    record: str = ""
    """An Avro record of the codec; empty where the value is none."""
    carries: str = ""
    """The record within a signed envelope."""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = AVRO


def _signed(key: str, record: str) -> Content:
    return Content(key, f"signed envelope of `{record}`", ENVELOPE, record)


def _headers(*groups: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(item for group in groups for item in group.items())


_REJECTION = {
    "reason": "why, by its name",
    **_REGISTRY_OFFSET,
    **_SOURCE,
    "salt": "16 unpredictable bytes",
    "__streams.errors.exception": "the reason again",
    "__streams.errors.message": "a sentence, at most 500 characters",
    "__streams.errors.topic": "the source in parts",
    "__streams.errors.partition": "the source in parts",
    "__streams.errors.offset": "the source in parts",
    "value.length": "of a value above 256 KiB, of which the record keeps the first 4,096 bytes",
    "value.blake3": "of such a value",
    "key.length": "of a key above 256 bytes, which is then null",
    "key.blake3": "of such a key",
    "device": "the device id as far as it was read; before a signature verified, a claim",
}
_CHANGELOG = Content(
    "device id; of a `device_delta` with byte 0xff after it",
    "`device_state`, or `device_delta`: what has changed since; ingest's own",
    "device_state",
)
CONTENT = {
    TELEMETRY_RAW: _signed("device id", "telemetry"),
    ACCESS_RAW: _signed("device id", "access"),
    LIFECYCLE_RAW: _signed("device id", "lifecycle"),
    EVENTS: Content(
        "device id",
        "the raw record's value, untouched",
        ENVELOPE,
        headers=_headers(_REGISTRY_OFFSET, _SOURCE),
    ),
    REJECTED: Content(
        "the raw record's",
        "the raw record's value, or its first 4 KiB",
        headers=_headers(_REJECTION),
        content_type=BYTES,
    ),
    FINDINGS: Content("device id", "`finding`", "finding"),
    DECISIONS: Content(
        "subject",
        "`decision`",
        "decision",
        headers=_headers(_REGISTRY_OFFSET, {"policy.offset": "offset of the policies that applied"}, _SOURCE),
    ),
    PRINTS: Content("the raw topic/partition", "`noise_prints`", "noise_prints"),
    REGISTRY: _signed("subject", "registry_entry"),
    POLICIES: _signed("name of the document", "policy_entry"),
    INTEGRITY: Content("origin", "`finding`", "finding"),
    ALERTS: Content("alert's uid", "OCSF as JSON", headers=_headers(_CLOUD_EVENT), content_type=JSON),
    CONTROLS: _signed("`silence/<name>`, or an alert's uid", "alert_control"),
    CHECKPOINTS: Content("origin, or `shards`", "signed note", content_type=TEXT),
    ANCHORS: Content("tree size", "`anchor`", "anchor"),
    **{changelog_of(raw): _CHANGELOG for raw in RAW_TOPICS},
    changelog_of(DECISIONS): Content(
        "32 hex digits of BLAKE3 of the subject", "`profile`, the profile stage's own", "profile"
    ),
    changelog_of(PRINTS): Content(
        "`head`, or `pair/<number>`", "`noise_memory`, the profile stage's own", "noise_memory"
    ),
}
"""Of every topic of the table."""

_PARTY = {**_CLOUD_EVENT, "party": "its name", "party.sequence": "its own number, from 1, without a gap"}
_NOT_TAKEN = {"output": "which did not take it", "reason": "refused, given_up or unreadable", "detail": "why"}


def content_for_party(party: str) -> dict[str, Content]:
    """What the topics of a party hold."""
    ours = _headers(_PARTY, {"source": "where the alert stands: alerts/0/offset"})
    told = Content("alert's uid", "the alert, untouched", headers=ours, content_type=JSON)
    return {
        party_topic(party): told,
        undelivered_topic(party): replace(told, headers=(*ours, *_NOT_TAKEN.items())),
    }
