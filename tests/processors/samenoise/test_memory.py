"""Which pair goes first where there is no room for another."""

from hypothesis import given, settings
from hypothesis import strategies as st

from processors.samenoise import NoiseMemory, memory
from processors.samenoise.pair import Pair, Party
from processors.samenoise.table import Place

PLACE = Place("device.telemetry.raw", 0, 0)
STEPS = st.lists(
    st.tuples(st.sampled_from(["meet", "tell", "oldest", "drop"]), st.integers(0, 9), st.integers(0, 5)),
    max_size=200,
)


def a_pair(number: int) -> Pair:
    one, other = (Party(f"did:example:{each}{number}", 1, PLACE, PLACE) for each in "ab")
    return Pair(one, other, 0, 0, 0)


@settings(max_examples=200, deadline=None)
@given(STEPS, st.sampled_from([2, 6, 4 * memory.MAX_PAIRS]))
def test_the_oldest_is_the_least_of_all_whatever_came_before(
    steps: list[tuple[str, int, int]], most_ages: int
) -> None:
    """As if all pairs were looked at each time; also where what pairs were before is cut off."""
    held, before = NoiseMemory(), memory.MOST_AGES
    memory.MOST_AGES = most_ages
    try:
        for what, number, at_us in steps:
            pair = held.pair(a_pair(number).devices)
            if what == "meet":
                pair = pair or a_pair(number)
                pair.last_us = at_us
                held.keep(pair)
            elif what == "tell" and pair is not None and pair.told_of is None:
                pair.told_of = pair.one.device_id
                held.opened(pair)
            elif what == "drop" and pair is not None:
                held.drop(pair)
            elif what == "oldest" and len(held):
                assert held.oldest() is min(
                    held, key=lambda each: (each.told_of is not None, each.last_us, each.devices)
                )
    finally:
        memory.MOST_AGES = before
