"""Entries of a log beyond their hashes: leaves in one spelling, what spans of an epoch log agree on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.logentries import EpochOrder, EpochSeen, leaf_offset
from schemas.checkpoint import log_key
from schemas.codec import CODEC
from schemas.errors import CodecError, FormatError
from schemas.note import Note, verify_note
from schemas.records import encode_leaf
from tests.kit.parties import LOG, key_of
from tests.kit.publishedlog import checkpoint

SHARD = f"{LOG}/device.events/0"


def verify(note: Note, name: str) -> None:
    verify_note(note, [log_key(name, key_of("log"))])


def epoch() -> EpochOrder:
    return EpochOrder(LOG, f"{LOG}/shards", verify, None)


def seen_of(first_index: int, *entries: bytes) -> EpochSeen:
    order = epoch()
    assert list(order.take(first_index, entries)) == []
    return order.seen


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_offset_of_every_leaf(offset: int, timestamp: int, digest: bytes) -> None:
    assert leaf_offset(encode_leaf(offset, timestamp, digest)) == offset


@given(st.binary(max_size=60), st.booleans())
def test_nothing_is_a_leaf_that_the_codec_does_not_take(tail: bytes, has_header: bool) -> None:
    data = CODEC.header("leaf") * has_header + tail
    try:
        expected = CODEC.decode("leaf", data)["offset"]
    except FormatError:
        with pytest.raises(CodecError):
            leaf_offset(data)
    else:
        assert leaf_offset(data) == expected


@pytest.mark.parametrize("number", [b"\x80\x00", b"\x80" * 10 + b"\x01", b"\xff" * 9 + b"\x7f", b"\x80"])
def test_numbers_in_another_spelling_are_refused(number: bytes) -> None:
    with pytest.raises(CodecError):
        leaf_offset(CODEC.header("leaf") + number + b"\x02" + bytes(32))


def test_spans_of_an_epoch_log_are_compared() -> None:
    first = seen_of(0, checkpoint(SHARD, 5, bytes(32)), checkpoint(SHARD, 9, bytes(32)))
    assert list(first.follow(seen_of(2, checkpoint(SHARD, 9, bytes(32))))) == []
    assert (first.checkpoints, first.largest[SHARD].size) == (3, 9)
    assert list(first.complaints()) == []
    list(first.follow(seen_of(3, checkpoint(SHARD, 7, bytes(32)))))
    list(first.follow(seen_of(4, checkpoint(SHARD, 9, b"\x01" * 32))))
    back, fork = sorted(set(first.complaints()))
    assert back[0] == 3
    assert "goes back to 7 leaves from 9" in back[1]
    assert fork[0] == 4
    assert "a fork" in fork[1]
    first.list_shards({SHARD: "one"})
    assert len(list(first.complaints())) > 0
    first.list_shards({SHARD: "another"})
    assert list(first.complaints()) == []


def test_entries_in_the_name_of_the_log_must_be_signed_notes() -> None:
    unsigned = [
        f"{SHARD}\nnonsense".encode(),
        f"{LOG}/shards\n0\n\n— {LOG}/shards AAAAAAAA\n".encode(),
        checkpoint(SHARD, 3, bytes(32)).replace(b"\n3\n", b"\n4\n"),
    ]
    order = epoch()
    assert [index for index, _ in order.take(10, unsigned)] == [10, 11, 12]
    assert order.seen.checkpoints == 0
    assert list(order.take(13, [b"", b"\xff\xfe", f"{LOG}x\n".encode()])) == []
    assert order.seen.foreign == 3
