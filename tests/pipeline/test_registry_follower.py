"""The registry as workers follow it: long, silent, cut off, or of a broker that is not there."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from prometheus_client import REGISTRY

from pipeline import following, kafka
from pipeline.authority import NewKey
from pipeline.following import TableLagError
from pipeline.identity import create_identity
from pipeline.registry import RegistryFollower
from pipeline.settings import Settings
from pipeline.trust import init_local, load_trust, trust_path
from tests.kit.deployment import Deployment, wait_for


def unread() -> float:
    return REGISTRY.get_sample_value("attestream_registry_unread_total") or 0.0


def follower(settings: Settings) -> RegistryFollower:
    return RegistryFollower(settings, load_trust(trust_path(settings)))


def polled(table: RegistryFollower, client: AdminClient, is_so: Callable[[], bool]) -> Callable[[], bool]:
    """Ask after a tick and a step of a worker; a machine that is busy may take several."""

    def ask() -> bool:
        table.keep_up(client)
        table.poll()
        return is_so()

    return ask


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


def test_keeping_up_makes_it_fresh_without_a_wait(deployment: Deployment) -> None:
    client = kafka.admin(deployment.settings)
    new = follower(deployment.settings)
    try:
        new.keep_up(client)
        new.keep_up(client)  # one question is open: no other is asked
        assert not new.is_fresh()
        wait_for(polled(new, client, new.is_fresh), "it is fresh")
        assert new.table.offset > 0
    finally:
        new.close()


def test_an_answer_that_the_table_does_not_reach_is_counted_and_asked_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, asked = kafka.admin(deployment.settings), list[Future[Any]]()

    def further(*_arguments: object, **_named: object) -> dict[tuple[str, int], Future[Any]]:
        answer: Future[Any] = Future()
        answer.set_result(SimpleNamespace(offset=1 << 40))
        asked.append(answer)
        return {(new.topic, 0): answer}

    monkeypatch.setattr(following, "ask_ends", further)
    monkeypatch.setattr(following, "ANSWER_S", 0.0)
    new = follower(deployment.settings)
    try:
        before = unread()
        for _ in range(3):
            new.keep_up(client)
            new.poll()
        assert (len(asked), unread()) == (3, before + 3)
        assert not new.is_fresh()
        monkeypatch.undo()
        new.keep_up(client)
        wait_for(polled(new, client, new.is_fresh), "it is fresh")
    finally:
        new.close()


def test_entries_that_overtake_an_answer_make_it_no_worse(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While many devices are enrolled the table is further than any question of the past."""
    answer: Future[Any] = Future()
    new = follower(deployment.settings)
    monkeypatch.setattr(following, "ask_ends", lambda *_, **__: {(new.topic, 0): answer})
    try:
        new.catch_up()
        before, end = unread(), new.table.offset
        new._reached_at = None
        new.keep_up(kafka.admin(deployment.settings))
        answer.set_result(SimpleNamespace(offset=end))
        new.table.offset += 2
        new.poll()
        assert new.is_fresh()
        assert unread() == before
    finally:
        new.close()


def test_a_question_that_nobody_answers_is_asked_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[Future[Any]]()

    def ask(*_arguments: object, **_named: object) -> dict[tuple[str, int], Future[Any]]:
        asked.append(Future())
        return {(new.topic, 0): asked[-1]}

    monkeypatch.setattr(following, "ask_ends", ask)
    monkeypatch.setattr(following, "ANSWER_S", 0.0)
    client, new, before = kafka.admin(deployment.settings), follower(deployment.settings), unread()
    try:
        for _ in range(2):
            new.keep_up(client)
            new.poll()
        assert (len(asked), unread()) == (2, before + 2)
    finally:
        new.close()


def test_keeping_up_with_a_topic_that_was_cut_makes_nothing_fresh(deployment: Deployment) -> None:
    client, before = kafka.admin(deployment.settings), unread()
    new = follower(deployment.settings)
    try:
        new.table.offset = 1 << 40
        new.keep_up(client)
        wait_for(polled(new, client, lambda: unread() > before), "it is counted")
        assert not new.is_fresh()
    finally:
        new.close()
