"""The search ends near the limit of whatever is measured, and what it reports was held for long enough."""

import pytest

from loadtests.findmax import STEP_BACK, Trial, find_max


class System:
    """Sustains rates up to a limit, a lower one where a run is long."""

    def __init__(self, limit: float, long_limit: float | None = None) -> None:
        self.limit, self.long_limit = limit, long_limit or limit
        self.asked: list[tuple[float, float]] = []

    def measure(self, rate: float, seconds: float) -> Trial:
        self.asked.append((rate, seconds))
        good = rate <= (self.long_limit if seconds >= 60 else self.limit)
        return Trial(rate, seconds, 50.0 if good else 9000.0, 0, good, "" if good else "too slow")


@pytest.mark.parametrize("limit", [150.0, 999.0, 1000.0, 4321.0, 50_000.0])
def test_the_limit_is_found_from_below_and_above(limit: float) -> None:
    system = System(limit)
    found = find_max(system.measure, 1000.0, 10.0, 60.0, tolerance=0.05, most_trials=20)
    assert found.confirmed is not None
    assert limit * STEP_BACK * 0.95 <= found.confirmed.rate <= limit
    assert found.confirmed.seconds == 60.0
    assert [(each.rate, each.seconds) for each in found.trials] == system.asked


def test_a_rate_that_does_not_hold_is_lowered() -> None:
    found = find_max(System(2000.0, 1700.0).measure, 1000.0, 10.0, 60.0, tolerance=0.05)
    assert found.confirmed is not None
    assert 1700 * STEP_BACK * 0.9 <= found.confirmed.rate <= 1700


def test_where_nothing_is_sustained_it_says_so() -> None:
    found = find_max(System(0.0).measure, 1000.0, 10.0, 60.0)
    assert found.confirmed is None
    assert (found.to_json()["rate"], found.why_not) == (None, "no rate was sustained")
    assert all(not each.sustained for each in found.trials)


def test_it_ends_after_so_many_trials() -> None:
    system = System(1e12)
    find_max(system.measure, 1.0, 10.0, 60.0, most_trials=6)
    assert len(system.asked) == 7  # and one confirmation


def test_it_ends_where_nothing_is_left_to_send() -> None:
    system = System(5000.0)

    def measure(rate: float, seconds: float) -> Trial | None:
        return None if seconds == 60.0 or rate > 2000 else system.measure(rate, seconds)

    found = find_max(measure, 1000.0, 10.0, 60.0)
    assert (found.confirmed, found.why_not) == (None, "too few records were left to hold a rate: give more")
    assert [each.rate for each in found.trials] == [1000.0, 1600.0]
