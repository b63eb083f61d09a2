"""Profile on a real Kafka: findings about persons, each once, whatever is killed, moved or lost."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from prometheus_client import REGISTRY

from pipeline import kafka as kafka_clients
from pipeline import profile, setoffset
from pipeline.authority import NewKey
from pipeline.identity import create_identity
from pipeline.policies import PolicyAuthority
from pipeline.stage import Health
from pipeline.topics import ACCESS_RAW, DECISIONS, FINDINGS, changelog_of
from pipeline.transaction import TransactionalProducer
from processors.access.profile import ProfileConfig, Profiler
from processors.model import RawRecord
from schemas.decisions import Decision, DecisionReason, decode_decision
from schemas.partition import partition_of
from schemas.records import decode_finding
from tests.kit.decided import MemoryProfiles, decision
from tests.kit.deployment import Deployment, in_thread, make_deployment, wait_for
from tests.kit.ward import ACTIONS, HOSPITAL

pytestmark = pytest.mark.timeout(180)
RULES = {
    "privilege_probing", "off_shift_access", "impossible_travel", "dormant_credential", "mass_export"
}  # fmt: skip
DAY_S = 86_400.0


@pytest.fixture
def deployment(kafka: str, tmp_path: Path) -> Iterator[Deployment]:
    made = make_deployment(kafka, tmp_path, session_timeout_s=6.0)
    yield made
    made.authority.close()


@contextmanager
def profiling(deployment: Deployment, slot: int = 0) -> Iterator[Health]:
    with in_thread(profile.work, deployment.settings, "profile", slot) as health:
        yield health


def publish(deployment: Deployment, decisions: Sequence[Decision]) -> None:
    for each in decisions:
        deployment.publish(DECISIONS, each.subject.encode(), each.encode(os.urandom(16)))


def life(person: int, steps: int, first: int = 0) -> list[Decision]:
    """A person who, step by step, gives every detector something to find, and an end to it."""
    dice = random.Random(person)
    subject, made = f"did:example:person-{person}", []
    for step in range(first + steps):
        stay, hour = divmod(step, 40)
        reason = dice.choice([DecisionReason.POLICY, DecisionReason.POLICY, DecisionReason.NO_PERMIT])
        made.append(
            decision(
                stay * 120 * DAY_S + (9 * 3600.0 if hour >= 30 else 0.0) + 20 * hour,
                subject=subject,
                reason=reason,
                device_id=f"did:example:device-{dice.randrange(9)}",
                action=dice.choice(["export", "export", "export", "view", "login", "unlock"]),
                ward=dice.choice(["ICU-1", "ICU-1", "ICU-2"]),
            )
        )
    return made[first:]


def found(deployment: Deployment) -> list[dict[str, Any]]:
    """Findings about persons as they stand in the topic, without salts; each beside those of its device."""
    records = deployment.read(FINDINGS)
    findings = [(decode_finding(record.value or b""), record) for record in records]
    for each, record in findings:
        assert record.key == each["device_id"].encode()
        assert record.partition == partition_of(each["device_id"].encode(), deployment.settings.partitions)
    mine = [{**each, "salt": b""} for each, _ in findings if each["rule"] in RULES]
    return sorted(mine, key=_place)


def expected(deployment: Deployment) -> list[dict[str, Any]]:
    """What follows from the topic of decisions alone, read from its start by nobody but us."""
    partitions: dict[int, list[RawRecord]] = {}
    for record in deployment.read(DECISIONS):
        partitions.setdefault(record.partition, []).append(record)
    profiler = Profiler(ProfileConfig.default())
    made = [
        decode_finding(each.encode(bytes(16)))
        for records in partitions.values()
        for each in profiler.process(records, MemoryProfiles()).findings
    ]
    return sorted(({**each, "salt": b""} for each in made), key=_place)


def _place(finding: dict[str, Any]) -> tuple[int, int, str, str]:
    last = finding["evidence"][-1]
    return last["partition"], last["offset"], finding["rule"], finding["status"]


def wait_found(deployment: Deployment) -> list[dict[str, Any]]:
    """Wait until every finding that follows from the decisions is there; none may come twice."""
    wanted = expected(deployment)

    def all_there() -> bool:
        return len(found(deployment)) >= len(wanted)

    wait_for(all_there, f"{len(wanted)} findings")
    there = found(deployment)
    assert there == wanted
    return there


def test_a_person_who_tries_the_doors_of_another_ward_is_found(deployment: Deployment) -> None:
    """The whole way: registry, policies, ingest's decisions, and the evidence that the finding cites."""
    policies = PolicyAuthority(deployment.settings)
    policies.publish("hospital", HOSPITAL, ACTIONS)
    policies.close()
    nurse = create_identity("k1")
    attributes = {"kind": "clinician", "wards": "ICU-2", "shift": "00:00-00:00"}
    deployment.authority.refresh()
    deployment.authority.enroll(nurse.did, NewKey("k1", nurse.public_key, "APPROVAL"), attributes)
    pumps = [deployment.enroll(kind="infusion-pump", ward="ICU-7") for _ in range(6)]
    with deployment.ingesting(), profiling(deployment):
        for pump in pumps:
            deployment.send(pump, pump.access(subject=nurse.did, session="s1"), ACCESS_RAW)
        wait_for(lambda: len(deployment.read(DECISIONS)) == len(pumps), "all are decided")
        (probing,) = wait_found(deployment)
    assert (probing["rule"], probing["status"], probing["subject"]) == (
        "privilege_probing", "OPENED", nurse.did
    )  # fmt: skip
    decided = {(r.partition, r.offset): r for r in deployment.read(DECISIONS)}
    cited = [decided[each["partition"], each["offset"]] for each in probing["evidence"]]
    assert {each["topic"] for each in probing["evidence"]} == {DECISIONS}
    assert {decode_decision(each.value or b"").device_id for each in cited} == {pump.did for pump in pumps}
    assert probing["device_id"] == decode_decision(cited[-1].value or b"").device_id
    assert probing["evidence"][-1]["digest"] == blake3(cited[-1].value or b"").digest()


def _partitions(health: Health) -> int:
    text = health.path.read_text() if health.path.exists() else ""
    found = re.search(r"(\d+) partitions,", text)
    return int(found[1]) if found else 0


def test_every_rule_is_found_and_a_broken_record_costs_itself_only(deployment: Deployment) -> None:
    def unreadable() -> float:
        return REGISTRY.get_sample_value("attestream_profile_unreadable_total") or 0.0

    before = unreadable()
    with profiling(deployment):
        publish(deployment, life(1, 60))
        deployment.publish(DECISIONS, b"did:example:person-1", b"no decision")
        deployment.publish(DECISIONS, None, None, 1)
        deployment.publish(DECISIONS, b"somebody", life(1, 1)[0].encode(bytes(16)))
        publish(deployment, life(1, 60, 60))
        there = wait_found(deployment)
        wait_for(lambda: unreadable() == before + 3, "what is not ours is counted")
    assert {each["rule"] for each in there} == RULES


def test_commits_in_doubt_lose_and_repeat_nothing(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, dice = TransactionalProducer.commit, random.Random(7)

    def doubtful(self: TransactionalProducer, *arguments: Any) -> None:
        case = dice.randrange(3)
        if case == 1:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        commit(self, *arguments)
        if case == 2:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    monkeypatch.setattr(TransactionalProducer, "commit", doubtful)
    with profiling(deployment):
        for step in range(8):
            publish(deployment, [each for person in (1, 2) for each in life(person, 12, 12 * step)])
            wait_found(deployment)


def test_a_lost_working_copy_comes_back_from_the_changelog(deployment: Deployment) -> None:
    publish(deployment, life(3, 70))
    with profiling(deployment):
        before = wait_found(deployment)
    still_open = {each["id"] for each in before} - {e["id"] for e in before if e["status"] == "CLEARED"}
    shutil.rmtree(deployment.settings.data_dir / "state" / "profile")
    publish(deployment, life(3, 70, 70))
    with profiling(deployment):
        after = wait_found(deployment)
    gone_on = [each["id"] for each in after if each not in before]
    assert still_open & set(gone_on), "findings from before the loss go on under their ids"


def test_persons_move_between_workers_with_their_profiles(deployment: Deployment) -> None:
    persons = range(6)
    partitions = {partition_of(life(p, 1)[0].subject.encode(), 2) for p in persons}
    assert partitions == {0, 1}
    with profiling(deployment) as first:
        publish(deployment, [each for person in persons for each in life(person, 20)])
        wait_found(deployment)
        with profiling(deployment, 1) as second:
            # Two of the decisions and that of the prints.
            wait_for(
                lambda: sorted(_partitions(each) for each in (first, second)) == [1, 2],
                "each has a partition",
            )
            publish(deployment, [each for person in persons for each in life(person, 20, 20)])
            wait_found(deployment)
    with profiling(deployment, 1):
        publish(deployment, [each for person in persons for each in life(person, 20, 40)])
        wait_found(deployment)


def test_kill_9_at_any_moment_loses_and_repeats_nothing(deployment: Deployment) -> None:
    """Killed at random moments under load; what stands in the topic is what follows from the decisions."""
    settings, dice = deployment.settings, random.Random(13)
    environment = {
        **os.environ, "ATTESTREAM_BOOTSTRAP_SERVERS": settings.bootstrap(), "ATTESTREAM_BATCH_RECORDS": "5",
        "ATTESTREAM_LOG_NAME": settings.log_name, "ATTESTREAM_PARTITIONS": "2",
        "ATTESTREAM_SESSION_TIMEOUT_S": "6",
    }  # fmt: skip

    def start() -> subprocess.Popen[bytes]:
        words = ["run", "profile", "--data-dir", str(settings.data_dir)]
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli.main", *words], env=environment, stderr=subprocess.DEVNULL
        )

    worker = start()
    try:
        for round_ in range(4):
            before = len(found(deployment))
            publish(deployment, [each for p in range(4) for each in life(p, 15, 15 * round_)])
            some_more = before + dice.randrange(1, max(2, len(expected(deployment)) - before))
            wait_for(lambda some_more=some_more: len(found(deployment)) >= some_more, "some are told")  # type: ignore[misc]
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            if round_ == 2:
                shutil.rmtree(settings.data_dir / "state" / "profile")
            worker = start()
        wait_found(deployment)
    finally:
        worker.kill()
        worker.wait()


def test_an_operator_lets_profile_go_on_where_its_group_has_forgotten(deployment: Deployment) -> None:
    settings = deployment.settings
    publish(deployment, life(1, 40))
    place = (DECISIONS, partition_of(b"did:example:person-1", settings.partitions))
    with profiling(deployment):
        wait_found(deployment)
        wait_for(lambda: setoffset.standing(settings, place).judged_to == 40, "all are judged")
    client = kafka_clients.admin(settings)
    group = ConsumerGroupTopicPartitions(f"{settings.log_name}.profile", [TopicPartition(*place)])

    def forgotten() -> bool:
        try:
            client.delete_consumer_groups([group.group_id])[group.group_id].result(10)
        except KafkaException:
            return False  # until the worker's session is over
        return True

    wait_for(forgotten, "the group is gone")
    with profiling(deployment) as health:
        text = f"stop profile, then `attestream topics set-offset {place[0]} {place[1]}`"
        wait_for(lambda: text in health.path.read_text(), "the way out is named")
    standing = setoffset.standing(settings, place)
    assert (standing.committed, standing.judged_to, standing.next_offset) == (None, 40, 40)
    setoffset.set_offset(settings, place, standing.next_offset)
    publish(deployment, life(1, 40, 40))
    with profiling(deployment):
        wait_found(deployment)


def test_the_changelog_holds_one_small_record_a_person_and_batch(deployment: Deployment) -> None:
    publish(deployment, [each for person in range(3) for each in life(person, 50)])
    with profiling(deployment):
        wait_found(deployment)
    records = deployment.read(changelog_of(DECISIONS))
    assert len({record.key for record in records}) == 3
    assert all(len(record.key or b"") == 32 and len(record.value or b"") < 8000 for record in records)
