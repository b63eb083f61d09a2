"""Does the shim see every durable call? strace looks at the same run from the kernel's side."""

import re
import sys
from collections import Counter
from pathlib import Path

from tests.faults.machine.ledger import Violation
from tests.faults.machine.syscalls.server import RunServer
from tests.faults.machine.syscalls.shim import Kind, find_tool
from tests.faults.machine.syscalls.worlds import Worlds

CALLS = {
    Kind.WRITE: ("write", "pwrite64", "writev", "pwritev", "pwritev2"),
    Kind.FSYNC: ("fsync",),
    Kind.FDATASYNC: ("fdatasync",),
    Kind.SYNCFS: ("syncfs",),
    Kind.RENAME: ("rename", "renameat", "renameat2"),
    Kind.UNLINK: ("unlink", "unlinkat"),
    Kind.TRUNCATE: ("ftruncate", "truncate"),
    Kind.ALLOCATE: ("fallocate",),
    Kind.LINK: ("link", "linkat"),
}
"""Not those that make files and folders: of them the shim counts the ones that find nothing there."""
FOREIGN = ("copy_file_range", "sendfile", "splice", "io_uring_enter", "sync", "msync", "sync_file_range")
"""Ways to the disk that the shim does not know; a stage that takes one must be told."""
_LINE = re.compile(r"(?:\d+ +)?(\w+)\((.*)")


def cross_check(worlds: Worlds) -> None:
    """Run the stage once under strace and hold its calls to the shim's, by kind."""
    log, world = worlds.folder / "strace.out", worlds.fresh("crosscheck")
    server = RunServer(worlds.folder / "traced")
    names = [name for group in CALLS.values() for name in group] + list(FOREIGN)
    server.prefix = (
        find_tool("strace"), "-f", "-qq", "-y", "-s", "1", "-o", str(log),
        "-e", "trace=" + ",".join(names), "-e", "signal=none",
    )  # fmt: skip
    # What stands for others works in the stage's process too, and below the published log in anchor's case.
    below = world / "data" / "state" if worlds.stage == "anchor" else world / "data"
    with server:
        server.shim.arm(below, outside=world / "data" / "run")
        code = worlds.run(server, world)
        counts = server.shim.counts
    seen = _count(log, below, world / "data" / "run")
    sys.stderr.write(f"strace: {dict(sorted(seen.items()))}\n")
    worlds.tally.points = {kind.name.lower(): number for kind, number in counts.items()}
    if code != 0:
        worlds.tally.add([Violation("crash", f"under strace it ended with {code}")])
    for name in sorted({kind.name.lower() for kind in CALLS} | set(seen)):
        here = worlds.tally.points.get(name, 0)
        if seen[name] != here:
            found = Violation("machine", f"{name}: strace saw {seen[name]} calls, the shim {here}")
            worlds.tally.add([found])


def _count(log: Path, below: Path, outside: Path) -> Counter[str]:
    kinds = {name: kind.name.lower() for kind, names in CALLS.items() for name in names}
    counts: Counter[str] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if match is None or str(below) not in line or str(outside) in line:
            continue
        name = match.group(1)
        counts["rmdir" if name == "unlinkat" and "AT_REMOVEDIR" in line else kinds.get(name, name)] += 1
    counts.pop("rmdir", None)
    return counts
