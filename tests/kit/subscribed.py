"""Parties on a deployment: a signed file in force, alerts to be routed, and what came of them."""

import json
import time
from collections.abc import Sequence
from typing import Any

from pipeline import kafka, topics
from pipeline.parties import enforce, sign_parties
from pipeline.partytopics import party_topic
from pipeline.settings import Settings
from pipeline.trust import authority_identity
from processors.model import RawRecord
from tests.kit.deployment import Deployment, read_topic, wait_for


def subscribe(settings: Settings, version: int, parties: Sequence[dict[str, Any]]) -> None:
    """Sign a parties file and put it in force."""
    document = {"log_name": settings.log_name, "version": version, "parties": list(parties)}
    data, _ = sign_parties(settings, json.dumps(document).encode(), authority_identity(settings))
    enforce(settings, data)


def party(name: str, *outputs: dict[str, Any], **filters: Any) -> dict[str, Any]:
    return {"name": name, "filter": filters, "outputs": list(outputs)}


def alert_record(uid: str, **changes: Any) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Key, value and headers of an alert as the correlator writes it."""
    now_ms = time.time_ns() // 1_000_000
    document: dict[str, Any] = {
        "activity_id": 1, "category_uid": 2, "class_uid": 2004, "severity_id": 4, "severity": "High",
        "type_uid": 200401, "time": now_ms, "start_time": now_ms, "message": f"alert {uid}", "is_alert": True,
        "metadata": {"uid": uid, "version": "1.9.0", "product": {"name": "attestream"}},
        "finding_info": {"uid": f"f-{uid}", "title": "Something", "analytic": {"uid": "stuck", "type_id": 1}},
        "device": {"uid": "did:key:zDevice", "type_id": 7}, **changes,
    }  # fmt: skip
    headers = [("content-type", b"application/json"), ("ce_id", uid.encode()), ("ce_type", b"test")]
    return document["finding_info"]["uid"].encode(), json.dumps(document).encode(), headers


def publish_alerts(deployment: Deployment, uids: Sequence[str], **changes: Any) -> None:
    """Publish alerts in order, each once, and wait until the broker has them."""
    for uid in uids:
        key, value, headers = alert_record(uid, **changes)
        deployment.producer.produce(topics.ALERTS, value, key, 0, headers=headers)  # type: ignore[arg-type]
    assert deployment.producer.flush(30) == 0


def told(settings: Settings, name: str) -> list[RawRecord]:
    """Read a party's topic; empty while there is none."""
    if party_topic(name) not in kafka.admin(settings).list_topics(timeout=20).topics:
        return []
    return read_topic(settings, party_topic(name))


def header(record: RawRecord, name: str) -> str:
    return (dict(record.headers)[name] or b"").decode()


def wait_told(settings: Settings, name: str, count: int) -> list[RawRecord]:
    """Wait until a party was told of so many alerts."""
    found: list[RawRecord] = []

    def enough() -> bool:
        found[:] = told(settings, name)
        return len(found) >= count

    wait_for(enough, f"{count} alerts for {name}")
    return found


def assert_gapless(records: Sequence[RawRecord]) -> None:
    assert [header(r, "party.sequence") for r in records] == [str(n) for n in range(1, len(records) + 1)]
