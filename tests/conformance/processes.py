"""Running other programs: to an answer, or as a server that is ended by its own process."""

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
ANSWER_TIMEOUT_S = 120.0


class ServerError(Exception):
    """A server did not come up; the message holds the end of what it said."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a program ended and what it said."""

    code: int
    output: str


def ask(command: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Answer:
    """Run a program to its end; one that takes too long is ended, with code -1."""
    try:
        done = subprocess.run(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=ANSWER_TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        said = (error.stdout or b"").decode(errors="replace")
        return Answer(-1, f"no answer in {ANSWER_TIMEOUT_S:.0f} s: {said}")
    return Answer(done.returncode, done.stdout.decode(errors="replace"))


@contextmanager
def running(
    command: Sequence[str], log: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program with its output in a file, ended when the block is left."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def listening_port(process: subprocess.Popen[bytes], log: Path) -> int:
    """The port that a server which was told to take any has taken."""
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise ServerError(f"{log.stem} has ended: {log.read_text(errors='replace')[-600:]}")
        for connection in psutil.Process(process.pid).net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                return int(connection.laddr.port)
        time.sleep(0.05)
    raise ServerError(f"{log.stem} does not listen: {log.read_text(errors='replace')[-600:]}")


def wait_for_file(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a program has made a file, such as a socket."""
    until = time.monotonic() + START_TIMEOUT_S
    while not path.exists():
        if process.poll() is not None or time.monotonic() > until:
            raise ServerError(f"{path} did not appear: {log.read_text(errors='replace')[-600:]}")
        time.sleep(0.02)
