"""Profiles between commits: marked until committed, and read from the store when the cache has gone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import subjects
from pipeline.statestore import Partition, StateStore
from pipeline.subjects import SubjectProfiles
from processors.access.profile import Profile, decode_profile, person_key

PLACE: Partition = ("access.decisions", 1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    made = StateStore(tmp_path / "rocksdb")
    yield made
    made.close()


def commit(profiles: SubjectProfiles, store: StateStore) -> None:
    store.write([(PLACE, key, value) for key, value in profiles.changes()], {})
    profiles.committed()


def test_a_profile_outlives_cache_and_worker(store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects, "MAX_CACHED", 1)
    profiles = SubjectProfiles(PLACE, store)
    names = ["nora", "nils", "/../" + "\N{SNOWMAN}" * 512, ""]
    for number, name in enumerate(names):
        assert profiles.profile_of(name) is None
        profiles.keep(name, Profile(next_offset=number))
    commit(profiles, store)
    for reader in (profiles, SubjectProfiles(PLACE, store)):
        assert [reader.profile_of(name) for name in names] == [Profile(next_offset=n) for n in range(4)]
    assert SubjectProfiles((PLACE[0], 0), store).profile_of("nora") is None


def test_a_commit_carries_what_was_kept_once_and_nothing_else(store: StateStore) -> None:
    profiles = SubjectProfiles(PLACE, store)
    profiles.keep("nora", Profile(next_offset=1))
    commit(profiles, store)
    assert profiles.changes() == []
    known = profiles.profile_of("nora")
    assert known is not None
    known.next_offset = 7
    profiles.keep("nora", known)
    profiles.keep("nora", known)
    ((key, value),) = profiles.changes()
    assert key == person_key("nora")
    assert decode_profile(value) == Profile(next_offset=7)
