"""A member of a group leaves, whatever its client does."""

import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline import kafka, membership
from pipeline.membership import GroupMember
from pipeline.settings import Settings


def member(folder: Path) -> GroupMember:
    """One whose broker never answers: nothing here asks it."""
    settings = Settings(data_dir=folder, log_name="leaving.example", bootstrap_servers="127.0.0.1:1")
    return GroupMember(settings, kafka.admin(settings), "ingest", 0, ["device.access.raw"])


def test_a_client_that_does_not_close_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "CLOSE_DEADLINE_S", 0.2)
    leaving, released, has_closed = member(tmp_path), threading.Event(), threading.Event()
    real: Any = leaving.consumer

    class Stuck:
        """Closes when it is let."""

        def close(self) -> None:
            released.wait(60)
            real.close()
            has_closed.set()

    leaving.consumer = Stuck()  # type: ignore[assignment]
    leaving.close()
    assert not has_closed.is_set()
    released.set()
    assert has_closed.wait(60)


def test_a_client_that_closes_is_closed(tmp_path: Path) -> None:
    leaving = member(tmp_path)
    leaving.close()
    with pytest.raises(RuntimeError, match="closed"):
        leaving.consumer.poll(0)
