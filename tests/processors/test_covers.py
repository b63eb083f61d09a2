"""Which records a message tells of: written as ranges, read back, and bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.covers import CoversError, compact, places


def test_ranges_are_short() -> None:
    found = compact(f"device.findings/3/{offset}" for offset in (44, 12, 13, 14, 12))
    assert found == {"device.findings/3": "12-14,44"}


@given(st.sets(st.tuples(st.sampled_from(["a/0", "a/1", "b.c/0"]), st.integers(0, 300)), max_size=200))
def test_what_was_written_is_read(found: set[tuple[str, int]]) -> None:
    written = {f"{partition}/{offset}" for partition, offset in found}
    read = places(compact(written))
    assert set(read) == written
    assert len(read) == len(written)


@pytest.mark.parametrize("text", ["", "x", "5-", "9-3", "0-99999999", "1,,2", "1-2-3"])
def test_other_texts_are_an_error(text: str) -> None:
    with pytest.raises(CoversError):
        places({"a/0": text})
