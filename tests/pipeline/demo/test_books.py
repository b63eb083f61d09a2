"""The auditor must find every way in which books can fail to balance."""

import itertools

from pipeline.demo.books import Books
from pipeline.topics import ACCESS_RAW, EVENTS, REJECTED, TELEMETRY_RAW
from processors.model import RawRecord
from schemas.records import Headers

_offsets = itertools.count()


def record(topic: str, partition: int, offset: int, headers: Headers = ()) -> RawRecord:
    return RawRecord(topic, partition, offset, 0, b"device", b"value", headers)


def raw(offset: int, topic: str = TELEMETRY_RAW, partition: int = 0) -> RawRecord:
    return record(topic, partition, offset)


def accepted(offset: int, topic: str = TELEMETRY_RAW, partition: int = 0) -> RawRecord:
    source = f"{topic}/{partition}/{offset}".encode()
    return record(EVENTS, partition, next(_offsets), [("registry.offset", b"1"), ("source", source)])


def rejected(offset: int, reason: str = "replay", topic: str = TELEMETRY_RAW) -> RawRecord:
    source = f"{topic}/0/{offset}".encode()
    return record(REJECTED, 0, next(_offsets), [("reason", reason.encode()), ("source", source)])


def books(*records: RawRecord, since: dict[tuple[str, int], int] | None = None) -> Books:
    found = Books(since)
    for each in records:
        found.take(each)
    return found


def test_each_once_balances_whatever_the_order_of_reading() -> None:
    given = [raw(0), raw(1), raw(2), raw(0, ACCESS_RAW), accepted(0), rejected(1), accepted(2)]
    given.append(accepted(0, ACCESS_RAW))
    for order in (given, given[4:] + given[:4]):
        balance = books(*order).balance()
        assert balance.even, balance
    assert (balance.raw, balance.accepted, dict(balance.rejected)) == (4, 3, {"replay": 1})
    assert balance.faults() == []


def test_a_lost_record_is_named() -> None:
    balance = books(raw(0), raw(1), accepted(0)).balance()
    assert not balance.even
    assert balance.unjudged_examples == (f"{TELEMETRY_RAW}/0/1",)
    assert "1 raw records were never judged" in balance.faults()[0]


def test_accepted_twice_is_named() -> None:
    balance = books(raw(0), accepted(0), accepted(0)).balance()
    assert not balance.even
    assert balance.judged_twice == (f"{TELEMETRY_RAW}/0/0",)


def test_accepted_and_rejected_is_named() -> None:
    assert books(raw(0), accepted(0), rejected(0)).balance().judged_twice == (f"{TELEMETRY_RAW}/0/0",)


def test_one_lost_and_one_twice_do_not_cancel_out() -> None:
    balance = books(raw(0), raw(1), accepted(0), accepted(0)).balance()
    assert balance.raw == balance.accepted
    assert not balance.even


def test_an_output_without_a_raw_record_is_named() -> None:
    assert books(raw(0), accepted(0), accepted(7)).balance().from_nowhere == (f"{TELEMETRY_RAW}/0/7",)


def test_an_output_without_a_readable_source_is_named() -> None:
    strange = [
        record(EVENTS, 2, 9, headers)
        for headers in ([], [("source", b"")], [("source", b"nowhere/0/1")], [("source", b"\xff/0/x")])
    ]
    balance = books(*strange).balance()
    assert len(balance.from_nowhere) == 4
    assert not balance.even


def test_order_is_kept_per_raw_topic_partition_only() -> None:
    mixed = [raw(0), raw(1), raw(0, ACCESS_RAW), accepted(1), accepted(0, ACCESS_RAW), accepted(0)]
    assert books(*mixed).balance().out_of_order == (f"{TELEMETRY_RAW}/0/0",)


def test_what_was_there_before_does_not_count() -> None:
    since = {(TELEMETRY_RAW, 0): 5}
    balance = books(raw(4), accepted(4), rejected(3), raw(5), accepted(5), since=since).balance()
    assert (balance.raw, balance.accepted, balance.rejected) == (1, 1, {})
    assert balance.even


def test_in_flight_counts_what_was_seen_and_not_judged() -> None:
    assert books(raw(0), raw(1), raw(2), accepted(0), rejected(1)).in_flight == 1


def test_a_hot_partition_costs_two_bytes_a_record() -> None:
    found = books(*(raw(offset) for offset in range(20_000)))
    assert found.balance().unjudged == 20_000
    assert len(found.balance().unjudged_examples) == 5
