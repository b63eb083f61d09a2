"""Ingest's working copy: partitions apart, state and position together, nothing kept uncommitted."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.devices import PartitionStates, keep_most
from pipeline.statestore import ChangelogPosition, Partition, StateStore
from pipeline.workingcopy import CopyDamagedError
from processors.detect import DetectConfig, TelemetryDetectors
from processors.detect.telemetry_state import SignalState
from processors.judge import NoDetectors
from processors.state import DELTA, DeviceState

# Names that could be taken for each other where keys are prefixes.
PLACES: tuple[Partition, ...] = (
    ("device.telemetry.raw", 1),
    ("device.telemetry.raw", 10),
    ("device.telemetry.raw", 0),
    ("device.telemetry", 1),
    ("device.telemetry.raw2", 1),
    ("p", 1),
    ("s", 1),
)
A, TEN = PLACES[0], PLACES[1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rocksdb"


@pytest.fixture
def store(path: Path) -> Iterator[StateStore]:
    made = StateStore(path)
    yield made
    made.close()


def content(store: StateStore, partition: Partition) -> dict[bytes, bytes]:
    return dict(store.items(partition))


def test_partitions_do_not_see_each_other(store: StateStore) -> None:
    keys = (b"", b"k", b"1/k", b"0/k", b"\x00registry", b"\xff\xff", b"s/device.telemetry.raw/10/k")
    store.write(
        [(place, key, f"{place}{key!r}".encode()) for place in PLACES for key in keys],
        {place: ChangelogPosition(str(place), place[1]) for place in PLACES},
    )
    for place in PLACES:
        assert content(store, place) == {key: f"{place}{key!r}".encode() for key in keys}
        assert store.position(place) == ChangelogPosition(str(place), place[1])
    store.wipe(A)
    assert content(store, A) == {}
    assert store.position(A) is None
    assert store.get(A, b"k") is None
    for place in PLACES[1:]:
        assert len(content(store, place)) == len(keys)
        assert store.position(place) is not None


def test_what_was_written_is_there_after_reopening(path: Path) -> None:
    store = StateStore(path)
    store.write([(A, b"k", b"v")], {A: ChangelogPosition("id", 5)})
    store.close()
    again = StateStore(path)
    assert content(again, A) == {b"k": b"v"}
    assert again.position(A) == ChangelogPosition("id", 5)
    assert again.position(TEN) is None
    again.close()


KEYS = st.sampled_from([b"", b"a", b"a/", b"b", b"\xff"])
WRITES = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "write", "wipe"]), st.sampled_from(PLACES), KEYS, st.binary()
    )
)


@given(writes=WRITES)
@settings(max_examples=30)
def test_it_is_a_table_per_partition(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[str, Partition, bytes, bytes]]
) -> None:
    store = StateStore(tmp_path_factory.mktemp("store") / "rocksdb")
    expected: dict[Partition, dict[bytes, bytes]] = {place: {} for place in PLACES}
    try:
        for number, (what, place, key, value) in enumerate(writes):
            if what == "wipe":
                store.wipe(place)
                expected[place] = {}
            else:
                store.write([(place, key, value)], {place: ChangelogPosition("id", number)})
                expected[place][key] = value
            assert (store.position(place) is None) == (what == "wipe")
        for place in PLACES:
            assert content(store, place) == expected[place]
            assert list(content(store, place)) == sorted(expected[place])
    finally:
        store.close()


# ---- the cache over it -----------------------------------------------------------------------------------


def speak(states: PartitionStates, device: str, sequence: int, append_ms: int) -> None:
    state = states.state_of(device)
    state.boot, state.sequence, state.last_append_ms = 1, sequence, append_ms
    state.remembered.add(sequence, sequence, bytes(32))
    states.touch(device, state)


def commit(states: PartitionStates, store: StateStore) -> list[bytes]:
    """What a commit of the stage does with the states."""
    changes = list(states.changes())
    position = ChangelogPosition("id", len(changes))
    store.write([(states.partition, key, value) for key, value in changes], {states.partition: position})
    return [key for key, _ in changes]


def opened(store: StateStore) -> PartitionStates:
    return PartitionStates(A, store, NoDetectors())


def test_a_commit_carries_each_touched_device_once(store: StateStore) -> None:
    states = opened(store)
    for sequence in (1, 2, 3):
        speak(states, "did:web:a", sequence, 1000)
    states.state_of("did:web:looked at only")
    assert commit(states, store) == [b"did:web:a"]
    assert commit(states, store) == []
    assert opened(store).state_of("did:web:a").sequence == 3
    assert opened(store).state_of("did:web:looked at only").sequence == 0


def test_what_was_not_committed_is_forgotten(store: StateStore) -> None:
    states = opened(store)
    speak(states, "did:web:a", 1, 1000)
    commit(states, store)
    speak(states, "did:web:a", 2, 2000)
    again = opened(store).state_of("did:web:a")
    assert (again.sequence, again.last_append_ms) == (1, 1000)
    assert again.remembered.find(2) is None


def test_a_cache_that_is_too_small_loses_nothing(store: StateStore) -> None:
    states = opened(store)
    kept: set[str] = set()
    for number in range(12):
        for device in range(10):
            state = states.state_of(f"did:web:{device}")
            assert state.sequence == number
            state.sequence = number + 1
            states.touch(f"did:web:{device}", state)
        commit(states, store)
        states.keep(3)
        assert states.cached <= 3
        kept |= set(states._cache)
    assert len(kept) > 3, "who is kept changes"


def test_partitions_share_what_is_kept(store: StateStore) -> None:
    """Where a topic has hardly any devices the others' are kept instead."""
    all_states = [PartitionStates(place, store, NoDetectors()) for place in PLACES[:3]]
    for states, devices in zip(all_states, (90, 9, 1), strict=True):
        for device in range(devices):
            states.state_of(f"did:web:{device}")
    keep_most(all_states, 100)
    assert [states.cached for states in all_states] == [90, 9, 1]
    keep_most(all_states, 50)
    assert [states.cached for states in all_states] == [45, 4, 0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), max_size=12), st.integers(1, 4))
def test_a_small_cache_loses_nothing_while_a_commit_is_under_way(
    batches: list[list[int]], most_cached: int
) -> None:
    """As ingest does: a batch is judged before the one before it has come into the store."""
    with TemporaryDirectory() as folder, closing(StateStore(Path(folder) / "rocksdb")) as store:
        states = opened(store)
        heard: Counter[int] = Counter()
        under_way: list[tuple[Partition, bytes, bytes]] = []
        for number, batch in enumerate([*batches, []]):
            for device in batch:
                state = states.state_of(f"did:web:{device}")
                assert state.sequence == heard[device]
                heard[device] += 1
                state.sequence = heard[device]
                states.touch(f"did:web:{device}", state)
            store.write(under_way, {A: ChangelogPosition("id", number)})
            states.keep(most_cached)
            under_way = [(A, key, value) for key, value in states.changes()]
        assert len(under_way) == 0
        again = opened(store)
        assert {device: again.state_of(f"did:web:{device}").sequence for device in heard} == heard


def test_deadlines_after_a_restart_are_those_of_devices_that_owe_a_word(store: StateStore) -> None:
    states = opened(store)
    speak(states, "did:web:speaking", 1, 1000)
    speak(states, "did:web:silent", 1, 900)
    states.state_of("did:web:silent").silent_since_ms = 900
    never = DeviceState(None)
    states.touch("\x00registry", never)
    commit(states, store)
    assert opened(store).last_append_ms == {"did:web:speaking": 1000}


def test_detectors_states_travel_with_the_device(store: StateStore) -> None:
    detectors = TelemetryDetectors(DetectConfig.default())
    states = PartitionStates(A, store, detectors)
    states.detectors_of("did:web:a").signals[147842] = SignalState(147842)
    states.touch("did:web:a", states.state_of("did:web:a"))
    expected = detectors.dump(states.detectors_of("did:web:a"))
    commit(states, store)
    again = PartitionStates(A, store, detectors)
    assert detectors.dump(again.detectors_of("did:web:a")) == expected
    assert expected != detectors.dump(detectors.new())


def test_a_device_whose_name_others_begin_with_has_its_own_delta(store: StateStore) -> None:
    names = ["did:web:a", "did:web:a:b", "did:web:a:b:c", "did:web:a:d", "did:web:b", "did:web:\U0010ffff"]
    states = opened(store)
    expected = {}
    for number in range(1, 4):
        for at, name in enumerate(names):
            if number == 1 or at % 2:
                expected[name] = 1000 * number + at
                speak(states, name, number, expected[name])
        written = commit(states, store)
    assert written == [name.encode() + DELTA for at, name in enumerate(names) if at % 2]
    keys = [key for key, _ in store.items(A)]
    assert sum(key.endswith(DELTA) for key in keys) == 3
    assert opened(store).last_append_ms == expected
    assert {name: opened(store).state_of(name).last_append_ms for name in names} == expected


def test_a_delta_without_its_state_is_damage_that_is_mended(store: StateStore) -> None:
    store.write([(A, b"did:web:a" + DELTA, b"delta")], {A: ChangelogPosition("id", 1)})
    with pytest.raises(CopyDamagedError, match="did:web:a"):
        opened(store)
    store.mend()
    assert store.position(A) is None, "it is restored from the changelog"
    assert opened(store).last_append_ms == {}
