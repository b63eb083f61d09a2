"""The leash: a pipe whose closing tells a child that its owner is gone.

The owner keeps the write end; a child inherits the read end as the descriptor named in
`ATTESTREAM_LEASH_FD`. When the owner ends, however it ends, the kernel closes the write end, and the
child reads the end of the file. It works on every system and lets a child leave in good order.
"""

import contextlib
import os
import threading
from collections.abc import Callable

LEASH_FD = "ATTESTREAM_LEASH_FD"


class Leash:
    """The owner's side: one pipe for all children, released by `release` or by our death."""

    def __init__(self) -> None:
        self.read_fd, self._write_fd = os.pipe()  # neither is inheritable unless passed on by name

    def environment(self) -> dict[str, str]:
        """What a child must find in its environment, beside the descriptor `read_fd` itself."""
        return {LEASH_FD: str(self.read_fd)}

    def release(self) -> None:
        """Let every child go; safe to call twice."""
        for descriptor in (self._write_fd, self.read_fd):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._write_fd = self.read_fd = -1


def hold_leash(on_release: Callable[[], None]) -> None:
    """The child's side: call `on_release` once, from a daemon thread, when the owner is gone.

    Does nothing in a process that was not started on a leash.
    """
    value = os.environ.pop(LEASH_FD, None)  # our own children get a leash of ours, not this one
    if value is None:
        return
    descriptor = int(value)
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - a positional-only interface

    def wait_for_release() -> None:
        with contextlib.suppress(OSError):
            while os.read(descriptor, 1):
                pass
        on_release()

    threading.Thread(target=wait_for_release, name="leash", daemon=True).start()
