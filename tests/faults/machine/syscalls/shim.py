"""The machine's hand on the system calls of other processes: builds shim.c and drives its control page."""

import ctypes
import errno
import hashlib
import mmap
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Self

SOURCE = Path(__file__).with_name("shim.c")
BUILD = Path(__file__).parents[4] / "build" / "faults"
PAGE_VARIABLE = "ATTESTREAM_SHIM"
FOREVER = 1 << 62


class Kind(IntEnum):
    """Calls that change what a disk holds, as shim.c numbers them."""

    CREATE = 0
    WRITE = 1
    FSYNC = 2
    FDATASYNC = 3
    SYNCFS = 4
    RENAME = 5
    UNLINK = 6
    RMDIR = 7
    MKDIR = 8
    TRUNCATE = 9
    ALLOCATE = 10
    LINK = 11


class Action(IntEnum):
    """What happens at a call."""

    PASS = 0
    KILL = 1
    """SIGKILL instead of the call."""
    FAIL = 2
    SHORT = 3
    """Half of the bytes are written, and the call says so."""
    TORN = 4
    """Half of the bytes are written, then SIGKILL; at other calls the same as KILL."""


ALL_KINDS = sum(1 << kind for kind in Kind)
SYNCS = 1 << Kind.FSYNC | 1 << Kind.FDATASYNC | 1 << Kind.SYNCFS
WRITES = 1 << Kind.WRITE
TAKES_ROOM = WRITES | 1 << Kind.CREATE | 1 << Kind.MKDIR | 1 << Kind.ALLOCATE


class ToolMissingError(Exception):
    """A program of the machine is not installed; the message says what to do."""


def find_tool(name: str) -> str:
    """Return the path of gcc or strace, or say how to get it."""
    found = shutil.which(name)
    if found is None:
        raise ToolMissingError(f"the storage faults need {name}: apt-get install {name}")
    return found


def build() -> Path:
    """Compile the shim, unless that was done."""
    name = f"shim-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}.so"
    target = BUILD / name
    if not target.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=BUILD, suffix=".so", delete=False) as made:
            command = [find_tool("gcc"), "-O2", "-shared", "-fPIC", "-o", made.name, str(SOURCE)]
            subprocess.run([*command, "-ldl", "-lpthread"], check=True)
            Path(made.name).replace(target)
    return target


class _Page(ctypes.Structure):
    _fields_ = (
        ("armed", ctypes.c_uint32),
        ("action", ctypes.c_uint32),
        ("error", ctypes.c_uint32),
        ("kinds", ctypes.c_uint32),
        ("first", ctypes.c_int64),
        ("last", ctypes.c_int64),
        ("passed", ctypes.c_int64),
        ("acted", ctypes.c_int64),
        ("counts", ctypes.c_int64 * 16),
        ("below", ctypes.c_char * 1024),
        ("except_", ctypes.c_char * 1024),
        ("trace", ctypes.c_char * 1024),
    )


class Shim:
    """A control page. Processes started with `environment` obey it, and so do their children."""

    def __init__(self, page: Path) -> None:
        page.write_bytes(bytes(ctypes.sizeof(_Page)))
        with page.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), ctypes.sizeof(_Page))
        self._page = _Page.from_buffer(self._map)
        self.environment = {"LD_PRELOAD": str(build()), PAGE_VARIABLE: str(page)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.disarm()

    def arm(
        self,
        below: Path,
        *,
        outside: Path | None = None,
        action: Action = Action.PASS,
        kinds: int = ALL_KINDS,
        first: int = 1,
        last: int | None = None,
        error: int = errno.EIO,
        trace: Path | None = None,
    ) -> None:
        """Act at the calls `first` to `last` (that one alone) of these kinds, counted from now on."""
        page = self._page
        page.armed = 0
        page.action, page.error, page.kinds = action, error, kinds
        page.first, page.last = first, first if last is None else last
        page.passed = page.acted = 0
        page.counts = (ctypes.c_int64 * 16)()
        page.below = os.fsencode(below)
        page.except_ = os.fsencode(outside) if outside else b""
        page.trace = os.fsencode(trace) if trace else b""
        page.armed = 1

    def disarm(self) -> None:
        """Let every call through, uncounted."""
        self._page.armed = 0

    @property
    def passed(self) -> int:
        """How many calls of the armed kinds came past."""
        return int(self._page.passed)

    @property
    def acted(self) -> int:
        """How many of them were acted upon."""
        return int(self._page.acted)

    @property
    def counts(self) -> dict[Kind, int]:
        """All calls below the folder, by kind."""
        return {kind: self._page.counts[kind] for kind in Kind if self._page.counts[kind]}


@contextmanager
def suspended() -> Iterator[None]:
    """In a process with the shim: what this thread does meanwhile is not the stage's doing."""
    _tell("attestream_suspend", 1)
    try:
        yield
    finally:
        _tell("attestream_suspend", 0)


def mark(text: str) -> None:
    """In a process with the shim: a remark in the trace."""
    _tell("attestream_mark", text.encode())


def _tell(function: str, argument: int | bytes) -> None:
    library = ctypes.CDLL(None)
    if hasattr(library, function):
        getattr(library, function)(argument)
