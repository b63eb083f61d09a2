"""The local stack as its users meet it: `up`, `status`, `down`, and as a context manager."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.kafka import admin
from pipeline.local.errors import StackBusyError, StackFailedError
from pipeline.local.files import free_port, read_json
from pipeline.local.process import ProcessId
from pipeline.local.stack import LocalStack, settings_environment
from pipeline.local.status import StackStatus, read_status
from pipeline.settings import Settings
from tests.kit.deployment import recreate_topics

Reap = Callable[[int], ProcessId]
Eventually = Callable[..., None]


def attestream(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, **environment},
    )


def everyone(status: StackStatus, reap: Reap) -> list[ProcessId]:
    """Identities of the supervisor and its children, the training of the AOT cache left aside."""
    pids = [row.pid for row in status.processes if row.pid and row.name != "kafka-aot"]
    return [reap(pid) for pid in (status.supervisor_pid, *pids) if pid]


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "data"
    yield path
    attestream("down", "--data-dir", str(path))


def test_up_status_down_up(data_dir: Path, reap: Reap) -> None:
    where = ("--data-dir", str(data_dir))
    assert attestream("status", *where).returncode == 3
    assert "nothing was up" in attestream("down", *where).stdout
    up = attestream("up", *where, "--only", "ingest")
    assert up.returncode == 0, up.stderr
    first = read_status(data_dir)
    assert first.bootstrap_servers in up.stdout
    assert [first.process(name).ready for name in ("kafka", "ledger", "ingest")] == [True] * 3
    assert oct((data_dir / "keys").stat().st_mode & 0o777) == "0o700"
    assert oct(data_dir.stat().st_mode & 0o777) == "0o700"

    shown: dict[str, Any] = json.loads(attestream("status", "--json", *where).stdout)
    assert shown["phase"] == "ready"
    table = attestream("status", *where, COLUMNS="200")
    assert table.returncode == 0
    assert re.search(r"kafka\W+\d+\W+running", table.stdout)
    assert "already up" in attestream("up", *where).stdout

    running = everyone(first, reap)
    assert attestream("down", *where).stdout == "down\n"
    assert not any(process.alive() for process in running)
    assert not (data_dir / "stack.json").exists()

    assert attestream("up", *where, "--only", "ingest").returncode == 0
    assert read_status(data_dir).bootstrap_servers == first.bootstrap_servers


def test_a_killed_broker_comes_back_on_its_port(data_dir: Path, reap: Reap, eventually: Eventually) -> None:
    with LocalStack(Settings(data_dir=data_dir), stages=()) as stack:
        before = stack.status()
        killed = reap(before.process("kafka").pid or 0)
        os.kill(killed.pid, signal.SIGKILL)
        eventually(lambda: stack.status().process("kafka").restarts == 1 and stack.status().healthy)
        assert stack.status().bootstrap_servers == before.bootstrap_servers
        with pytest.raises(StackBusyError):
            LocalStack(Settings(data_dir=data_dir), stages=()).start()
        running = everyone(stack.status(), reap)
    assert not any(process.alive() for process in running)


def test_two_stacks_live_side_by_side(tmp_path: Path) -> None:
    with contextlib.ExitStack() as both:
        one, two = (
            both.enter_context(LocalStack(Settings(data_dir=tmp_path / name), stages=()))
            for name in ("one", "two")
        )
        assert one.status().healthy
        assert two.status().healthy
        assert one.status().bootstrap_servers != two.status().bootstrap_servers
        ledgers = [read_json(stack.data_dir / "stack.json")["ledger"] for stack in (one, two)]
        assert len({port for ledger in ledgers for port in ledger.values()}) == 4


def test_a_killed_owner_takes_its_stack_along(data_dir: Path, reap: Reap, eventually: Eventually) -> None:
    code = (
        "import sys, time, pathlib\n"
        "from pipeline.local.stack import LocalStack\n"
        "from pipeline.settings import Settings\n"
        "with LocalStack(Settings(data_dir=pathlib.Path(sys.argv[1])), stages=()):\n"
        "    time.sleep(600)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code, str(data_dir)])
    try:
        eventually(lambda: read_status(data_dir).healthy, deadline_s=120)
        running = everyone(read_status(data_dir), reap)
        assert len(running) == 3
    finally:
        owner.kill()
        owner.wait()
    eventually(lambda: not any(process.alive() for process in running))
    assert read_status(data_dir).phase == "down"


def test_a_killed_supervisor_is_followed_by_a_clean_start(
    data_dir: Path, reap: Reap, eventually: Eventually
) -> None:
    where = ("--data-dir", str(data_dir))
    assert attestream("up", *where, "--only", "ingest").returncode == 0
    running = everyone(read_status(data_dir), reap)
    os.kill(running[0].pid, signal.SIGKILL)
    eventually(lambda: not any(process.alive() for process in running))
    again = attestream("up", *where, "--only", "ingest")
    assert again.returncode == 0, again.stderr


def test_an_existing_kafka_is_used(kafka: str, data_dir: Path) -> None:
    settings = Settings(data_dir=data_dir, bootstrap_servers=kafka)
    recreate_topics(admin(settings), settings)  # the session's broker has those of whichever test came before
    with LocalStack(settings, stages=()) as stack:
        status = stack.status()
        assert status.bootstrap_servers == kafka
        assert [row.name for row in status.processes] == ["ledger"]


def test_an_unreachable_kafka_is_named(data_dir: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    done = attestream("up", "--data-dir", str(data_dir), "--bootstrap-servers", address)
    assert done.returncode == 1
    assert f"Kafka at {address} cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
    assert read_status(data_dir).phase == "down"


def test_a_taken_port_is_named(kafka: str, data_dir: Path) -> None:
    taken = int(kafka.rpartition(":")[2])
    stack = LocalStack(Settings(data_dir=data_dir), kafka_port=taken, stages=())
    with pytest.raises(StackFailedError, match=f"port {taken} of 127.0.0.1 is taken"):
        stack.start()
    assert stack.status().phase == "down"


def test_an_unknown_stage_is_a_usage_error(data_dir: Path) -> None:
    done = attestream("up", "--data-dir", str(data_dir), "--only", "ingests")
    assert done.returncode == 2
    assert done.stderr.startswith("attestream: --only ingests: there are ingest, profile, seal, anchor,")


def test_settings_reach_the_children_by_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Settings(
        data_dir=tmp_path, log_name="ward.example", anchor_interval_s=2, kafka={"client.id": "x"}
    )
    for name, value in settings_environment(given).items():
        monkeypatch.setenv(name, value)
    assert Settings() == given
