"""The time to sign with, where this machine's clock, the mirror or both are off."""

import time

import pytest

from pipeline.ledgerclock import LEAST_FAR_S, NS, LedgerClock

HOUR = 3600 * NS


@pytest.fixture
def now_ns(monkeypatch: pytest.MonkeyPatch) -> int:
    now_ns = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    return now_ns


def test_a_right_clock_counts_whatever_the_mirror_lags(now_ns: int) -> None:
    clock = LedgerClock(120)
    assert clock.now_ns(now_ns - 5 * NS) == now_ns
    assert clock.note == ""
    assert clock.now_ns(now_ns - 5 * HOUR) == now_ns
    assert clock.note == "this clock is ahead or the mirror behind by 5.0 h"
    assert clock.now_ns(now_ns - 5 * NS) == now_ns
    assert clock.note == ""


def test_a_clock_that_is_behind_the_record_does_not_count(now_ns: int) -> None:
    clock = LedgerClock(120)
    complete_ns = now_ns + 3 * HOUR
    named = {clock.now_ns(complete_ns) for _ in range(50)}
    assert clock.note == "this clock is at least 3.0 h behind the ledger's"
    assert complete_ns - NS < min(named) <= max(named) <= complete_ns
    assert len(named) == 50  # a transaction is named by its time
    assert clock.now_ns(now_ns + NS) <= now_ns + NS
    assert clock.note == ""


def test_a_clock_that_a_node_refuses_does_not_count_until_it_is_right(now_ns: int) -> None:
    clock = LedgerClock(120)
    complete_ns = now_ns - 2 * HOUR
    assert clock.now_ns(complete_ns) == now_ns
    assert clock.is_far_ahead(now_ns, complete_ns)
    assert "2.0 h ahead" in str(clock.refused_as_early(complete_ns))
    assert complete_ns - NS < clock.now_ns(complete_ns) <= complete_ns
    assert "2.0 h ahead" in clock.note
    assert clock.now_ns(now_ns) == now_ns
    assert clock.note == ""


def test_a_moment_is_waited_for(now_ns: int) -> None:
    assert not LedgerClock(120).is_far_ahead(now_ns, now_ns - 60 * NS)
    assert LedgerClock(120).is_far_ahead(now_ns, now_ns - 61 * NS)
    assert not LedgerClock(2).is_far_ahead(now_ns, now_ns - round(LEAST_FAR_S) * NS)
