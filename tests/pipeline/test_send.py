"""A user's own file: read strictly, signed under numbers that never repeat, told clearly when wrong."""

import itertools
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, TopicPartition
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from loadtests import vitals
from pipeline import kafka as clients
from pipeline import sequences, topics
from pipeline.identity import create_identity, save_identity
from pipeline.send import SendJob, Sent, send
from pipeline.sendinput import InputError, InputRow, read_rows, scan
from pipeline.sequences import BLOCK
from pipeline.settings import Settings, UsageError
from schemas.ed25519 import verify_batch
from schemas.envelope import PayloadKind, decode_envelope, pae, pae_prefix
from schemas.events import decode_event
from schemas.mdc import BY_NAME
from schemas.partition import partition_of
from schemas.signing import SigningIdentity
from tests.kit.deployment import Deployment

TELEMETRY, ACCESS = PayloadKind.TELEMETRY, PayloadKind.ACCESS
HR, SPO2 = BY_NAME["hr"].code, BY_NAME["spo2"].code


def rows(tmp_path: Path, text: str | bytes, kind: PayloadKind = TELEMETRY) -> list[InputRow]:
    path = tmp_path / "input"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(read_rows(path, kind))


def fault(tmp_path: Path, text: str | bytes, kind: PayloadKind = TELEMETRY) -> str:
    with pytest.raises(InputError) as caught:
        rows(tmp_path, text, kind)
    return str(caught.value).removeprefix(str(tmp_path / "input"))


# ---- reading -------------------------------------------------------------------------------------------


def test_the_real_record_as_it_was_published_reads_to_the_same_figures(tmp_path: Path) -> None:
    found = rows(tmp_path, vitals.as_csv())
    assert [(r.body["codes"], r.body["values"]) for r in found] == [
        (list(row.codes), list(row.values)) for row in vitals.rows()
    ]
    assert [r.t_s for r in found[:3]] == [0.0, 60.0, 120.0]


def test_names_in_any_case_and_codes_as_numbers(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, "hr, 150456 ,999\n60,97.5,1e3\n")
    assert row.body == {"codes": [HR, SPO2, 999], "values": [60.0, 97.5, 1000.0]}


def test_blanks_are_left_out_and_zeros_are_kept(tmp_path: Path) -> None:
    found = rows(tmp_path, "HR,SpO2\n0,\n,  \n\n61,98\n")
    assert [r.body["values"] for r in found] == [[0.0], [], [61.0, 98.0]]
    summary = scan(tmp_path / "input", TELEMETRY)
    assert (summary.events, summary.empty_rows) == (2, 1)


@pytest.mark.parametrize(
    "stamp", ["1750000000", "1750000000.0", "2025-06-15T15:06:40Z", "2025-06-15T17:06:40+02:00"]
)
def test_times_as_seconds_and_as_iso_8601(tmp_path: Path, stamp: str) -> None:
    (row,) = rows(tmp_path, f"time,HR\n{stamp},60\n")
    assert row.time_us == 1_750_000_000_000_000


def test_ndjson_says_the_same_as_csv(tmp_path: Path) -> None:
    text = '{"time": 1750000000, "HR": 60, "SpO2": null}\n\n{"SpO2": 97.5}\n'
    found = rows(tmp_path, text)
    assert [(r.line, r.time_us, r.body) for r in found] == [
        (1, 1_750_000_000_000_000, {"codes": [HR], "values": [60.0]}),
        (3, None, {"codes": [SPO2], "values": [97.5]}),
    ]


def test_access_events(tmp_path: Path) -> None:
    text = "subject,action,resource,outcome,purpose\nnurse-1,login,monitor,granted,TREAT\n"
    (row,) = rows(tmp_path, text, ACCESS)
    assert row.body == {
        "subject": "nurse-1",
        "action": "login",
        "resource": "monitor",
        "purpose": "TREAT",
        "session": "",
        "outcome": "GRANTED",
    }


FAULTS = [
    ("", "empty"),
    ("HR,Foo\n1,2\n", "line 1 column 2 (Foo): unknown signal"),
    ("time\n1\n", "line 1: names no signal"),
    ("HR,hr\n1,2\n", "line 1 column 2 (hr): the same column twice"),
    ("time,t_s,HR\n1,2,3\n", "line 1: has both time and t_s"),
    ("HR;SpO2\n1;2\n", "line 1 column 1 (HR;SpO2): unknown signal"),
    ("HR,SpO2\n1,2\n3\n", "line 3: 1 cells, the header has 2 columns"),
    ("HR\n1\nsixty\n", "line 3 column 1 (HR): 'sixty' is not a number"),
    ("HR\nnan\n", "line 2 column 1 (HR): 'nan' is not a number"),
    ("HR\n1e999\n", "line 2 column 1 (HR): '1e999' is not a finite number"),
    ("HR\n1_0\n", "is not a number"),
    ("time,HR\n2025-06-15 12:00,60\n", "line 2 column 1 (time): '2025-06-15 12:00' does not say its offset"),
    ("time,HR\nyesterday,60\n", "is neither seconds since 1970 nor a time"),
    ("time,HR\n,60\n", "line 2 column 1 (time)"),
    ("t_s,HR\n1e300,60\n", "line 2 column 1 (t_s): 1e+300 s is out of range"),
    ('HR\n"1\n', "line 2: no readable CSV"),
    (b"HR\n\xff\n", "line 2: byte 1 is not UTF-8 text"),
    (b"HR\n" + b"1" * (1 << 20) + b"\n", "line 2: longer than 1048576 bytes"),
    ('{"HR": 1}\n[1]\n', "line 2: expected an object, found [1]"),
    ('{"HR": 1}\n{"HR": }\n', "line 2 column 8: no JSON"),
    ('{"HR": NaN}\n', "line 1 column 1 (HR): nan is not a finite number"),
    ('{"HR": true}\n', "line 1 column 1 (HR): True is not a number"),
    ('{"HR": 1, "HR": 2}\n', "line 1 column 2 (HR): the same column twice"),
    ('{"HR": ' + "9" * 5000 + "}\n", "line 1: no readable JSON"),
    ('{"HR": ' + "[" * 200_000 + "\n", "line 1: no readable JSON"),
    ('{"\\ud800": 1}\n', "line 1 column 1 ('\\ud800'): unknown signal"),
]


@pytest.mark.parametrize(("text", "expected"), FAULTS, ids=range(len(FAULTS)))
def test_faults_name_line_and_column(tmp_path: Path, text: str | bytes, expected: str) -> None:
    assert expected in fault(tmp_path, text)


ACCESS_FAULTS = [
    ("subject,action\na,b\n", "line 1: access events need resource, outcome too"),
    ("subject,action,resource,outcome\na,b,c,MAYBE\n", "line 2 column 4 (outcome): 'MAYBE' is none of"),
    ("subject,action,resource,outcome\n,b,c,FAILED\n", "line 2 column 1 (subject): blank"),
    ("subject,action,resource,outcome\n" + "x" * 513 + ",b,c,FAILED\n", "has 513 characters"),
    ("HR\n1\n", "line 1 column 1 (HR): unknown column"),
    ('{"subject": 5, "action": "a", "resource": "r", "outcome": "FAILED"}\n', "5 is not a text"),
]


@pytest.mark.parametrize(("text", "expected"), ACCESS_FAULTS, ids=range(len(ACCESS_FAULTS)))
def test_access_faults_name_line_and_column(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in fault(tmp_path, text, ACCESS)


def test_a_missing_file_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        scan(tmp_path / "nowhere.csv", TELEMETRY)
    with pytest.raises(InputError, match="directory"):
        scan(tmp_path, TELEMETRY)


PIECES = st.sampled_from(
    ["HR", "time", "t_s", "subject", ",", "\n", '"', "{", "}", ":", "[", "1", "-", "1e400", "é", "\x00"]
)


@hypothesis_settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.one_of(
        st.binary(max_size=300),
        st.lists(PIECES, max_size=40).map(lambda parts: "".join(parts).encode()),
        st.binary(max_size=40).map(lambda tail: b"HR,SpO2\n60,97\n" + tail),
        st.binary(max_size=40).map(lambda tail: b'{"HR": 60}\n{' + tail),
    ),
    kind=st.sampled_from([TELEMETRY, ACCESS]),
)
def test_any_bytes_are_read_or_give_one_known_error(tmp_path: Path, data: bytes, kind: PayloadKind) -> None:
    try:
        found = rows(tmp_path, data, kind)
    except InputError as error:
        told, found = str(error), []
        assert told.startswith(str(tmp_path / "input"))
        assert told.encode().count(b"\n") == 0
    for row in found:  # whatever was read must make a valid event
        header = {"device_id": "did:key:z", "boot": 1, "sequence": 1, "time": row.time_us or 0}
        identity = SigningIdentity("did:key:z", "1", bytes(32))
        value = identity.seal_event(kind, "x", {**header, **row.body})
        decode_event(kind, decode_envelope(value).payload)


# ---- numbers -------------------------------------------------------------------------------------------


def numbers(
    key_file: Path, count: int, *, now_s: int = 1000, boot: int | None = None
) -> list[tuple[int, int]]:
    with sequences.opened(key_file, "did:key:z", now_s=now_s, boot=boot) as counters:
        found = [(counters.boot, counters.next(TELEMETRY)) for _ in range(count)]
        counters.finish()
    return found


def test_a_second_run_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    key_file = tmp_path / "device.json"
    assert numbers(key_file, 2) == [(1000, 1), (1000, 2)]
    assert numbers(key_file, 1, now_s=2000) == [(1000, 3)]
    with sequences.opened(key_file, "did:key:z", now_s=2000) as counters:
        assert counters.next(ACCESS) == 1
        counters.finish()
    assert numbers(key_file, 1, now_s=2000) == [(1000, 4)]


def test_a_run_that_broke_off_is_followed_by_a_new_boot(tmp_path: Path) -> None:
    key_file = tmp_path / "device.json"
    numbers(key_file, 2)
    with sequences.opened(key_file, "did:key:z", now_s=2000) as counters:
        assert [counters.next(TELEMETRY) for _ in range(BLOCK + 5)][-1] == BLOCK + 7
    assert numbers(key_file, 1, now_s=3000) == [(3000, 1)]


def test_killed_while_sending_never_uses_a_number_twice(tmp_path: Path) -> None:
    key_file = tmp_path / "device.json"
    code = (
        "import os, sys; from pathlib import Path; from pipeline import sequences;"
        "from schemas.envelope import PayloadKind as K\n"
        "with sequences.opened(Path(sys.argv[1]), 'did:key:z', now_s=1000) as c:\n"
        "    print(c.boot, c.next(K.TELEMETRY), flush=True); os.kill(os.getpid(), 9)"
    )
    used = set()
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code, str(key_file)], capture_output=True, check=False)
        assert done.returncode == -9
        used.add(done.stdout)
    assert len(used) == 3
    assert numbers(key_file, 1)[0][0] > 1002


def test_boots_only_rise(tmp_path: Path) -> None:
    key_file = tmp_path / "device.json"
    assert numbers(key_file, 1, boot=5) == [(5, 1)]
    assert numbers(key_file, 1, boot=5) == [(5, 2)]
    assert numbers(key_file, 1) == [(5, 3)]
    assert numbers(key_file, 1, boot=9) == [(9, 1)]
    with pytest.raises(UsageError, match="boot 8 was passed"):
        numbers(key_file, 1, boot=8)
    with sequences.opened(key_file, "did:key:z", now_s=1) as counters:
        counters.next(TELEMETRY)
    with pytest.raises(UsageError, match="use 10 or auto"):
        numbers(key_file, 1, boot=9)
    assert numbers(key_file, 1, now_s=1) == [(10, 1)]


def test_two_sends_of_one_device_do_not_run_at_once(tmp_path: Path) -> None:
    key_file = tmp_path / "device.json"
    with (
        sequences.opened(key_file, "did:key:z", now_s=1),
        pytest.raises(UsageError, match="another send"),
        sequences.opened(key_file, "did:key:z", now_s=1),
    ):
        pass


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"did": 1, "boot": "x", "used": {}, "reserved": {}}']
)
def test_a_damaged_counter_file_is_an_error_not_a_restart_from_one(tmp_path: Path, content: bytes) -> None:
    key_file = tmp_path / "device.json"
    sequences.path_for(key_file).write_bytes(content)
    with pytest.raises(UsageError, match="no record of sequence numbers"):
        numbers(key_file, 1)


def test_counters_of_another_device_are_refused(tmp_path: Path) -> None:
    key_file = tmp_path / "device.json"
    numbers(key_file, 1)
    with (
        pytest.raises(UsageError, match="counts for did:key:z"),
        sequences.opened(key_file, "did:key:other", now_s=1),
    ):
        pass


# ---- sending, on a real Kafka --------------------------------------------------------------------------


@pytest.fixture
def deployed(deployment: Deployment) -> Settings:
    return deployment.settings


def job(tmp_path: Path, text: str, kind: PayloadKind = TELEMETRY) -> SendJob:
    path, key_file = tmp_path / "input.csv", tmp_path / "device.json"
    path.write_text(text)
    if not key_file.exists():
        save_identity(key_file, create_identity("1"))
    from pipeline.identity import load_identity

    return SendJob(path, key_file, load_identity(key_file), kind)


def sent_records(settings: Settings, sent: Sent) -> list[tuple[bytes | None, bytes]]:
    reader = clients.consumer(settings, f"reader-{uuid.uuid4()}")
    reader.assign([TopicPartition(sent.topic, sent.partition, sent.first_offset or 0)])
    found: list[tuple[bytes | None, bytes]] = []
    while len(found) < sent.delivered:
        found += [(r.key, r.value or b"") for r in map(clients.to_record, reader.consume(100, 10.0))]
    reader.close()
    return found


def test_sends_the_real_record_signed_and_in_order(deployed: Settings, tmp_path: Path) -> None:
    task = job(tmp_path, vitals.as_csv())
    seen: list[int] = []
    sent = send(deployed, task, scan(task.path, TELEMETRY), on_sent=seen.append)
    assert (sent.delivered, sent.first_sequence, sent.last_sequence) == (1936, 1, 1936)
    assert seen[-1] == 1936
    assert sent.partition == partition_of(task.identity.did.encode(), deployed.partitions)
    records = sent_records(deployed, sent)
    message_prefix = pae_prefix(TELEMETRY, deployed.log_name)
    times = []
    for sequence, ((key, value), row) in enumerate(zip(records, vitals.rows(), strict=True), 1):
        envelope = decode_envelope(value)
        event = decode_event(TELEMETRY, envelope.payload)
        assert key == event.device_id.encode() == task.identity.did.encode()
        assert (event.boot, event.sequence) == (sent.boot, sequence)
        assert tuple(event.body["values"]) == row.values
        signed = pae(message_prefix, envelope.payload)
        assert verify_batch([task.identity.public_key], [signed], [envelope.signatures[0].signature]) == [
            True
        ]
        times.append(event.time_us)
    assert {b - a for a, b in itertools.pairwise(times)} == {60_000_000}


def test_a_second_send_goes_on_and_access_counts_for_itself(deployed: Settings, tmp_path: Path) -> None:
    task = job(tmp_path, "HR\n60\n61\n")
    first = send(deployed, task, scan(task.path, TELEMETRY))
    second = send(deployed, task, scan(task.path, TELEMETRY))
    assert (first.boot, first.last_sequence) == (second.boot, (second.first_sequence or 0) - 1)
    access = job(tmp_path, "subject,action,resource,outcome\na,login,monitor,FAILED\n", ACCESS)
    third = send(deployed, access, scan(access.path, ACCESS))
    assert (third.boot, third.first_sequence, third.topic) == (first.boot, 1, topics.ACCESS_RAW)


def test_a_send_that_breaks_off_leads_to_a_new_boot(deployed: Settings, tmp_path: Path) -> None:
    task = job(tmp_path, "HR\n60\n")
    first = send(deployed, task, scan(task.path, TELEMETRY))
    narrow = deployed.model_copy(update={"kafka": {"message.max.bytes": "1000"}})
    wide = job(tmp_path, ",".join(str(code) for code in range(1, 250)) + "\n" + ",".join(["1"] * 249) + "\n")
    with pytest.raises(KafkaException, match="too large"):
        send(narrow, wide, scan(wide.path, TELEMETRY))
    again = send(deployed, wide, scan(wide.path, TELEMETRY))
    assert (again.boot > first.boot, again.first_sequence) == (True, 1)


def test_the_command_tells_what_it_sent(deployed: Settings, tmp_path: Path) -> None:
    task = job(tmp_path, "HR,SpO2\n60,97\n,\n")
    command = [sys.executable, "-m", "pipeline.cli.main", "send", str(task.path),
               "--device", str(task.key_file), "--data-dir", str(deployed.data_dir),
               "--bootstrap-servers", deployed.bootstrap_servers]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ATTESTREAM_")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "sent 1 event in" in done.stdout
    assert "1 row without a reading left out" in done.stdout
    assert task.identity.did in done.stdout
