"""Small JSON files between processes: replaced whole, read tolerantly; and ports remembered in one."""

import contextlib
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`; empty when there is none that can be read."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace `path` in one step: a reader sees the old object or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=1), "utf-8")
    temporary.replace(path)


def choose_ports(path: Path, wanted: Mapping[str, int | None]) -> dict[str, int]:
    """A port for each name: the wanted one as it is, else the one of last time if free, else any free one.

    The choice is kept in `path` for the next time.
    """
    last = read_json(path)
    chosen: dict[str, int] = {}
    for name, port in wanted.items():
        chosen[name] = port or free_port(last.get(name), taken=set(chosen.values()))
    write_json(path, chosen)
    return chosen


def free_port(preferred: object = None, *, taken: set[int] | None = None) -> int:
    """`preferred` when it is a port that can be bound now and is not `taken`, else any free one."""
    candidates = [preferred] if isinstance(preferred, int) and preferred > 0 else []
    while True:
        candidate = candidates.pop() if candidates else 0
        with socket.socket() as probe, contextlib.suppress(OSError, OverflowError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((LOOPBACK, candidate))
            port = int(probe.getsockname()[1])
            if port not in (taken or ()):
                return port


def accepts(port: int, timeout_s: float = 1.0) -> bool:
    """Whether something listens on the loopback port."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout_s):
            return True
    except OSError:
        return False
