"""A worker takes more at once while that is quickly done, and less where it takes long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batchsize import AIM_S, LEAST, BatchSize


def test_full_steps_that_are_quick_double_it_up_to_the_most() -> None:
    size = BatchSize(16_000)
    seen = []
    for _ in range(6):
        seen.append(size.next)
        size.learn(size.next, 0.1)
    assert seen == [2000, 4000, 8000, 16_000, 16_000, 16_000]


def test_a_step_that_took_long_lowers_it_to_what_a_second_is_enough_for() -> None:
    size = BatchSize(16_000)
    size.learn(2000, 2.0)
    assert size.next == 1000
    size.learn(1000, 60.0)
    assert size.next == LEAST


def test_small_steps_say_nothing_of_large_ones() -> None:
    size = BatchSize(16_000)
    size.learn(10, 0.001)
    assert size.next == 2000
    size.learn(10, 0.9)
    assert size.next == 2000


@pytest.mark.parametrize("most", [1, 200, LEAST - 1])
def test_a_most_below_the_least_holds_as_it_is(most: int) -> None:
    size = BatchSize(most)
    size.learn(most, 100.0)
    assert size.next == most
    size.learn(most, 0.0)
    assert size.next == most


@given(st.integers(1, 100_000), st.lists(st.tuples(st.integers(0, 100_000), st.floats(0, 1e6)), max_size=30))
def test_it_stays_within_its_bounds(most: int, steps: list[tuple[int, float]]) -> None:
    size = BatchSize(most)
    for records, seconds in steps:
        size.learn(records, seconds)
        assert min(LEAST, most) <= size.next <= most
        if seconds > AIM_S:
            assert size.next <= max(LEAST, records / seconds * AIM_S + 1)
