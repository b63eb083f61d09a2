"""The same noise on a real Kafka: prints of ingest meet in profile, each finding once whatever is lost."""

import random
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from prometheus_client import REGISTRY

from pipeline import profile, setoffset
from pipeline.stage import Health
from pipeline.topics import EVENTS, FINDINGS, PRINTS, TELEMETRY_RAW, changelog_of
from pipeline.transaction import TransactionalProducer
from processors.samenoise import NoiseMemory, SameNoise
from schemas.noise import NoiseBlock, decode_noise, encode_noise
from schemas.partition import partition_of
from schemas.records import decode_finding
from tests.kit.deployment import Deployment, Device, in_thread, make_deployment, wait_for
from tests.kit.noisy import CONFIG, HR, RAW, RESP, blocks, events, noise, reported

pytestmark = pytest.mark.timeout(180)
ROWS = 400
APART_US = 15_000_000


@pytest.fixture
def deployment(kafka: str, tmp_path: Path) -> Iterator[Deployment]:
    made = make_deployment(kafka, tmp_path, session_timeout_s=6.0)
    yield made
    made.authority.close()


@contextmanager
def profiling(deployment: Deployment) -> Iterator[Health]:
    with in_thread(profile.work, deployment.settings, "profile") as health:
        yield health


def send(deployment: Deployment, devices: Sequence[Device], values: Sequence[Sequence[list[float]]]) -> None:
    """Each device's readings in step; by the devices' clocks they are spread over the last hours."""
    begin_us = time.time_ns() // 1000 - ROWS * APART_US
    for row in range(ROWS):
        for device, readings in zip(devices, values, strict=True):
            key = device.did.encode()
            value = device.telemetry(
                codes=[HR, RESP], values=[each[row] for each in readings], time=begin_us + row * APART_US
            )
            deployment.producer.produce(
                TELEMETRY_RAW, key=key, value=value,
                partition=partition_of(key, deployment.settings.partitions),
            )  # fmt: skip
        deployment.producer.poll(0)
    deployment.producer.flush(30)


def told(rows: int = 2 * ROWS) -> list[NoiseBlock]:
    """Prints of three devices of one source and of two that have nothing to do with it."""
    shared, made = noise(1, rows), []
    for number in range(3):
        made += blocks(events(f"did:example:copy-{number}", reported(60.0 + 9 * number, shared)))
    for number in range(2):
        made += blocks(events(f"did:example:own-{number}", reported(70.0, noise(50 + number, rows))))
    return sorted(made, key=lambda each: (each.time_us, each.device_id))


def publish(deployment: Deployment, made: Sequence[NoiseBlock]) -> None:
    for first in range(0, len(made), 5):
        deployment.publish(PRINTS, b"raw/0", encode_noise(RAW, 0, made[first : first + 5]), 0)


def found(deployment: Deployment) -> list[dict[str, Any]]:
    """Findings about noise as they stand in the topic, without salts; each beside those of its device."""
    mine = []
    for record in deployment.read(FINDINGS):
        each = decode_finding(record.value or b"")
        if each["rule"] == "same_noise":
            assert record.key == each["device_id"].encode()
            assert record.partition == partition_of(
                each["device_id"].encode(), deployment.settings.partitions
            )
            mine.append({**each, "salt": b""})
    return sorted(mine, key=_order)


def expected(deployment: Deployment) -> list[dict[str, Any]]:
    """What follows from the topic of prints alone, read from its start."""
    noticed = SameNoise(CONFIG).process(deployment.read(PRINTS), NoiseMemory())
    return sorted(
        ({**decode_finding(each.encode(bytes(16))), "salt": b""} for each in noticed.findings), key=_order
    )


def _order(finding: dict[str, Any]) -> tuple[bytes, int]:
    return finding["id"], int(finding["parameters"]["meetings"])


def wait_found(deployment: Deployment) -> list[dict[str, Any]]:
    """Wait until every finding that follows from the prints is there; none may come twice."""
    wanted = expected(deployment)
    wait_for(lambda: len(found(deployment)) >= len(wanted), f"{len(wanted)} findings")
    there = found(deployment)
    assert there == wanted
    return there


def test_two_devices_of_one_source_are_found_from_their_signed_readings(deployment: Deployment) -> None:
    """The whole way: signatures, ingest's prints, the meeting, and the raw records that are cited."""
    one, two, other = (deployment.enroll(kind="monitor") for _ in range(3))
    heart, breath = noise(1, ROWS), noise(2, ROWS)
    with deployment.ingesting(), profiling(deployment):
        send(
            deployment,
            (one, two, other),
            [
                (reported(70.0, heart), reported(16.0, breath)),
                (reported(96.0, heart), reported(24.0, breath)),
                (reported(80.0, noise(3, ROWS)), reported(20.0, noise(4, ROWS))),
            ],
        )
        wait_for(lambda: len(deployment.read(EVENTS)) == 3 * ROWS, "all are judged")
        opened = wait_found(deployment)[0]
    assert (opened["status"], opened["severity"]) == ("OPENED", "HIGH")
    assert {opened["device_id"], opened["parameters"]["other"]} == {one.did, two.did}
    raw = {(record.partition, record.offset): record.key for record in deployment.read(TELEMETRY_RAW)}
    cited = {raw[each["partition"], each["offset"]] for each in opened["evidence"]}
    assert cited == {one.did.encode(), two.did.encode()}
    assert {each["topic"] for each in opened["evidence"]} == {TELEMETRY_RAW}
    for record in deployment.read(PRINTS):
        batch = decode_noise(record.value or b"")
        assert record.key == f"{batch.topic}/{batch.partition}".encode()
        assert {raw[batch.partition, each.offset] for each in batch.blocks} <= {
            each.device_id.encode() for each in batch.blocks
        }


def test_a_deployment_that_does_not_look_makes_no_prints(kafka: str, tmp_path: Path) -> None:
    made = make_deployment(kafka, tmp_path, same_noise=False)
    device = made.enroll(kind="monitor")
    with made.ingesting():
        send(made, [device], [(reported(70.0, noise(1, ROWS)), reported(16.0, noise(2, ROWS)))])
        wait_for(lambda: len(made.read(EVENTS)) == ROWS, "all are judged")
    assert not made.read(PRINTS)
    made.authority.close()


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
    made = told()
    with profiling(deployment):
        for first in range(0, len(made), 40):
            publish(deployment, made[first : first + 40])
            wait_found(deployment)
    assert {each["status"] for each in found(deployment)} == {"OPENED", "UPDATED"}


def test_a_lost_working_copy_comes_back_from_changelog_and_topic(deployment: Deployment) -> None:
    made = told()
    cut = len(made) // 3
    publish(deployment, made[:cut])
    with profiling(deployment):
        wait_for(
            lambda: setoffset.standing(deployment.settings, (PRINTS, 0)).judged_to == _end(deployment), ""
        )
        before = wait_found(deployment)
    shutil.rmtree(deployment.settings.data_dir / "state" / "profile")
    publish(deployment, made[cut:])
    with profiling(deployment):
        after = wait_found(deployment)
    assert len(after) > len(before)
    keys = {record.key for record in deployment.read(changelog_of(PRINTS))}
    assert b"head" in keys
    assert len(keys) <= 4, "three pairs at most"


def test_a_broken_record_costs_itself_only(deployment: Deployment) -> None:
    def unreadable() -> float:
        return REGISTRY.get_sample_value("attestream_noise_unreadable_total") or 0.0

    before, made = unreadable(), told()
    with profiling(deployment):
        publish(deployment, made[: len(made) // 2])
        deployment.publish(PRINTS, b"raw/0", b"no prints", 0)
        deployment.publish(PRINTS, None, None, 0)
        publish(deployment, made[len(made) // 2 :])
        assert wait_found(deployment)
        wait_for(lambda: unreadable() == before + 2, "what is not ours is counted")


def _end(deployment: Deployment) -> int:
    return deployment.read(PRINTS)[-1].offset + 1
