"""The ledger's record, held to the published log: what is kept of it, and what is not."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anchors.errors import LedgerHistoryError
from anchors.hcs27 import AnchorMessage, TreeHead, build_anchor
from anchors.ledger import ChainPosition, LedgerMessage
from pipeline.anchorrecords import LEAF, REGISTRY
from pipeline.anchorstore import AnchorStore
from pipeline.epochlog import EpochLog, LogBehindError, LogConflictError
from pipeline.ledgerrecord import LedgerRecord
from pipeline.settings import Settings
from pipeline.trust import init_local
from processors.merkle.tree import TreeBuilder
from tests.kit.epochlog import publish

PAYER = "0.0.2"


class Mirror:
    """A history that chains, as far as the verbs of a ledger that are asked for here."""

    def __init__(self) -> None:
        self.messages: list[LedgerMessage] = []

    def put(self, body: bytes, payer: str = PAYER) -> LedgerMessage:
        before = self.messages[-1].running_hash if self.messages else bytes(48)
        running_hash = hashlib.sha384(before + body).digest()
        sequence = len(self.messages) + 1
        self.messages.append(LedgerMessage("0.0.1001", sequence, sequence, body, payer, running_hash, 3))
        return self.messages[-1]

    def history(self, after: ChainPosition | None, limit: int | None = None) -> Iterator[LedgerMessage]:
        known = after.sequence if after else 0
        if after is not None and self.messages[known - 1].position != after:
            raise LedgerHistoryError("the mirror's running hash does not recompute")
        yield from self.messages[known : None if limit is None else known + limit]


class Bench:
    """A published log, a database, and a record over both."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder, log_name="record.example")
        init_local(self.settings)
        self._tree = TreeBuilder()
        self.roots: dict[int, bytes] = {}
        self.store = AnchorStore(folder / "anchor.sqlite")
        self.store.use_topic("hedera:local", "0.0.1001")
        self.mirror: Any = Mirror()
        self.record = LedgerRecord(self.store, EpochLog(self.settings), PAYER, _call)

    def grow(self) -> int:
        size, root = publish(self.settings, self._tree, [b"leaf %d" % self._tree.size])
        self.roots[size] = root
        return size

    def anchor(self, size: int, root: bytes | None = None) -> LedgerMessage:
        head = TreeHead(size, root or self.roots[size])
        message: LedgerMessage = self.mirror.put(
            build_anchor(AnchorMessage(REGISTRY, "record.example", LEAF, head))
        )
        return message

    def known(self) -> tuple[int, int]:
        """How far the history was read, and the size that is anchored."""
        position, anchored = self.store.position(), self.store.anchored()
        return position.sequence if position else 0, anchored.tree_size if anchored else 0


def _call(function: Callable[..., Any], /, *arguments: Any) -> Any:
    return function(*arguments)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    for _ in range(4):
        made.grow()
    yield made
    made.store.close()


def test_what_is_anchored_is_taken(bench: Bench) -> None:
    bench.anchor(2)
    bench.mirror.put(b"another's", "0.0.9")
    bench.record.catch_up(bench.mirror)
    assert (bench.known(), bench.record.is_caught_up) == ((2, 2), True)
    bench.anchor(4)
    bench.anchor(3)
    bench.record.catch_up(bench.mirror)
    assert bench.known() == (4, 4)


def test_another_root_is_told_and_not_kept(bench: Bench) -> None:
    bench.anchor(2)
    bench.record.catch_up(bench.mirror)
    lie = bench.anchor(3, bytes(32))
    for _ in range(2):
        with pytest.raises(LogConflictError, match="no extension"):
            bench.record.catch_up(bench.mirror)
        with pytest.raises(LogConflictError, match="no extension"):
            bench.record.look(bench.mirror, lie.position)
        assert bench.known() == (1, 2)
    bench.mirror.messages.pop()
    bench.anchor(3)
    bench.record.catch_up(bench.mirror)
    assert bench.known() == (2, 3)


def test_more_than_is_published_is_waited_for(bench: Bench) -> None:
    ahead = bench.anchor(5, bytes(32))
    bench.record.look(bench.mirror, ahead.position)  # another process may see more than we do
    with pytest.raises(LogBehindError, match="4 leaves, 5 are anchored"):
        bench.record.catch_up(bench.mirror)
    assert bench.known() == (0, 0)
    bench.mirror.messages.pop()
    bench.grow()
    bench.anchor(5)
    bench.record.catch_up(bench.mirror)
    assert bench.known() == (1, 5)


def test_a_history_that_was_another_is_left_again(bench: Bench) -> None:
    bench.anchor(2)
    bench.record.catch_up(bench.mirror)
    bench.mirror.put(b"nobody placed this", "0.0.9")
    bench.record.catch_up(bench.mirror)
    assert bench.known() == (2, 2)
    bench.mirror.messages.pop()
    bench.anchor(3)
    with pytest.raises(LedgerHistoryError):
        bench.record.catch_up(bench.mirror)
    bench.record.step_back()
    bench.record.catch_up(bench.mirror)
    assert bench.known() == (2, 3)
    bench.record.step_back()
    assert bench.known() == (2, 3), "one step, not the whole way"


def test_before_the_first_anchor_one_steps_back_to_the_beginning(bench: Bench) -> None:
    bench.mirror.put(b"nobody placed this", "0.0.9")
    bench.record.catch_up(bench.mirror)
    bench.record.step_back()
    assert bench.known() == (0, 0)


def test_what_was_looked_at_is_not_read_again(bench: Bench) -> None:
    shown = bench.anchor(2)
    bench.record.look(bench.mirror, shown.position)
    bench.mirror = None
    bench.record.look(bench.mirror, shown.position)
    bench.record.look(bench.mirror, None)
