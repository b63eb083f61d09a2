"""SIGTERM to every stage: it commits what it has and is gone in time, whatever Kafka does meanwhile."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException

from pipeline import kafka
from pipeline.authority import Authority
from pipeline.cli.run import STAGES
from pipeline.local.stack import LocalStack
from pipeline.local.status import read_status
from pipeline.settings import Settings
from tests.kit.deployment import Deployment, Device, wait_for
from tests.kit.load import under_load
from tests.kit.receivers import free_port
from tests.kit.subscribed import party, subscribe

pytestmark = pytest.mark.timeout(300)
DEADLINE_S = 15.0
"""Ten seconds are promised; a machine that runs other tests beside is given half as much again."""
DEVICES, EVENTS_AT_ONCE, LOAD_PAUSE_S = 10, 20, 0.05


class Stages:
    """All stages of one data folder, each in a process of its own, without a supervisor."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ATTESTREAM_")},
            "ATTESTREAM_PARTITIONS": str(self.settings.partitions),
            "ATTESTREAM_ANCHOR_INTERVAL_S": str(self.settings.anchor_interval_s),
            "ATTESTREAM_SILENCE_AFTER_S": str(self.settings.silence_after_s),
        }
        for stage in STAGES:
            with self.log(stage).open("ab") as stderr:
                self.processes[stage] = subprocess.Popen(
                    [sys.executable, "-P", "-m", "pipeline.cli.main", "run", stage,
                     "--data-dir", str(self.settings.data_dir)],
                    env=environment, stderr=stderr,
                )  # fmt: skip

    def log(self, stage: str) -> Path:
        return self.settings.data_dir / f"{stage}.test.log"

    def health(self, stage: str) -> dict[str, object]:
        """The health file of this very process; empty before its first beat."""
        try:
            found: dict[str, object] = json.loads(
                (self.settings.data_dir / "run" / f"{stage}.health.json").read_text()
            )
        except FileNotFoundError:
            return {}
        return found if found["pid"] == self.processes[stage].pid else {}

    def wait_for(self, *states: str) -> None:
        def are_so() -> bool:
            for stage, process in self.processes.items():
                assert process.poll() is None, f"{stage} has ended:\n{self.log(stage).read_text()[-3000:]}"
            return all(self.health(stage).get("state") in states for stage in STAGES)

        wait_for(are_so, f"all stages are {' or '.join(states)}", 90)

    def drain(self) -> None:
        """SIGTERM to all at once; each must end by itself, well."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        until = time.monotonic() + DEADLINE_S
        for stage, process in self.processes.items():
            try:
                code = process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                text = self.log(stage).read_text()[-3000:]
                pytest.fail(f"{stage} is still there ({self.health(stage)}):\n{text}")
            assert code == 0, f"{stage} ended with {code}:\n{self.log(stage).read_text()[-3000:]}"

    def end(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A local Kafka and ledger of our own, to be paused and killed, and topics with work in them."""
    folder = tmp_path_factory.mktemp("drain")
    settings = Settings(data_dir=folder, partitions=2, anchor_interval_s=0.5, silence_after_s=3600)
    with LocalStack(settings, stages=()):
        made = Deployment(settings, Authority(settings))
        # Somebody to be told, or route and deliver have nothing to do.
        live = {"name": "live", "kind": "sse", "listen": f"127.0.0.1:{free_port()}"}
        subscribe(settings, 1, [party("soc", live)])
        yield made
        made.authority.close()


@pytest.fixture
def stages(deployment: Deployment) -> Iterator[Stages]:
    made = Stages(deployment.settings)
    with under_load(deployment, devices=DEVICES, batch=events_and_nonsense, pause_s=LOAD_PAUSE_S):
        yield made
        made.end()


def events_and_nonsense(device: Device) -> list[bytes]:
    """Events, and one record that is none."""
    return [*(device.telemetry() for _ in range(EVENTS_AT_ONCE)), b"nonsense"]


@contextlib.contextmanager
def kafka_paused(settings: Settings) -> Iterator[None]:
    pid = read_status(settings.data_dir).process("kafka").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
        wait_for_kafka(settings)


def wait_for_kafka(settings: Settings) -> None:
    """Until it answers: a pause may cost a broker its place in its cluster for a while, or its life."""

    def answers() -> bool:
        # A client of its own each time: one that asks while the cluster has no broker may lose all it knew.
        with contextlib.suppress(KafkaException):
            return bool(kafka.admin(settings).list_topics(timeout=1.0).brokers)
        return False

    try:
        wait_for(answers, "Kafka answers again", 90)
    except AssertionError:
        row = read_status(settings.data_dir).process("kafka")
        log = Path(row.log).read_text(encoding="utf-8")[-3000:]
        pytest.fail(f"Kafka does not answer after a pause: {row}\n{log}")


@contextlib.contextmanager
def kafka_gone(settings: Settings) -> Iterator[None]:
    """Killed, with a supervisor that cannot bring it back for as long."""
    status = read_status(settings.data_dir)
    supervisor, pid = status.supervisor_pid, status.process("kafka").pid
    assert supervisor is not None
    assert pid is not None
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    try:
        yield
    finally:
        os.kill(supervisor, signal.SIGCONT)
        wait_for(lambda: is_back(settings, pid), "Kafka is back")


def is_back(settings: Settings, old_pid: int) -> bool:
    row = read_status(settings.data_dir).process("kafka")
    return row.ready and row.pid != old_pid


ANY_STATE = ("starting", "restoring", "running")


def test_under_load(stages: Stages) -> None:
    stages.start()
    stages.wait_for("running")
    time.sleep(1.0)  # some work, not a wait for anything
    stages.drain()
    for stage in STAGES:
        assert stages.health(stage)["state"] == "stopped"


def test_while_starting_and_recovering(stages: Stages) -> None:
    stages.start()
    stages.wait_for(*ANY_STATE)
    stages.drain()


@pytest.mark.parametrize("seconds", [0.0, 3.0])
def test_while_kafka_is_paused(stages: Stages, seconds: float) -> None:
    """With transactions under way, fetches unanswered and records unacknowledged."""
    stages.start()
    stages.wait_for("running")
    with kafka_paused(stages.settings):
        time.sleep(seconds)
        stages.drain()


def test_while_kafka_is_gone(stages: Stages) -> None:
    stages.start()
    stages.wait_for("running")
    with kafka_gone(stages.settings):
        time.sleep(2.0)
        stages.drain()


def test_while_recovering_from_a_kafka_that_does_not_answer(stages: Stages) -> None:
    stages.start()
    with kafka_paused(stages.settings):
        stages.wait_for(*ANY_STATE)
        time.sleep(2.0)
        stages.drain()
