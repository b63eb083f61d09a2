"""The registry as workers follow it: long, silent, cut off, or of a broker that is not there."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from pipeline import following
from pipeline.authority import NewKey
from pipeline.following import TableLagError
from pipeline.identity import create_identity
from pipeline.registry import RegistryFollower
from pipeline.settings import Settings
from pipeline.trust import init_local, load_trust, trust_path
from tests.kit.deployment import Deployment, wait_for


def unread() -> float:
    return REGISTRY.get_sample_value("attestream_registry_unread_total") or 0.0


def more_unread(than: float) -> bool:
    return unread() > than


def polled(new: RegistryFollower, probe: Callable[[], object]) -> Callable[[], bool]:
    """Ask the probe after a poll, as a worker polls; a question that was lost is asked again."""

    def polls() -> bool:
        new.ask()
        new.poll()
        return bool(probe())

    return polls


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


def test_who_asks_and_goes_on_is_fresh_once_the_answer_is_there(deployment: Deployment) -> None:
    new = follower(deployment.settings)
    try:
        new.ask()
        assert not new.is_fresh()  # nobody has waited for anything
        device = create_identity("k1")
        deployment.authority.enroll(device.did, NewKey("k1", device.public_key), {})
        wait_for(polled(new, new.is_fresh), "an answer")
        wait_for(polled(new, lambda: new.table.subject(device.did)), "the entry")
    finally:
        new.close()


def test_an_answer_that_the_table_has_not_come_to_makes_nothing_fresh(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = follower(deployment.settings)
    monkeypatch.setattr(new, "_take", lambda _timeout_s: 0)  # as if its topic's leader were away
    monkeypatch.setattr(following, "ANSWER_S", 0.5)
    before = unread()
    try:
        new.ask()
        wait_for(polled(new, lambda: unread() > before), "a word of the lag")
        assert not new.is_fresh()
        assert new.table.offset == 0
    finally:
        new.close()


def test_a_question_that_nobody_answers_is_told_and_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "ANSWER_S", 0.2)
    settings = Settings(data_dir=tmp_path, log_name="mute.example", bootstrap_servers="127.0.0.1:1")
    init_local(settings)
    new = follower(settings)
    before = unread()
    try:
        for number in range(2):
            wait_for(polled(new, partial(more_unread, before + number)), f"failure {number}")
        assert not new.is_fresh()
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
