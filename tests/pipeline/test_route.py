"""Route on a real Kafka: gapless numbers per party, each alert once, whatever is killed or lost."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition

from pipeline import kafka as kafka_clients
from pipeline import route, setoffset
from pipeline.stage import Health
from pipeline.transaction import TransactionalProducer
from tests.kit.deployment import Deployment, in_thread, make_deployment, wait_for
from tests.kit.subscribed import (
    assert_gapless,
    header,
    party,
    publish_alerts,
    subscribe,
    told,
    wait_told,
)

pytestmark = pytest.mark.timeout(150)


@pytest.fixture
def deployment(kafka: str, tmp_path: Path) -> Iterator[Deployment]:
    made = make_deployment(kafka, tmp_path, session_timeout_s=6.0)
    yield made
    made.authority.close()


@contextmanager
def routing(deployment: Deployment, slot: int = 0) -> Iterator[Health]:
    with in_thread(route.work, deployment.settings, "route", slot) as health:
        yield health


def names(count: int, first: int = 0) -> list[str]:
    return [f"device.findings/0/{number}" for number in range(first, first + count)]


def test_parties_are_told_of_what_fits_with_the_place_of_the_evidence(deployment: Deployment) -> None:
    device = deployment.enroll(ward="ICU-1", manufacturer="Acme")
    subscribe(
        deployment.settings,
        1,
        [party("everything"), party("icu", wards=["ICU-1"]), party("bolt", manufacturers=["B"])],
    )
    publish_alerts(deployment, names(2), device={"uid": device.did})
    publish_alerts(deployment, [*names(1), *names(1, 2)])  # the first one again, and one of an unknown device
    deployment.publish("alerts", None, b"no alert", 0)
    publish_alerts(deployment, names(1, 3))
    with routing(deployment):
        everything = wait_told(deployment.settings, "everything", 4)
    assert_gapless(everything)
    assert [header(r, "ce_id") for r in everything] == names(4)
    sources = {f"{r.topic}/{r.partition}/{r.offset}": r for r in deployment.read("alerts")}
    for record in everything:
        source = sources[header(record, "source")]
        assert (record.key, record.value) == (source.key, source.value)
        assert record.headers[: len(source.headers)] == source.headers
    assert [header(r, "ce_id") for r in told(deployment.settings, "icu")] == names(2)
    assert told(deployment.settings, "bolt") == []


def test_a_new_version_comes_into_force_and_numbers_go_on(deployment: Deployment) -> None:
    settings = deployment.settings
    subscribe(settings, 1, [party("a"), party("b")])
    with routing(deployment) as health:
        publish_alerts(deployment, names(1))
        wait_told(settings, "b", 1)
        subscribe(settings, 2, [party("a"), party("c")])
        wait_for(lambda: "version 2" in health.path.read_text(), "version 2 in force")
        publish_alerts(deployment, names(1, 1))
        wait_told(settings, "c", 1)
        subscribe(settings, 3, [party("a"), party("b")])
        wait_for(lambda: "version 3" in health.path.read_text(), "version 3 in force")
        (settings.data_dir / "parties.note").write_bytes(b"broken")
        wait_for(lambda: "PARTIES FILE REFUSED" in health.path.read_text(), "the broken file is told")
        publish_alerts(deployment, names(1, 2))
        assert_gapless(wait_told(settings, "b", 2))
    assert [header(r, "ce_id") for r in told(settings, "b")] == names(1) + names(1, 2)
    assert_gapless(told(settings, "a"))
    assert len(told(settings, "c")) == 1


def test_commits_in_doubt_leave_no_gap(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, commit, dice = deployment.settings, TransactionalProducer.commit, random.Random(5)

    def doubtful(self: TransactionalProducer, *arguments: Any) -> None:
        case = dice.randrange(3)
        if case == 1:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        commit(self, *arguments)
        if case == 2:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    monkeypatch.setattr(TransactionalProducer, "commit", doubtful)
    subscribe(settings, 1, [party("soc")])
    with routing(deployment):
        for number in range(12):
            publish_alerts(deployment, names(3, 3 * number))
            wait_told(settings, "soc", 3 * (number + 1))
    assert_gapless(told(settings, "soc"))
    assert [header(r, "ce_id") for r in told(settings, "soc")] == names(36)


def test_a_lost_working_copy_comes_back_from_the_changelog(deployment: Deployment) -> None:
    settings = deployment.settings
    subscribe(settings, 1, [party("soc")])
    publish_alerts(deployment, names(20))
    with routing(deployment):
        wait_told(settings, "soc", 20)
    shutil.rmtree(settings.data_dir / "state" / "route")
    publish_alerts(deployment, [*names(20), *names(5, 20)])
    with routing(deployment):
        wait_told(settings, "soc", 25)
    assert_gapless(told(settings, "soc"))
    assert [header(r, "ce_id") for r in told(settings, "soc")] == names(25)


def test_kill_9_at_any_moment_loses_and_repeats_nothing(deployment: Deployment) -> None:
    """Killed at random moments under load; every alert once, numbers without a gap."""
    settings, dice = deployment.settings, random.Random(11)
    subscribe(settings, 1, [party("soc"), party("loud", severity="high")])
    environment = {
        **os.environ, "ATTESTREAM_BOOTSTRAP_SERVERS": settings.bootstrap(), "ATTESTREAM_BATCH_RECORDS": "5",
        "ATTESTREAM_LOG_NAME": settings.log_name, "ATTESTREAM_PARTITIONS": "2",
        "ATTESTREAM_SESSION_TIMEOUT_S": "6",
    }  # fmt: skip

    def start(slot: int) -> subprocess.Popen[bytes]:
        words = ["run", "route", "--slot", str(slot), "--data-dir", str(settings.data_dir)]
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli.main", *words], env=environment, stderr=subprocess.DEVNULL
        )

    workers = {0: start(0)}
    published = 0
    try:
        for round_ in range(6):
            publish_alerts(deployment, names(40, published), severity_id=round_ % 5)
            published += 40
            wait_told(settings, "soc", published - 40 + dice.randrange(1, 40))
            workers[0].send_signal(signal.SIGKILL)
            workers[0].wait()
            workers[0] = start(0)
        found = wait_told(settings, "soc", published)
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    assert_gapless(found)
    assert [header(r, "ce_id") for r in found] == names(published)
    assert_gapless(told(settings, "loud"))


def test_an_operator_lets_route_go_on_where_its_group_has_forgotten(deployment: Deployment) -> None:
    settings = deployment.settings
    subscribe(settings, 1, [party("soc")])
    publish_alerts(deployment, names(3))
    with routing(deployment):
        wait_told(settings, "soc", 3)
    client = kafka_clients.admin(settings)
    group = ConsumerGroupTopicPartitions(f"{settings.log_name}.route", [TopicPartition("alerts", 0)])

    def forgotten() -> bool:
        try:
            client.delete_consumer_groups([group.group_id])[group.group_id].result(10)
        except KafkaException:
            return False  # until the worker's session is over
        return True

    wait_for(forgotten, "the group is gone")
    with routing(deployment) as health:
        wait_for(lambda: "topics set-offset alerts 0" in health.path.read_text(), "the way out is named")
    found = setoffset.standing(settings, ("alerts", 0))
    assert (found.committed, found.judged_to) == (None, 3)
    setoffset.set_offset(settings, ("alerts", 0), found.next_offset)
    publish_alerts(deployment, names(2, 3))
    with routing(deployment):
        wait_told(settings, "soc", 5)
    assert_gapless(told(settings, "soc"))
    assert [header(r, "ce_id") for r in told(settings, "soc")] == names(5)
