"""Three brokers, one of them taken away again and again: service comes back, and the books are right."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from pipeline import kafka, topics
from processors.model import RawRecord
from tests.faults.machine.ledger import Sent
from tests.faults.machine.runner import Tally
from tests.faults.machine.trio.observer import longest_gap_s
from tests.faults.machine.trio.placing import place
from tests.faults.machine.trio.report import Kill, Report
from tests.faults.machine.trio.roles import coordinator_partition, java_hash
from tests.faults.machine.trio.run import Trio

SEED = 7
TOPIC = topics.TELEMETRY_RAW


@pytest.mark.timeout(400)
def test_coordinator_and_controller_may_each_be_lost(tmp_path: Path) -> None:
    said = Console(file=io.StringIO(), width=200)
    with Trio(tmp_path, SEED, said, rate_per_s=50.0) as trio:
        report = trio.run(2, ["coordinator", "controller"])  # each of them leads partitions besides
        assert topics.check(kafka.admin(trio.settings), trio.settings) == []
    assert not report.violations, said.file.getvalue()  # type: ignore[attr-defined]
    assert [kill.target for kill in report.kills] == ["coordinator", "controller"]
    assert report.records > report.accepted > 0


def test_a_run_is_tallied_like_a_schedule() -> None:
    report = Report(SEED, 12.5, [Kill("coordinator", 1, "kill", 1.0), Kill("leader", 2, "pause", 11.0)])
    report.records = 40
    report.violations.append({"invariant": "stalled", "what": "a partition"})
    tally = Tally()
    tally.take("trio", json.loads(json.dumps(report.to_line())))
    assert dict(tally.faults) == {"trio_kill_coordinator": 1, "trio_pause_leader": 1}
    assert (tally.schedules, tally.records) == (1, 40)
    assert [found["seed"] for found in tally.violations] == [SEED]


def test_the_coordinator_is_found_as_the_brokers_find_it() -> None:
    # String.hashCode of the JVM: of "" 0, and of these as its documentation's formula gives.
    assert java_hash("") == 0
    assert java_hash("ab") == 31 * ord("a") + ord("b")
    assert java_hash("polygenelubricants") == -(2**31)  # the one whose absolute value is none
    assert coordinator_partition("polygenelubricants") == 0


def test_a_gap_is_the_longest_of_any_partition_also_an_open_one() -> None:
    news = {0: [1.0, 2.0, 3.0, 9.0], 1: [1.0, 8.0]}
    assert longest_gap_s(news, 2.5, 9.5) == 7.0
    assert longest_gap_s({0: [1.0, 2.0]}, 1.5, 9.0) == 7.0
    assert longest_gap_s({0: [1.0, 5.0, 9.5]}, 5.5, 9.6) == 4.5


def sent(offset: int, value: bytes) -> Sent:
    return Sent(TOPIC, 0, offset, b"k", value, "accepted")


def record(offset: int, value: bytes) -> RawRecord:
    return RawRecord(TOPIC, 0, offset, 0, b"k", value, ())


def test_a_record_without_an_offset_is_found_by_what_it_holds() -> None:
    topic = [record(n, value) for n, value in enumerate([b"a", b"b", b"a", b"c"])]
    known = [sent(0, b"a"), sent(3, b"c")]
    placed = place([sent(-1, b"a"), sent(-1, b"b"), sent(-1, b"d")], known, topic)
    assert placed == [sent(2, b"a"), sent(1, b"b")]
    assert place([sent(-1, b"x"), sent(-1, b"x")], [], [record(4, b"x"), record(6, b"x")]) == [
        sent(4, b"x"),
        sent(6, b"x"),
    ]
