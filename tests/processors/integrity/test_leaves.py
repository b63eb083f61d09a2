"""Leaves beside records: every way in which they can differ, and none where they do not."""

import os

from hypothesis import given
from hypothesis import strategies as st

from processors.integrity.leaves import LeafFault, LeafMismatch, TopicLeaf, compare_leaves
from schemas.records import encode_leaf


def leaf(offset: int) -> TopicLeaf:
    return TopicLeaf(offset, encode_leaf(offset, 1_760_000_000_000 + offset, os.urandom(32)))


offsets = st.lists(st.integers(0, 500), unique=True, min_size=1, max_size=40).map(sorted)


@given(offsets)
def test_equal_ones_hold(found: list[int]) -> None:
    records = [leaf(offset) for offset in found]
    entries = [record.entry for record in records]
    assert compare_leaves(7, entries, records, after_offset=-1) == []


@given(offsets, st.data())
def test_any_one_difference_is_named_by_its_place(found: list[int], data: st.DataObject) -> None:
    records = [leaf(offset) for offset in found]
    entries = [record.entry for record in records]
    at = data.draw(st.integers(0, len(entries) - 1))
    kind = data.draw(st.sampled_from(["altered", "unfounded", "unreadable"]))
    if kind == "altered":
        entries[at] = leaf(found[at]).entry
        expected = LeafMismatch(LeafFault.ALTERED, at, found[at])
    elif kind == "unfounded":
        del records[at]
        expected = LeafMismatch(LeafFault.UNFOUNDED, at, found[at])
    else:
        entries[at] = b"\xff no leaf"
        expected = LeafMismatch(LeafFault.UNREADABLE, at, -1)
    assert compare_leaves(0, entries, records, after_offset=-1)[0] == expected


@given(offsets, st.data())
def test_a_record_that_is_left_out_is_found(found: list[int], data: st.DataObject) -> None:
    records = [leaf(offset) for offset in [*found, 501]]
    at = data.draw(st.integers(0, len(found) - 1))
    entries = [record.entry for number, record in enumerate(records) if number != at]
    (mismatch,) = compare_leaves(0, entries, records, after_offset=-1)
    assert (mismatch.fault, mismatch.offset) == (LeafFault.OMITTED, found[at])


def test_offsets_must_rise_from_the_leaf_before_on() -> None:
    first, second = leaf(5), leaf(6)
    entries = [first.entry, second.entry, second.entry]
    faults = [m.fault for m in compare_leaves(0, entries, [first, second], after_offset=-1)]
    assert faults == [LeafFault.DISORDERED]
    (again,) = compare_leaves(9, [first.entry], [first], after_offset=5)
    assert again == LeafMismatch(LeafFault.DISORDERED, 9, 5)


def test_what_retention_took_is_not_missed() -> None:
    records = [leaf(offset) for offset in range(10)]
    entries = [record.entry for record in records]
    assert compare_leaves(0, entries, records[6:], after_offset=-1, kept_from=6) == []
    (mismatch,) = compare_leaves(0, entries, records[7:], after_offset=-1, kept_from=6)
    assert mismatch == LeafMismatch(LeafFault.UNFOUNDED, 6, 6)


def test_in_the_epoch_log_index_and_offset_are_one() -> None:
    records = [TopicLeaf(offset, b"note %d" % offset) for offset in range(4, 8)]
    entries = [record.entry for record in records]
    assert compare_leaves(4, entries, records, after_offset=3, by_index=True) == []
    swapped = [entries[1], entries[0], *entries[2:]]
    faults = compare_leaves(4, swapped, records, after_offset=3, by_index=True)
    assert faults == [LeafMismatch(LeafFault.ALTERED, 4, 4), LeafMismatch(LeafFault.ALTERED, 5, 5)]


@given(st.lists(st.binary(max_size=60), max_size=10), offsets)
def test_hostile_entries_only_ever_make_mismatches(entries: list[bytes], found: list[int]) -> None:
    records = [leaf(offset) for offset in found]
    mismatches = compare_leaves(0, entries, records, after_offset=-1)
    assert {m.index for m in mismatches} == set(range(len(entries)))
