"""The supervisor: restarts what dies, tells what is unwell, and leaves nobody behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.local import child as child_module
from pipeline.local.child import Child, backoff_s
from pipeline.local.files import read_json, write_json
from pipeline.local.leash import Leash
from pipeline.local.process import TETHER, ProcessId
from pipeline.local.spec import ProcessSpec, Verdict, health_file

HERE = Path(__file__).parent
Reap = Callable[[int], ProcessId]
Eventually = Callable[..., None]


class Dummy:
    """A supervisor over dummy processes, in a process of its own."""

    def __init__(self, run_dir: Path, *groups: str) -> None:
        self.run_dir = run_dir
        command = [sys.executable, str(HERE / "dummy_supervisor.py"), str(run_dir), *groups]
        self.process = subprocess.Popen(command)

    def report(self) -> dict[str, Any]:
        return read_json(self.run_dir / "supervisor.json")

    def row(self, name: str) -> dict[str, Any]:
        rows = self.report().get("processes", [])
        return next(
            (row for row in rows if row["name"] == name), {"pid": None, "ready": False, "restarts": 0}
        )

    def ready(self) -> bool:
        return self.report().get("phase") == "ready"

    def pids(self) -> list[int]:
        return [row["pid"] for row in self.report()["processes"] if row["pid"]]


@contextmanager
def dummy(run_dir: Path, *groups: str) -> Iterator[Dummy]:
    supervisor = Dummy(run_dir, *groups)
    try:
        yield supervisor
    finally:
        supervisor.process.kill()
        supervisor.process.wait()


def test_a_killed_child_is_restarted(tmp_path: Path, reap: Reap, eventually: Eventually) -> None:
    with dummy(tmp_path, "a=good,b=plain") as supervisor:
        eventually(supervisor.ready)
        for name in ("a", "b"):
            killed = reap(supervisor.row(name)["pid"])
            os.kill(killed.pid, signal.SIGKILL)
            eventually(
                lambda name=name: supervisor.row(name)["restarts"] == 1 and supervisor.row(name)["ready"]
            )
            assert supervisor.row(name)["pid"] != killed.pid
            reap(supervisor.row(name)["pid"])


def test_what_is_started_early_is_told_of_when_it_is_waited_for(
    tmp_path: Path, eventually: Eventually
) -> None:
    with dummy(tmp_path, "early=good+", "slow=frozen", "late=good") as supervisor:
        eventually((tmp_path / "early.health.json").exists)
        eventually(lambda: supervisor.row("slow")["pid"])
        assert supervisor.row("early")["pid"] is None
        assert not supervisor.ready()
    with dummy(tmp_path, "early=good+", "late=good") as supervisor:
        eventually(supervisor.ready)
        assert supervisor.row("early")["ready"]


@pytest.mark.parametrize("kinds", ["a=good,b=plain,c=stubborn"])
def test_kill_9_of_the_supervisor_leaves_no_child(
    tmp_path: Path, reap: Reap, eventually: Eventually, kinds: str
) -> None:
    with dummy(tmp_path, kinds) as supervisor:
        eventually(supervisor.ready)
        children = [reap(pid) for pid in supervisor.pids()]
        assert len(children) == 3
        supervisor.process.kill()
        supervisor.process.wait()
        eventually(lambda: not any(process.alive() for process in children))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interrupt_stops_in_reverse_order(
    tmp_path: Path, reap: Reap, eventually: Eventually, signum: signal.Signals
) -> None:
    with dummy(tmp_path, "first=good", "second=good", "third=plain,fourth=good") as supervisor:
        eventually(supervisor.ready)
        children = [reap(pid) for pid in supervisor.pids()]
        supervisor.process.send_signal(signum)
        assert supervisor.process.wait(30) == 0
        assert not any(process.alive() for process in children)
        assert (tmp_path / "order.txt").read_text().split() == ["fourth", "second", "first"]
        assert supervisor.report()["phase"] == "stopped"


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path, reap: Reap, eventually: Eventually) -> None:
    with dummy(tmp_path, "a=stubborn") as supervisor:
        eventually(supervisor.ready)
        child = reap(supervisor.pids()[0])
        supervisor.process.terminate()
        assert supervisor.process.wait(30) == 0
        assert not child.alive()


def test_an_interrupt_while_starting_leaves_no_child(
    tmp_path: Path, reap: Reap, eventually: Eventually
) -> None:
    with dummy(tmp_path, "a=good", "b=frozen") as supervisor:
        eventually(lambda: supervisor.row("b")["pid"])
        children = [reap(pid) for pid in supervisor.pids()]
        supervisor.process.terminate()
        assert supervisor.process.wait(30) == 0
        assert not any(process.alive() for process in children)


def test_a_frozen_child_is_shown_with_the_reason(tmp_path: Path, eventually: Eventually) -> None:
    with dummy(tmp_path, "a=frozen") as supervisor:
        eventually(lambda: "stands still for 6" in supervisor.row("a").get("why", ""))
        assert not supervisor.ready()


def test_a_child_that_cannot_start_fails_the_stack(tmp_path: Path, reap: Reap) -> None:
    with dummy(tmp_path, "a=good", "b=broken") as supervisor:
        assert supervisor.process.wait(60) == 1
        report = supervisor.report()
        assert report["phase"] == "failed"
        for part in ("b ended 3 times", "exit code 7", "b.log", "the flux capacitor is missing"):
            assert part in report["message"]
        assert not supervisor.pids()


def test_backoff_doubles_up_to_a_bound() -> None:
    assert [backoff_s(failures) for failures in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 4.0]
    assert backoff_s(1000) == child_module.BACKOFF_MOST_S


def test_backoff_starts_anew_after_a_healthy_while(tmp_path: Path, eventually: Eventually) -> None:
    leash = Leash()
    spec = ProcessSpec(
        "a",
        lambda _failures: ["/bin/sleep", "600"],
        lambda _pid: Verdict(ready=True, well=True, state="running"),
    )
    child = Child(spec, tmp_path / "a.log", leash)

    def kill_at(now_s: float) -> None:
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        eventually(child.has_ended)
        child.tick(now_s)

    try:
        child.tick(0.0)
        child.tick(0.0)
        kill_at(1.0)
        child.tick(1.4)
        assert child.has_ended()
        child.tick(1.5)
        assert not child.has_ended()
        child.tick(1.5)
        kill_at(2.0)
        assert child.failures == 2
        child.tick(3.0)
        child.tick(3.0)
        kill_at(3.0 + child_module.HEALTHY_AGAIN_S)
        assert child.failures == 1
    finally:
        child.finish(0)
        leash.release()


def test_a_child_that_cannot_be_spawned_is_tried_again(tmp_path: Path) -> None:
    leash = Leash()

    def no_processes(_failures: int) -> list[str]:
        raise OSError(11, "Resource temporarily unavailable")

    child = Child(
        ProcessSpec("a", no_processes, lambda _pid: Verdict(ready=True, well=True, state="running")),
        tmp_path,
        leash,
    )
    child.tick(0.0)
    assert child.failures == 1
    assert "temporarily unavailable" in child.report()["why"]
    child.tick(0.4)
    assert child.failures == 1
    child.tick(0.5)
    assert child.failures == 2
    leash.release()


def test_a_helper_is_not_restarted(tmp_path: Path, eventually: Eventually) -> None:
    leash = Leash()
    spec = ProcessSpec(
        "a",
        lambda _failures: ["/bin/true"],
        lambda _pid: Verdict(ready=True, well=True, state="working"),
        restart=False,
    )
    child = Child(spec, tmp_path / "a.log", leash)
    try:
        child.tick(0.0)
        eventually(child.has_ended)
        for now_s in (1.0, 100.0):
            child.tick(now_s)
        assert child.done
        assert child.report()["state"] == "done"
        assert child.restarts == 0
    finally:
        child.finish(0)
        leash.release()


def test_health_of_an_earlier_process_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "x.health.json"
    look = health_file(path)
    assert not look(1).ready
    write_json(path, {"pid": 1, "state": "running", "beat_s": time.time(), "detail": ""})
    assert look(1).ready
    assert not look(2).ready
    write_json(path, {"pid": 1, "state": "restoring", "beat_s": time.time(), "detail": "12 of 70 records"})
    assert look(1) == Verdict(
        ready=False, well=True, state="restoring", why="12 of 70 records", beat_s=read_json(path)["beat_s"]
    )
    for damaged in ("", "{}", "[1]", '{"pid": 1}', "null"):
        path.write_text(damaged)
        assert look(1).state == "unknown"


def test_the_guard_ends_its_program_with_its_parent(
    tmp_path: Path, reap: Reap, eventually: Eventually
) -> None:
    """The way without parent-death signals, tried on any system."""
    pid_file = tmp_path / "pid"
    program = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    parent = (
        "import os, subprocess, sys, time;"
        "subprocess.Popen([sys.executable, sys.argv[1], 'guard', str(os.getpid()), '0', *sys.argv[2:]]);"
        "time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent, str(TETHER), sys.executable, "-c", program])
    try:
        eventually(lambda: pid_file.exists() and pid_file.read_text())
        child = reap(int(pid_file.read_text()))
        assert child.alive()
    finally:
        process.kill()
        process.wait()
    eventually(lambda: not child.alive())


def test_a_reused_pid_is_another_process(reap: Reap) -> None:
    process = subprocess.Popen(["/bin/sleep", "600"])
    known = reap(process.pid)
    stranger = ProcessId(known.pid, known.started_s - 100)
    assert ProcessId.from_json(known.to_json()) == known
    assert not stranger.alive()
    stranger.end(1)
    assert known.alive()
    process.kill()
    process.wait()
    assert not known.alive()
