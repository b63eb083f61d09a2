"""Numbers are put in order by columns as `sorted` puts them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from processors.detect.columnsort import in_order, least_middle_largest

numbers = st.one_of(st.sampled_from([0.0, 1.0, 5e-324, -1e308, 1e308, 70.0]), st.floats(allow_nan=False))
lists = st.integers(3, 16).flatmap(
    lambda count: st.lists(st.lists(numbers, min_size=count, max_size=count), min_size=1, max_size=9)
)


@given(lists)
def test_columns_come_out_in_order(made: list[list[float]]) -> None:
    ordered = np.array(in_order(np.array(made).T.copy())).T.tolist()
    assert ordered == [sorted(each) for each in made]


@given(lists)
def test_least_middle_and_largest_are_those_of_the_order(made: list[list[float]]) -> None:
    rows = np.array(made).T.copy()
    before = rows.copy()
    found = [each.tolist() for each in least_middle_largest(rows)]
    assert list(zip(*found, strict=True)) == [
        (each[0], each[len(each) // 2], each[-1]) for each in map(sorted, made)
    ]
    assert (rows == before).all()
