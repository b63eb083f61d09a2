"""Becomes another program that ends when its parent ends: the exec wrapper of every child process.

Run as a script, with the standard library only, by an isolated interpreter:

    python -I -S tether.py MODE PARENT_PID NICENESS PROGRAM [ARGUMENT...]

`exec` (Linux) asks the kernel for SIGKILL at the parent's death and then *is* the program: same pid,
no process in between. SIGKILL, because everything we run survives it by design, while a program that
hangs in an orderly shutdown would stay as an orphan. The kernel counts the spawning *thread* as the
parent: spawn from a thread that lives as long as the child should.

`guard` (systems without parent-death signals) stays in between, passes signals on, and kills the
program when its own parent has changed.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import NoReturn

PR_SET_PDEATHSIG = 1
ORPHANED = 125
GUARD_INTERVAL_S = 0.1


def become(parent_pid: int, argv: list[str]) -> NoReturn:
    """Tie this process to its parent by the kernel, then turn into `argv`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused")
    if os.getppid() != parent_pid:  # it died before the request was in place
        sys.exit(ORPHANED)
    os.execv(argv[0], argv)  # noqa: S606 - a shell is what we do without


def guard(parent_pid: int, argv: list[str]) -> int:
    """Run `argv` as a child, end it when our parent is gone; return its exit code."""
    child = subprocess.Popen(argv, close_fds=False)

    def pass_on(signum: int, _frame: FrameType | None) -> None:
        child.send_signal(signum)

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, pass_on)
    while (code := child.poll()) is None:
        if os.getppid() != parent_pid:
            child.kill()
            child.wait()
            return ORPHANED
        time.sleep(GUARD_INTERVAL_S)
    return code if code >= 0 else 128 - code


def main(arguments: list[str]) -> int:
    """Entry point of the script."""
    mode, parent_pid, niceness, *argv = arguments
    os.nice(int(niceness))
    if mode == "exec":
        become(int(parent_pid), argv)
    return guard(int(parent_pid), argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
