"""Recomputing a tree finds whatever is wrong with its files, and names the one at fault."""

import random
from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.logentries import LeafOrder
from processors.merkle.fsck import MAX_FAULTS, SPAN_LEAVES, Fault, FaultKind, Rebuild, check_span, span_count
from processors.merkle.hashing import perfect_root
from processors.merkle.tree import TreeBuilder
from schemas.checkpoint import parse_checkpoint
from schemas.note import parse_note
from schemas.tile import decode_bundle, encode_bundle
from tests.kit.publishedlog import Files, leaves, published

DEEP = 2 * SPAN_LEAVES + 3 * 256 + 7
"""Full tiles at levels 0 and 1, partial ones at levels 0 to 2."""


class Reader:
    def __init__(self, files: Files) -> None:
        self._files = files

    def read(self, path: str) -> bytes | None:
        return self._files.get(path)


@cache
def log_of(size: int) -> Files:
    return published(leaves(size), "shard")


def faults_of(files: Files) -> list[Fault]:
    stated = parse_checkpoint(parse_note(files["checkpoint"]).text)
    rebuild = Rebuild(Reader(files), stated.size)
    for number in range(span_count(stated.size)):
        span = check_span(Reader(files), stated.size, number, LeafOrder())
        rebuild.add(span)
        if span.gave_up:
            break
    return rebuild.finish(stated.root)


def flip(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


def rewritten(data: bytes, number: int, width: int, entry: bytes) -> bytes:
    entries = list(decode_bundle(data, width))
    entries[number] = entry
    return encode_bundle(entries)


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, DEEP])
def test_untouched_logs_hold(size: int) -> None:
    assert faults_of(log_of(size)) == []


@pytest.mark.parametrize(
    ("path", "number", "width", "index"),
    [
        ("tile/entries/000", 5, 256, 5),
        ("tile/entries/257", 255, 256, 257 * 256 + 255),
        ("tile/entries/515.p/7", 3, 7, 515 * 256 + 3),
    ],
)
def test_rewritten_entry_is_named(path: str, number: int, width: int, index: int) -> None:
    files = log_of(DEEP)
    forged = rewritten(files[path], number, width, leaves(1, seed=9)[0])
    [fault] = faults_of({**files, path: forged})
    assert (fault.index, fault.path, fault.kind) == (index, path, FaultKind.ENTRY)


@pytest.mark.parametrize(
    ("path", "position", "index"),
    [
        ("tile/0/000", 0, 0),
        ("tile/0/300", 17, 300 * 256 + 17),
        ("tile/0/515.p/7", 6, 515 * 256 + 6),
        ("tile/1/000", 3, 3 * 256),
        ("tile/1/001", 255, SPAN_LEAVES + 255 * 256),
        ("tile/1/002.p/3", 2, 2 * SPAN_LEAVES + 2 * 256),
        ("tile/2/000.p/2", 1, SPAN_LEAVES),
    ],
)
def test_rewritten_tile_is_named_at_each_level(path: str, position: int, index: int) -> None:
    files = log_of(DEEP)
    [fault] = faults_of({**files, path: flip(files[path], 32 * position + 31)})
    assert (fault.index, fault.path, fault.kind) == (index, path, FaultKind.TILE)


@pytest.mark.parametrize("path", [p for p in log_of(1025) if p.startswith("tile/")])
def test_missing_tile_is_named(path: str) -> None:
    files = dict(log_of(1025))
    del files[path]
    [fault] = faults_of(files)
    assert (fault.path, fault.kind) == (path, FaultKind.MISSING)


@pytest.mark.parametrize("path", ["tile/entries/001", "tile/entries/004.p/1"])
@pytest.mark.parametrize("cut", [1, 40, -1])
def test_truncated_or_overlong_bundle_is_named(path: str, cut: int) -> None:
    files = log_of(1025)
    data = files[path][:-cut] if cut > 0 else files[path] + b"x"
    [fault] = faults_of({**files, path: data})
    assert (fault.path, fault.kind) == (path, FaultKind.ENTRY)
    assert fault.reason.startswith("cannot be read: entry bundle")


@pytest.mark.parametrize("garbage", [b"", b"x", b"\xff" * 31, b"\xff" * 33, bytes(8192)])
@pytest.mark.parametrize("path", ["tile/0/004.p/1", "tile/1/000.p/4"])
def test_garbage_in_a_partial_tile_is_named(path: str, garbage: bytes) -> None:
    files = log_of(1025)
    assert [(f.path, f.kind) for f in faults_of({**files, path: garbage})] == [(path, FaultKind.TILE)]


def test_swapped_bundles_are_both_named() -> None:
    files = log_of(1025)
    one, other = "tile/entries/001", "tile/entries/002"
    found = faults_of({**files, one: files[other], other: files[one]})
    assert [(f.index, f.path, f.kind) for f in found] == [
        (256, one, FaultKind.ENTRY),
        (512, other, FaultKind.ENTRY),
    ]


def test_swapped_bundles_with_their_tiles_are_both_named() -> None:
    files = log_of(1025)
    swapped = {
        f"tile/{kind}/00{n}": files[f"tile/{kind}/00{3 - n}"] for kind in ("0", "entries") for n in (1, 2)
    }
    found = [f for f in faults_of({**files, **swapped}) if f.kind is not FaultKind.ORDER]
    assert [(f.index, f.path, f.kind) for f in found] == [
        (256, "tile/0/001", FaultKind.TILE),
        (512, "tile/0/002", FaultKind.TILE),
    ]


def test_entry_rewritten_with_every_tile_below_the_root_is_found_in_the_highest_of_them() -> None:
    files = dict(log_of(DEEP))
    entries = list(decode_bundle(files["tile/entries/000"], 256))
    entries[9] = leaves(1, seed=9)[0]
    builder = TreeBuilder()
    [bundle, tile] = builder.append(entries)
    files["tile/entries/000"], files["tile/0/000"] = bundle.data, tile.data
    files["tile/1/000"] = perfect_root(tile.data) + files["tile/1/000"][32:]
    [fault] = [f for f in faults_of(files) if f.kind is not FaultKind.ORDER]
    assert (fault.index, fault.path, fault.kind) == (0, "tile/1/000", FaultKind.TILE)


def test_another_tree_under_the_signed_root_is_blamed_on_the_checkpoint() -> None:
    files = {**published(leaves(1025, seed=4), "shard"), "checkpoint": log_of(1025)["checkpoint"]}
    [fault] = faults_of(files)
    assert (fault.path, fault.kind) == ("checkpoint", FaultKind.CHECKPOINT)


def test_checkpoint_larger_than_what_is_published() -> None:
    files = {**log_of(1025), "checkpoint": published(leaves(1500), "shard")["checkpoint"]}
    found = faults_of(files)
    assert {f.kind for f in found} == {FaultKind.MISSING}
    assert {"tile/entries/004", "tile/entries/005.p/220", "tile/0/005.p/220"} <= {f.path for f in found}


def test_enormous_checkpoint_costs_a_bounded_time() -> None:
    span = check_span(Reader({}), 2**62, 0, LeafOrder())
    assert span.gave_up
    rebuild = Rebuild(Reader({}), 2**62)
    rebuild.add(span)
    found = rebuild.finish(bytes(32))
    assert MAX_FAULTS <= len(found) <= MAX_FAULTS + 2
    assert {f.kind for f in found} == {FaultKind.MISSING}


def test_tiles_that_have_grown_further_than_the_checkpoint_serve_it() -> None:
    grown = log_of(1500)
    files = {path: data for path, data in grown.items() if ".p/" not in path or "/005" in path}
    old = {path: log_of(1025)[path] for path in ("tile/1/000.p/4", "checkpoint")}
    assert faults_of({**files, **old}) == []


def test_files_that_no_tree_of_this_size_has_are_ignored() -> None:
    extra = {
        "tile/0/000.p/9": b"x",
        "tile/5/000": b"x",
        "tile/entries/900": b"x",
        "tile/0/x": b"",
        "README": b"",
    }
    assert faults_of({**log_of(1025), **extra}) == []


@pytest.mark.parametrize(
    ("entries", "index"),
    [
        ([*leaves(3), leaves(1)[0]], 3),
        ([*leaves(300), *leaves(5, first_offset=598)], 300),
        ([*leaves(2), b"not a leaf"], 2),
        ([*leaves(2), leaves(1)[0] + b"x"], 2),
    ],
)
def test_offsets_that_do_not_rise_and_entries_that_are_no_leaves(
    entries: Sequence[bytes], index: int
) -> None:
    [fault] = faults_of(published(entries, "shard"))
    assert (fault.index, fault.kind) == (index, FaultKind.ORDER)


def test_offsets_are_compared_between_spans() -> None:
    first, second = LeafOrder(), LeafOrder()
    assert list(first.take(0, leaves(10, first_offset=100))) == []
    assert list(second.take(10, leaves(10, first_offset=118))) == []
    [(index, reason)] = first.seen.follow(second.seen)
    assert index == 10
    assert "118" in reason


@given(st.integers(1, 1300), st.randoms(use_true_random=False))
def test_any_flipped_bit_is_found_in_its_file(size: int, rng: random.Random) -> None:
    files = log_of(size)
    path = rng.choice([p for p in files if p != "checkpoint"])
    data = bytearray(files[path])
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    found = faults_of({**files, path: bytes(data)})
    assert {f.path for f in found} == {path}
