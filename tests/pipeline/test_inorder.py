"""What may be committed: never behind a record that is not acknowledged, and all once every one is."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.inorder import InOrder


@given(st.sets(st.integers(0, 200), min_size=1), st.data())
def test_nothing_is_passed_over_and_all_is_reached(offsets: set[int], data: st.DataObject) -> None:
    came = sorted(offsets)
    in_order, acknowledged, given_out, newest = InOrder(), set[int](), 0, -1
    while len(acknowledged) < len(came):
        if given_out < len(came) and (given_out == len(acknowledged) or data.draw(st.booleans())):
            in_order.give(came[given_out])
            given_out += 1
        else:
            acknowledged.add(data.draw(st.sampled_from(sorted(set(came[:given_out]) - acknowledged))))
        found = in_order.next_offset(acknowledged)
        missing = [offset for offset in came[:given_out] if offset not in acknowledged]
        if found is not None:
            assert all(found <= offset for offset in missing)
            assert found - 1 in acknowledged
            assert found >= newest
            newest = found
    assert newest == came[-1] + 1


def test_records_that_come_again_wait_again() -> None:
    in_order = InOrder()
    for offset in (3, 4, 5):
        in_order.give(offset)
    assert in_order.next_offset({3, 5}) == 4
    for offset in (4, 5):
        in_order.give(offset)
    assert in_order.next_offset({5}) == 4
    assert in_order.next_offset({4, 5}) == 6
