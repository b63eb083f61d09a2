"""The profiles of one partition of the decisions: a cache over the store, valid only between commits."""

from pipeline.statestore import Partition, StateStore
from processors.access.profile import Profile, decode_profile, person_key

MAX_CACHED = 20_000
"""Profiles kept decoded per partition; the rest is read from RocksDB when its person asks for something."""


class SubjectProfiles:
    """Profiles by subject; `keep` marks what the next commit must carry."""

    def __init__(self, partition: Partition, store: StateStore) -> None:
        self._partition, self._store = partition, store
        self._cache: dict[bytes, Profile] = {}
        self._touched: dict[bytes, Profile] = {}

    def profile_of(self, subject: str) -> Profile | None:
        """Return a person's profile, from the cache or the store; None for one not seen before."""
        key = person_key(subject)
        profile = self._cache.get(key)
        if profile is None:
            stored = self._store.get(self._partition, key)
            if stored is None:
                return None
            profile = self._cache[key] = decode_profile(stored)
        return profile

    def keep(self, subject: str, profile: Profile) -> None:
        """Mark a profile as changed by this batch."""
        key = person_key(subject)
        self._cache[key] = self._touched[key] = profile

    def changes(self) -> list[tuple[bytes, bytes]]:
        """Encode each touched profile once: the batch's changelog records."""
        return [(key, profile.encode()) for key, profile in self._touched.items()]

    def committed(self) -> None:
        """Forget the marks after the commit, and the cache when it has grown."""
        self._touched.clear()
        if len(self._cache) > MAX_CACHED:
            self._cache.clear()
