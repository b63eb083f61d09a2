"""What is outside of our machine, as files: topics that a broker keeps, and a ledger.

They lie in `<world>/outside`, which no power cut of ours touches. Each line that is added is marked in the
trace of calls, so that the state of the outside at any call is known.
"""

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from anchors.ledger import (
    ChainPosition,
    Confirmation,
    ConfirmationState,
    LedgerMessage,
    LedgerReceipt,
    PreparedTransaction,
    SubmitOutcome,
    SubmitStatus,
    TopicInfo,
)
from processors.model import RawRecord
from tests.faults.machine.syscalls.shim import mark

FIRST_MS = 1_760_000_000_000
LEDGER, PUBLISHED = "ledger", "published"
MARK_OUTSIDE = "outside "


def add_line(world: Path, name: str, content: Any) -> None:
    """Add one line to a file of the outside."""
    with (world / "outside" / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(content) + "\n")
    mark(MARK_OUTSIDE + name)


def read_lines(world: Path, name: str) -> list[Any]:
    """All lines of a file of the outside."""
    path = world / "outside" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def cut_outside(origin: Path, world: Path, marks: Sequence[str]) -> None:
    """Give a world the outside that another one had when these were all marks."""
    for path in (origin / "outside").glob("*.jsonl"):
        kept = marks.count(MARK_OUTSIDE + path.stem)
        lines = path.read_text().splitlines(keepends=True)[:kept]
        (world / "outside" / path.name).write_text("".join(lines))


class TopicFile:
    """A topic of one partition, appended to as a broker would: kept whatever happens to us."""

    def __init__(self, world: Path, topic: str) -> None:
        self._world, self._topic = world, topic

    def append(self, key: bytes | None, value: bytes) -> None:
        """Add one record."""
        row = [base64.b64encode(part or b"").decode() for part in (key, value)]
        add_line(self._world, self._topic, row)

    def records(self) -> list[RawRecord]:
        """All of them."""
        rows = [[base64.b64decode(part) for part in row] for row in read_lines(self._world, self._topic)]
        return [
            RawRecord(self._topic, 0, at, FIRST_MS + at, key, value) for at, (key, value) in enumerate(rows)
        ]


class FileProducer:
    """Appends to topic files; acknowledges at once where asked to poll."""

    def __init__(self, world: Path) -> None:
        self._world = world
        self._waiting: list[tuple[Any, ...]] = []

    def produce(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        partition: int = 0,
        on_delivery: Callable[..., None] | None = None,
    ) -> None:
        """Take a record."""
        self._waiting.append((topic, key, value, on_delivery))

    def poll(self, _wait_s: float) -> int:
        """Write and acknowledge what was taken."""
        done = 0
        while self._waiting:
            topic, key, value, on_delivery = self._waiting.pop(0)
            TopicFile(self._world, topic).append(key, value)
            done += 1
            if on_delivery is not None:
                on_delivery(None, None)  # what it raises comes out of here; the rest comes next time
        return done

    def check(self) -> None:
        """The same; a broker is always there."""
        self.poll(0)

    def flush(self, _wait_s: float) -> int:
        """The same; nothing is left."""
        self.poll(0)
        return 0

    def purge(self) -> None:
        """Forget what was not written."""
        self._waiting.clear()


class LedgerFile:
    """A ledger that places each transaction once and shows it at once."""

    name, topic_id = "hedera:file", "0.0.7"
    payer = "0.0.2"

    def __init__(self, world: Path) -> None:
        self._world = world

    def prepare(self, message: bytes, now_ns: int) -> PreparedTransaction:
        """Sign."""
        name = hashlib.sha256(b"%d" % now_ns + message).hexdigest()[:16]
        return PreparedTransaction(name, message, b"signed " + message, now_ns, now_ns + 120 * 10**9)

    def submit(self, prepared: PreparedTransaction) -> SubmitOutcome:
        """Place it, unless it stands there."""
        if any(row["transaction_id"] == prepared.transaction_id for row in self._rows()):
            return SubmitOutcome(SubmitStatus.DUPLICATE, "DUPLICATE_TRANSACTION")
        row = {"transaction_id": prepared.transaction_id, "message": prepared.message.decode()}
        add_line(self._world, LEDGER, row)
        return SubmitOutcome(SubmitStatus.ACCEPTED, "OK")

    def confirm(self, prepared: PreparedTransaction, after: ChainPosition | None) -> Confirmation:
        """Look for it."""
        messages = list(self.history(after))
        names = {row["transaction_id"]: at + 1 for at, row in enumerate(self._rows())}
        sequence = names.get(prepared.transaction_id)
        for message in messages:
            if message.sequence == sequence:
                return Confirmation(ConfirmationState.CONFIRMED, message.position, message)
        return Confirmation(ConfirmationState.PENDING, messages[-1].position if messages else after)

    def history(self, after: ChainPosition | None, limit: int | None = None) -> Iterator[LedgerMessage]:
        """All messages behind a position."""
        found, running = [], b""
        for at, row in enumerate(self._rows()):
            message = row["message"].encode()
            running = hashlib.sha384(running + message).digest()
            if after is None or at + 1 > after.sequence:
                found.append(LedgerMessage(self.topic_id, at + 1, at + 1, message, self.payer, running, 3))
        yield from found[:limit]

    def complete_until_ns(self) -> int:
        """It is always complete."""
        return time.time_ns()

    def evidence(self, *_: object) -> LedgerReceipt:
        """Nobody asks."""
        raise AssertionError("anchor does not ask")

    def topic_info(self) -> TopicInfo:
        """Nobody asks."""
        raise AssertionError("anchor does not ask")

    def close(self) -> None:
        """Nothing is held."""

    def _rows(self) -> list[dict[str, str]]:
        return read_lines(self._world, LEDGER)
