"""Builds a program of Go where Go is, or says why not: what it was needed for is then not measured."""

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from loadtests.errors import LoadTestError

BUILD_S = 600.0
"""The first time its modules are fetched and compiled: a minute on two cores."""
MAX_SAID = 400
FIXED = ("-mod=readonly", "-trimpath", "-buildvcs=false")
"""Nothing but the pinned modules, and neither a path nor a commit of this place in it."""


class NotBuiltError(LoadTestError):
    """A program cannot be built here."""


def build(source: Path, program: Path) -> None:
    """Build the folder `source` into the file `program`; raises NotBuiltError with the reason.

    Go keeps what it compiled, so a second time takes a moment.
    """
    go = shutil.which("go")
    if go is None:
        raise NotBuiltError("go is not on the PATH")
    command = [go, "build", *FIXED, "-o", str(program.resolve()), "."]
    try:
        program.parent.mkdir(parents=True, exist_ok=True)
        code, said = _run(command, source)
    except subprocess.TimeoutExpired as error:
        raise NotBuiltError(f"go build was not done within {BUILD_S:.0f} s") from error
    except OSError as error:
        raise NotBuiltError(f"go build cannot be run: {error.strerror}") from error
    if code:
        last = said.strip().rpartition("\n")[2].strip()
        raise NotBuiltError(f"go build has failed: {last[:MAX_SAID] or f'exit code {code}'}")


def _run(command: list[str], folder: Path) -> tuple[int, str]:
    """Run it and all that it starts in a process group of its own, which does not outlive an interruption."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=BUILD_S)
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return process.returncode, said
