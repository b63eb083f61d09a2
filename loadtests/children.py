"""Processes that measure: each takes a job on standard input and says on standard output how far it is."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from loadtests.errors import LoadTestError

READY_S = 120.0
END_S = 90.0

OnLine = Callable[[Mapping[str, Any]], None]


class ChildError(LoadTestError):
    """A process that measures has failed, so nothing was measured."""


class Child:
    """One such process, from `python -m NAME` or a command of its own to its last line."""

    def __init__(
        self,
        name: str,
        job: Mapping[str, Any],
        on_line: OnLine = lambda _line: None,
        environment: Mapping[str, str] | None = None,
        *,
        command: Sequence[str] = (),
    ) -> None:
        """`name` is a module of ours, unless there is a `command`; `environment` is added to our own."""
        self._name, self._on_line = name, on_line
        self._process = subprocess.Popen(
            command or [sys.executable, "-P", "-m", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self._first = threading.Event()
        self._errors: list[str] = []
        self.ready: Mapping[str, Any] = {}
        """Its first line."""
        self._threads = [
            threading.Thread(target=self._read_lines, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self.tell(json.dumps(job))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self._process.poll() is not None

    def tell(self, line: str) -> None:
        """Give it a line of input. Raises ChildError where it is gone."""
        try:
            assert self._process.stdin is not None  # noqa: S101 - it is a pipe
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._failed() from error

    def wait_ready(self) -> Mapping[str, Any]:
        """Wait for its first line and return it; raises ChildError."""
        if not self._first.wait(READY_S) or not self.ready:
            raise self._failed()
        return self.ready

    def check(self) -> None:
        """Raise ChildError where it has failed."""
        if self._process.poll() not in (None, 0):
            raise self._failed()

    def join(self, seconds: float) -> None:
        """Wait until it is over by itself. Raises ChildError."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise self._failed() from error
        self._threads[0].join(END_S)
        self.check()

    def end(self) -> None:
        """Close its input, which is how it hears that it is over, and wait. Raises ChildError."""
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        try:
            self._process.stdin.close()
            self._process.wait(END_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._failed() from error
        self._threads[0].join(END_S)
        self.check()

    def _failed(self) -> ChildError:
        if self._process.poll() is not None:
            self._threads[1].join(5)
        last = " ".join("".join(self._errors[-40:]).split("\n")[-2:]).strip()
        return ChildError(f"{self._name} has failed: {last or 'it does not answer'}")

    def _read_lines(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        for line in self._process.stdout:
            try:
                found = json.loads(line)
            except ValueError:
                self._errors.append(line)  # a library's word, perhaps its last
                continue
            if not self.ready:
                self.ready = found
                self._first.set()
            else:
                self._on_line(found)
        self._first.set()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 - it is a pipe
        for line in self._process.stderr:
            self._errors.append(line)
            del self._errors[:-100]
