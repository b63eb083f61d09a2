"""The registry as workers follow it: long, silent, cut off, or of a broker that is not there."""

from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from pipeline.authority import NewKey
from pipeline.following import TableLagError
from pipeline.identity import create_identity
from pipeline.registry import RegistryFollower
from pipeline.settings import Settings
from pipeline.trust import init_local, load_trust, trust_path
from tests.kit.deployment import Deployment


def unread() -> float:
    return REGISTRY.get_sample_value("attestream_registry_unread_total") or 0.0


def follower(settings: Settings) -> RegistryFollower:
    return RegistryFollower(settings, load_trust(trust_path(settings)))


def test_catching_up_tells_how_far_it_is(deployment: Deployment) -> None:
    devices = [create_identity("k1") for _ in range(30)]
    deployment.authority.enroll_many([(d.did, NewKey("k1", d.public_key), {}) for d in devices])
    said: list[str] = []
    new = follower(deployment.settings)
    try:
        assert not new.is_fresh()
        new.catch_up(said.append)
        assert new.is_fresh()
        assert new.table.subject(devices[-1].did) is not None
        end = new.table.offset
        assert said[-1] == f"reading the registry: {end:,} of {end:,} entries"
    finally:
        new.close()


def test_a_topic_that_ends_before_what_was_read_makes_nothing_fresh(deployment: Deployment) -> None:
    new = follower(deployment.settings)
    try:
        new.catch_up()
        new.table.offset += 5  # as if the topic had been made anew with fewer entries
        before = unread()
        assert not new.try_catch_up(5.0)
        assert unread() == before + 1
        with pytest.raises(TableLagError, match="it is another or cut"):
            new.catch_up()
    finally:
        new.close()


def test_a_silent_broker_costs_one_wait_and_then_little(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, log_name="silent.example", bootstrap_servers="127.0.0.1:1")
    init_local(settings)
    new = follower(settings)
    try:
        assert not new.try_catch_up(1.0)
        # From now on a try is short, however much time it is given.
        assert not new.try_catch_up(1000.0)
        assert not new.try_catch_up(1000.0)
        assert not new.is_fresh()
    finally:
        new.close()
