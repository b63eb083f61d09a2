"""The record index without a broker: what it finds and passes over, its one writer; a leaf by its offset."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evidence import find_leaf
from pipeline.recordindex import EventName, IndexBusyError, Positions, RecordIndex, name_of
from pipeline.workingcopy import CopyDamagedError
from processors.merkle.reader import TiledTree
from processors.merkle.tree import TreeBuilder
from processors.model import RawRecord
from schemas.envelope import PayloadKind
from schemas.records import encode_leaf
from tests.kit.parties import NOW_MS, envelope_of, identity_of, payload_of, registry_payload, signed_entry
from tests.pipeline import recordindex_bench as bench

DEVICE = identity_of("device")
AT = Positions("topic id", {0: 7, 1: 0})


def event(
    kind: PayloadKind = PayloadKind.TELEMETRY, partition: int = 3, offset: int = 5, **fields: int
) -> RawRecord:
    value = envelope_of(payload_of(DEVICE.did, kind, **fields), DEVICE, kind=kind)
    return RawRecord("device.events", partition, offset, NOW_MS, DEVICE.did.encode(), value)


def name(kind: PayloadKind = PayloadKind.TELEMETRY, boot: int = 1, sequence: int = 1) -> EventName:
    return EventName(DEVICE.did, kind, boot, sequence)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[RecordIndex]:
    with closing(RecordIndex(tmp_path / "index")) as opened:
        yield opened


def test_events_are_found_by_name_and_digest(index: RecordIndex) -> None:
    record = event(sequence=9)
    index.write([event(), record, event(PayloadKind.ACCESS, 1, 8)], AT)
    assert index.by_name(name(sequence=9)) == (3, 5)
    assert index.by_name(name(PayloadKind.ACCESS)) == (1, 8)
    found = name_of(record)
    assert found is not None
    assert found == (name(sequence=9), blake3(payload_of(DEVICE.did, sequence=9)).digest())
    assert index.by_digest(found[1]) == index.by_digest(found[1][:16]) == (3, 5)
    for other in (name(boot=2), name(sequence=2), replace(name(), device_id="did:key:other")):
        assert index.by_name(other) is None
    assert index.by_digest(bytes(32)) is None
    assert index.positions() == AT


def test_names_never_run_into_each_other() -> None:
    """Device and type are length-prefixed, so no two names share a key's input."""
    names = [
        EventName("did:a", PayloadKind.ACCESS, 1, 2),
        EventName("did:aaccess", PayloadKind.ACCESS, 1, 2),
        EventName("did:a", PayloadKind.ACCESS, 2, 1),
        EventName("did:a", PayloadKind.TELEMETRY, 1, 2),
        EventName("did:a", PayloadKind.ACCESS, 12, 2),
    ]
    assert len({each.key for each in names}) == len(names)


def test_what_is_no_event_is_passed_over(index: RecordIndex) -> None:
    entry = signed_entry(registry_payload(DEVICE.did, "DECOMMISSION", 2))
    for value in (None, b"", b"nonsense", entry, (event().value or b"")[:-1]):
        odd = replace(event(), value=value)
        assert name_of(odd) is None
        index.write([odd], AT)
    assert index.by_name(name()) is None
    assert index.positions() == AT


def test_it_outlives_its_process_and_is_wiped_as_a_whole(tmp_path: Path) -> None:
    with closing(RecordIndex(tmp_path / "index")) as index:
        assert index.positions() is None
        index.write([event()], AT)
    with closing(RecordIndex(tmp_path / "index")) as index:
        assert index.by_name(name()) == (3, 5)
        index.wipe()
        assert index.by_name(name()) is None
        assert index.positions() is None


def test_one_writes_and_others_look_on(tmp_path: Path) -> None:
    with closing(RecordIndex(tmp_path / "index")) as index:
        index.write([event()], AT)
        with pytest.raises(IndexBusyError):
            RecordIndex(tmp_path / "index")
        with closing(RecordIndex(tmp_path / "index", read_only=True)) as beside:
            assert beside.by_name(name()) == (3, 5)
            index.write([event(sequence=2)], replace(AT, next_offsets={0: 9}))
            beside.refresh()
            assert beside.by_name(name(sequence=2)) == (3, 5)
            assert beside.positions() == replace(AT, next_offsets={0: 9})


def test_damaged_files_are_set_aside_and_the_index_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "index"
    with closing(RecordIndex(path)) as index:
        index.write([event()], AT)
    (path / "CURRENT").write_bytes(b"nonsense")
    with closing(RecordIndex(path)) as index:
        assert index.positions() is None
        assert index.by_name(name()) is None
    assert (tmp_path / "index.damaged-1" / "CURRENT").read_bytes() == b"nonsense"


def test_damage_met_on_reading_is_not_met_again(tmp_path: Path) -> None:
    """A damaged block says "block checksum mismatch": not to be taken for a lock that somebody holds."""
    path = tmp_path / "index"
    with closing(RecordIndex(path)) as index:
        index.write([event(sequence=number) for number in range(1, 200)], AT)
    RecordIndex(path).close()  # opening wrote what was in the log into a table
    for table in path.glob("*.sst"):
        data = bytearray(table.read_bytes())
        data[len(data) // 2 - 1500 : len(data) // 2 + 1500 : 100] = bytes(30)
        table.write_bytes(data)
    names = [name(sequence=number) for number in range(1, 200)]
    with pytest.raises(CopyDamagedError), closing(RecordIndex(path)) as index:
        assert [index.by_name(each) for each in names] == []
    with closing(RecordIndex(path)) as index:
        assert index.positions() is None


def test_a_short_run_of_the_benchmark(tmp_path: Path) -> None:
    bench.fill(tmp_path / "index", 30_000)
    first, times = bench.look(tmp_path / "index", 30_000)
    assert first > 0
    assert len(times) == bench.LOOKS
    assert len(bench.search(tmp_path / "tree", 3_000)) == 50


# ---- a leaf by its offset --------------------------------------------------------------------------------


class Counting(dict[str, bytes]):
    """Tiles in memory that count how often they are read."""

    reads = 0

    def read(self, path: str) -> bytes | None:
        self.reads += 1
        return self.get(path)


def tree_of(offsets: Sequence[int]) -> tuple[TiledTree, Counting]:
    tiles, builder = Counting(), TreeBuilder()
    full = builder.append([encode_leaf(offset, 0, bytes(32)) for offset in offsets])
    tiles.update({item.tile.path: item.data for item in (*full, *builder.edge())})
    return TiledTree(tiles, builder.size, builder.root()), tiles


@given(st.lists(st.integers(1, 400), min_size=1, max_size=600), st.data())
@settings(max_examples=60)
def test_any_gaps_between_offsets(gaps: list[int], data: st.DataObject) -> None:
    offsets, at = [], -1
    for gap in gaps:
        at += gap
        offsets.append(at)
    tree, _ = tree_of(offsets)
    known = {offset: index for index, offset in enumerate(offsets)}
    probes = data.draw(st.lists(st.integers(-1, at + 2), max_size=20))
    for offset in (*offsets[::37], offsets[-1], *probes):
        assert find_leaf(tree, offset) == known.get(offset)


def test_few_tiles_are_read_also_where_gaps_are_uneven() -> None:
    dense = list(range(20_000))
    for offsets in (dense, [o + (o // 10) * 7 for o in dense], [*dense, *(o + 10**9 for o in dense)]):
        tree, tiles = tree_of(offsets)
        for index in (0, 1, 255, 256, 9_999, len(offsets) - 1):
            tiles.reads = 0
            assert find_leaf(tree, offsets[index]) == index
            assert tiles.reads < 40
        assert find_leaf(tree, offsets[-1] + 1) is None
        assert find_leaf(tree, 2**63 - 1) is None
