"""Rate and CPU time are those of the warm part, and a worker that is stuck is found."""

import os

import pytest

from loadtests import draining
from loadtests.draining import Sample, StuckError, steady, watch


def test_the_cold_beginning_and_the_idle_end_do_not_count() -> None:
    samples = [
        Sample(0.0, 0, 0.0, 0.0, 10),
        Sample(5.0, 200, 4.0, 1.0, 20),
        Sample(6.0, 400, 4.5, 1.1, 30),
        Sample(14.0, 1000, 8.5, 1.9, 25),
        Sample(20.0, 1000, 8.6, 2.5, 25),
    ]
    found = steady("x", samples, 1000)
    assert found.rate == pytest.approx(75.0)
    assert found.cpu_us == pytest.approx(4.0 / 600 * 1e6)
    assert found.broker_cpu_us == pytest.approx(0.8 / 600 * 1e6)


def test_one_step_from_nothing_to_all_is_measured_from_its_start() -> None:
    found = steady("x", [Sample(0.0, 0, 0.0, 0.0, 0), Sample(2.0, 1000, 1.0, 0.0, 0)], 1000)
    assert found.rate == pytest.approx(500.0)


def test_a_process_is_watched_until_all_is_done() -> None:
    done = iter((0, 5, 10))
    found = watch("x", lambda: {"x": os.getpid()}, None, lambda: next(done), 10)
    assert (found.done, found.rss_mib > 0) == (10, True)


def test_who_does_nothing_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "QUIET_S", 0.0)
    with pytest.raises(StuckError, match="3 of 10"):
        watch("x", dict, None, lambda: 3, 10)
