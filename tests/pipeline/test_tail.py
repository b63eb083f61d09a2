"""`attestream tail`: every topic readable, every record survivable, no record obeyed by the terminal."""

import base64
import json
import os
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipeline.cli import tail
from pipeline.cli.taillines import TOPIC_OF, UNREADABLE, document_of, line_of, printable
from pipeline.settings import UsageError
from pipeline.topics import ALERTS, CHECKPOINTS, EVENTS, FINDINGS, REGISTRY, REJECTED
from processors.alert_rules import FINDING_RULES
from processors.model import RawRecord
from processors.ocsf import Activity, Alert, Reporter, encode, headers
from schemas.decisions import DecisionReason
from schemas.records import EvidenceRef, Finding, FindingStatus, Severity
from tests.kit.denials import DEVICE, NURSE, REPORTER, denial, denial_alert
from tests.kit.deployment import Deployment

pytestmark = pytest.mark.timeout(120)

NOW_MS = 1_700_000_000_123


def record(
    topic: str, value: bytes | None, record_headers: list[tuple[str, bytes]] | None = None
) -> RawRecord:
    return RawRecord(topic, 0, 7, NOW_MS, b"did:key:a", value, tuple(record_headers or ()))


def alert(message: str = "HR is outside 15 to 300 bpm", count: int = 1) -> RawRecord:
    made = Alert(
        "aa" * 16,
        "device.findings/0/1",
        Activity.CREATE,
        "bounds",
        "title",
        ("t",),
        Severity.HIGH,
        message,
        NOW_MS,
        NOW_MS,
        count,
        "did:key:a",
        techniques=FINDING_RULES["bounds"].techniques,
    )
    reporter = Reporter("log", "1")
    return record(ALERTS, encode(made, reporter), headers(made, reporter, bytes(16)))


def finding(number: int = 0, status: FindingStatus = FindingStatus.OPENED) -> Finding:
    evidence = (EvidenceRef("device.telemetry.raw", 0, number),)
    return Finding(
        "stuck",
        Severity.LOW,
        "did:key:a",
        NOW_MS * 1000,
        f"number {number}",
        evidence,
        status=status,
        subject="eve",
    )


def test_an_alert_says_how_bad_what_and_who() -> None:
    line = line_of(alert(count=3))
    assert line.severity == "high"
    assert line.what == "HR is outside 15 to 300 bpm (3 records) [T1692.002]"
    assert line.who == "did:key:a"


def test_a_denial_says_what_was_asked_for_by_whom() -> None:
    found = denial_alert(denial(DecisionReason.SUBJECT_ENDED))
    line = line_of(record(ALERTS, encode(found, REPORTER)))
    assert line.severity == "high"
    assert line.what == f"{found.message} [T1078]"
    assert line.who == f"{DEVICE}, {NURSE}"
    over = denial_alert(denial(), activity=Activity.CLOSE)
    assert line_of(record(ALERTS, encode(over, REPORTER))).what == f"over: {over.message}"


def test_a_finding_and_its_end() -> None:
    line = line_of(record(FINDINGS, finding().encode(bytes(16))))
    assert (line.severity, line.what, line.who) == ("low", "stuck opened: number 0", "did:key:a, eve")
    cleared = line_of(record(FINDINGS, finding(status=FindingStatus.CLEARED).encode(bytes(16))))
    assert cleared.severity == "informational"


def test_a_rejection_says_why_and_where() -> None:
    given_headers = [
        ("reason", b"replay"),
        ("source", b"device.telemetry.raw/3/41"),
        ("__streams.errors.message", b"boot 1 sequence 2 was accepted from offset 9"),
    ]
    line = line_of(record(REJECTED, b"\xff", given_headers))
    assert line.severity == "medium"
    assert line.what.startswith("replay: boot 1 sequence 2")
    assert line.what.endswith("(device.telemetry.raw/3/41)")


def test_a_note_that_is_no_checkpoint_is_shown_as_its_text() -> None:
    note = "log/shards\n1\na b\n\n\N{EM DASH} log/shards " + base64.b64encode(bytes(68)).decode() + "\n"
    assert "log/shards" in line_of(record(CHECKPOINTS, note.encode())).what


def test_no_record_writes_to_the_terminal() -> None:
    line = line_of(alert("\x1b[2J\x1b]0;owned\x07 \u202e"))
    assert all(c.isprintable() for c in line.what)
    assert len(printable("x" * 10_000)) < 300
    rejected = line_of(
        record(REJECTED, None, [("reason", b"malformed"), ("source", b"t/0/1"), ("device", b"\x1b[31m")])
    )
    assert "\x1b" not in rejected.who


@pytest.mark.parametrize("topic", TOPIC_OF.values())
@pytest.mark.parametrize(
    "value", [None, b"", b"\xff" * 40, b"{}", b"[1]", b'"x"', b'{"severity":{}}', b"[" * 100_000]
)
def test_what_cannot_be_read_says_so(topic: str, value: bytes | None) -> None:
    line = line_of(record(topic, value))
    assert line.severity == UNREADABLE
    assert line.what.startswith("cannot be read: ")
    json.dumps(document_of(record(topic, value)))


@hypothesis_settings(max_examples=200)
@given(
    st.sampled_from(list(TOPIC_OF.values())),
    st.one_of(
        st.none(),
        st.binary(max_size=80),
        st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode()),
    ),
    st.lists(st.tuples(st.sampled_from(["reason", "source", "device"]), st.binary(max_size=20))),
)
def test_nothing_stops_tail(topic: str, value: bytes | None, given_headers: list[tuple[str, bytes]]) -> None:
    line_of(record(topic, value, given_headers))
    json.dumps(document_of(record(topic, value, given_headers)))


# ---- on a real Kafka ---------------------------------------------------------------------------------------


def run_tail(deployment: Deployment, *arguments: str) -> "subprocess.CompletedProcess[str]":
    settings = deployment.settings
    argv = [sys.executable, "-m", "pipeline.cli.main", "tail", *arguments]
    argv += ["--data-dir", str(settings.data_dir), "--bootstrap-servers", settings.bootstrap_servers]
    environment = {**os.environ, "ATTESTREAM_LOG_NAME": settings.log_name, "COLUMNS": "60"}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)


def write_findings(deployment: Deployment, numbers: range) -> None:
    for number in numbers:
        deployment.publish(FINDINGS, b"did:key:a", finding(number).encode(os.urandom(16)), number % 2)
        time.sleep(0.002)  # another millisecond of broker time, by which tail orders


def test_the_last_ones_of_all_partitions_in_order(deployment: Deployment) -> None:
    write_findings(deployment, range(20))
    deployment.publish(FINDINGS, None, b"\xff", 0)
    done = run_tail(deployment, "findings", "-n", "5", "--no-follow")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert [f"number {n}" in line for n, line in zip((16, 17, 18, 19), lines, strict=False)] == [True] * 4
    assert "unreadable" in lines[4]
    everything = run_tail(deployment, "findings", "--from-beginning", "--no-follow")
    assert len(everything.stdout.splitlines()) == 21


def test_json_is_one_document_a_line(deployment: Deployment) -> None:
    write_findings(deployment, range(2))
    done = run_tail(deployment, "findings", "--json", "-n", "1", "--no-follow")
    (document,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert document["topic"] == FINDINGS
    assert document["value"]["explanation"] == "number 1"


def test_real_events_and_registry_entries_are_readable(deployment: Deployment) -> None:
    device = deployment.enroll(ward="ICU-1")
    sources = [
        deployment.send(device, device.telemetry()),
        deployment.publish("device.access.raw", device.did.encode(), device.access()),
    ]
    with deployment.ingesting():
        deployment.verdicts(sources)
    events = [line_of(each) for each in deployment.read(EVENTS)]
    assert any("telemetry boot 1 number 1: 2 readings" in line.what for line in events)
    assert any("nurse-1 login monitor: GRANTED" in line.what for line in events)
    assert not any("72.5" in line.what for line in events), "no measured value on a screen by accident"
    registry = [line_of(each) for each in deployment.read(REGISTRY)]
    assert any(line.what.startswith("register version 1 k1") for line in registry)
    assert not any(line.severity == UNREADABLE for line in [*events, *registry])


def test_follow_shows_what_comes(deployment: Deployment) -> None:
    found = tail.records(deployment.settings, FINDINGS, last=0, follow=True)
    writer = threading.Timer(1.0, write_findings, (deployment, range(40, 41)))
    writer.start()
    try:
        assert "number 40" in line_of(next(found)).what
    finally:
        writer.join()
        found.close()


def test_an_unknown_name_is_a_usage_error(deployment: Deployment) -> None:
    done = run_tail(deployment, "everything")
    assert done.returncode == 2
    assert "there are alerts, findings" in done.stderr
    with pytest.raises(UsageError, match=r"no\.such\.topic"):
        next(tail.records(deployment.settings, "no.such.topic", last=1, follow=False))
