"""`<data>/stack.json`: where a running stack is to be found. There while it runs, gone when it is down.

{"supervisor": {"pid", "started_s"}, "bootstrap_servers": "host:port",
 "ledger": {"grpc_port", "rest_port"}, "stages": ["ingest", ...], "is_set_up": true}
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.local.files import read_json, write_json
from pipeline.local.process import ProcessId

POLL_S = 0.1


class StackFile:
    """The supervisor's side: written when something becomes known."""

    def __init__(self, data_dir: Path, owner: ProcessId) -> None:
        self._path = path(data_dir)
        self._values: dict[str, Any] = {"supervisor": owner.to_json()}

    def update(self, **values: Any) -> None:
        """Add to what is known and replace the file."""
        self._values.update(values)
        write_json(self._path, self._values)

    @contextlib.contextmanager
    def published(self) -> Iterator[None]:
        """Keep the file for the length of the block."""
        self.update()
        try:
            yield
        finally:
            self._path.unlink(missing_ok=True)


def path(data_dir: Path) -> Path:
    """Where the file is."""
    return data_dir / "stack.json"


def supervisor_of(data_dir: Path) -> ProcessId | None:
    """The supervisor that runs this data directory now; None when there is none."""
    recorded = ProcessId.from_json(read_json(path(data_dir)).get("supervisor"))
    return recorded if recorded is not None and recorded.alive() else None


def wait_until_set_up(data_dir: Path) -> bool:
    """Return True once topics and keys are there, False when the stack is gone before."""
    while not read_json(path(data_dir)).get("is_set_up"):
        if supervisor_of(data_dir) is None:
            return False
        time.sleep(POLL_S)
    return True
