"""A program of Go is built, or there is a reason in one line; nothing that was started goes on."""

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from loadtests import goprogram
from loadtests.goprogram import NotBuiltError, build
from tests.kit.deployment import wait_for


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file to be filled, found as `go` before any other."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder / "go"


def write(go: Path, script: str) -> None:
    go.write_text(f"#!/bin/sh\n{script}\n")
    go.chmod(0o755)


def test_without_go_that_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotBuiltError, match=r"^go is not on the PATH$"):
        build(tmp_path, tmp_path / "out" / "program")


def test_it_is_built_where_its_source_is(go: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(go, 'while [ "$1" != "-o" ]; do shift; done; pwd > "$2"')
    source = tmp_path / "source"
    source.mkdir()
    monkeypatch.chdir(tmp_path)
    build(source, Path("out", "program"))
    assert (tmp_path / "out" / "program").read_text().strip() == str(source)


def test_what_go_says_last_is_the_reason(go: Path, tmp_path: Path) -> None:
    write(go, "echo first; echo second; echo '  no route to the proxy' >&2; exit 1")
    with pytest.raises(NotBuiltError, match=r"^go build has failed: no route to the proxy$"):
        build(tmp_path, tmp_path / "program")
    write(go, "exit 3")
    with pytest.raises(NotBuiltError, match="exit code 3"):
        build(tmp_path, tmp_path / "program")


def test_a_go_that_cannot_be_run_is_a_reason_too(go: Path, tmp_path: Path) -> None:
    go.write_bytes(b"\x7fELF and nothing more")
    go.chmod(0o755)
    with pytest.raises(NotBuiltError, match="go build cannot be run"):
        build(tmp_path, tmp_path / "program")


def test_a_build_that_hangs_is_ended_with_all_that_it_started(
    go: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "started"
    write(go, f"sleep 600 & echo $! > {shlex.quote(str(started))}; wait")
    monkeypatch.setattr(goprogram, "BUILD_S", 2.0)
    with pytest.raises(NotBuiltError, match="not done within"):
        build(tmp_path, tmp_path / "program")
    wait_for(lambda: is_gone(int(started.read_text())), "what go had started is gone")


def test_an_interrupted_build_is_ended_with_all_that_it_started(
    go: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "started"
    write(go, f"sleep 600 & echo $! > {shlex.quote(str(started))}; wait")

    class Interrupted(subprocess.Popen[str]):
        def communicate(self, *given: Any, **named: Any) -> tuple[str, str]:
            if "timeout" in named:
                wait_for(lambda: started.exists() and started.read_text().endswith("\n"), "go has started it")
                raise KeyboardInterrupt
            return super().communicate(*given, **named)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, tmp_path / "program")
    wait_for(lambda: is_gone(int(started.read_text())), "what go had started is gone")


def is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
