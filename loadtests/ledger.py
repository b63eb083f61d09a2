"""The ledger: what became of every record that was sent, read from the output topics after the run.

Every output names the raw record that it comes from in its header `source`. So each record sent has one
verdict, or was lost, or was judged twice; an accepted one must be there byte for byte, in the order in which
its partition had it. Nothing here asks a stage for anything.
"""

import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from loadtests.corpus import KINDS, Corpus
from loadtests.errors import LoadTestError
from loadtests.openloop import UNSET, Sent
from loadtests.sightings import Place

READ_DEADLINE_S = 120.0
READ_AT_ONCE = 5000
EXPECTED = "bad_signature"
"""The reason for which a forgery must be rejected."""
ACCEPTED = 1
REJECTED = 2


class ReadBackError(LoadTestError):
    """The topics could not be read to their ends, so nothing is known."""


@dataclass(slots=True)
class Ledger:
    """Counts of records. `lost` and `duplicated` must be 0."""

    sent: int = 0
    """Handed to the client library: all that were due."""
    acknowledged: int = 0
    accepted: int = 0
    rejected: int = 0
    rejected_as_expected: int = 0
    """Forgeries, rejected for their signature."""
    rejected_wrongly: dict[str, int] = field(default_factory=dict)
    """Others, by reason."""
    forgeries_accepted: int = 0
    lost: int = 0
    """Acknowledged by the broker, read by ingest, and neither accepted nor rejected."""
    unjudged: int = 0
    """Acknowledged, and still waiting for ingest when the time for it was over."""
    duplicated: int = 0
    """Verdicts beyond the first on a record."""
    altered: int = 0
    """Accepted with other bytes than were sent."""
    out_of_order: int = 0
    """Accepted before a record that its partition had before it."""
    not_ours: int = 0
    """Outputs of records that this run did not send."""

    @property
    def ok(self) -> bool:
        """Whether every record has exactly one verdict, and the right one."""
        wrong = (
            self.lost,
            self.unjudged,
            self.duplicated,
            self.altered,
            self.out_of_order,
            self.forgeries_accepted,
        )
        return not any(wrong) and not self.rejected_wrongly

    def to_json(self) -> dict[str, Any]:
        """Members by name."""
        return {**asdict(self), "ok": self.ok}


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Parallel arrays over the records of a part: what each became, and where that stands."""

    kinds: npt.NDArray[np.int8]
    """ACCEPTED, REJECTED, or 0."""
    partitions: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    """In the topic of events or of rejections."""


class Counting:
    """Counts outputs against what was sent; `take` them in the order of their partitions."""

    def __init__(self, corpus: Corpus, sent: Sent, topics: Mapping[str, str]) -> None:
        """`topics` are the raw ones, by kind."""
        self._corpus, self._first = corpus, sent.first
        count = len(sent)
        part = slice(sent.first, sent.first + count)
        self._forged = corpus.index.forged[part]
        self._numbers: dict[bytes, tuple[int, array[int]]] = {}
        """Of each raw partition the first offset, and which record stands at that and at each later one."""
        for at, kind in enumerate(KINDS):
            for partition in np.unique(sent.partitions):
                chosen = (corpus.index.kinds[part] == at) & (sent.partitions == partition)
                numbers = np.flatnonzero(chosen & (sent.offsets != UNSET))
                if len(numbers):
                    name = f"{topics[kind.value]}/{partition}".encode()
                    self._numbers[name] = _by_offset(sent.offsets[numbers], numbers)
        self._acknowledged = sent.offsets != UNSET
        self.verdicts = Verdicts(
            np.zeros(count, np.int8), np.zeros(count, np.int32), np.zeros(count, np.int64)
        )
        self.reasons: Counter[str] = Counter()
        self._ledger = Ledger(
            sent=int((sent.sent_ns != UNSET).sum()), acknowledged=int(self._acknowledged.sum())
        )
        self._wrongly: Counter[str] = Counter()
        self._last: dict[tuple[bytes, int], int] = {}

    def accept(self, source: bytes, value: bytes, partition: int, offset: int) -> None:
        """Take a record of the accepted events."""
        number = self._number(source, ACCEPTED, partition, offset)
        if number is None:
            return
        ledger = self._ledger
        ledger.accepted += 1
        ledger.altered += value != self._corpus.envelope(self._first + number)
        ledger.forgeries_accepted += bool(self._forged[number])
        name, _, at = source.rpartition(b"/")
        stream = (name, partition)
        ledger.out_of_order += int(at) < self._last.get(stream, -1)
        self._last[stream] = int(at)

    def reject(self, source: bytes, reason: str, partition: int, offset: int) -> None:
        """Take a record of the rejections."""
        number = self._number(source, REJECTED, partition, offset)
        if number is None:
            return
        self._ledger.rejected += 1
        self.reasons[reason] += 1
        if self._forged[number] and reason == EXPECTED:
            self._ledger.rejected_as_expected += 1
        else:
            self._wrongly[reason] += 1

    def result(self, *, drained: bool = True) -> Ledger:
        """Return the ledger of all that was taken; `drained`: ingest had read everything."""
        ledger = self._ledger
        ledger.rejected_wrongly = dict(self._wrongly)
        missing = int((self._acknowledged & (self.verdicts.kinds == 0)).sum())
        ledger.lost, ledger.unjudged = (missing, 0) if drained else (0, missing)
        return ledger

    def _number(self, source: bytes, kind: int, partition: int, offset: int) -> int | None:
        """Find which record an output comes from; None where it does not count as a first verdict."""
        name, _, at = source.rpartition(b"/")
        first, numbers = self._numbers.get(name, _NONE)
        place = int(at) - first if at.isdigit() and len(at) < 20 else -1
        number = numbers[place] if 0 <= place < len(numbers) else UNSET
        if number == UNSET:
            self._ledger.not_ours += 1
            return None
        verdicts = self.verdicts
        if verdicts.kinds[number]:
            self._ledger.duplicated += 1
            return None
        verdicts.kinds[number], verdicts.partitions[number], verdicts.offsets[number] = (
            kind,
            partition,
            offset,
        )
        return number


_NONE: tuple[int, "array[int]"] = (0, array("i"))


def _by_offset(offsets: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64]) -> "tuple[int, array[int]]":
    """Lay numbers out by offset: four bytes each, where a dictionary takes a hundred."""
    first = int(offsets.min())
    laid = np.full(int(offsets.max()) - first + 1, UNSET, np.int32)
    laid[offsets - first] = numbers
    found = array("i")
    found.frombytes(laid.tobytes())
    return first, found


def read_back(  # noqa: PLR0917 - where, from where, into what
    properties: Mapping[str, Any],
    events: str,
    rejected: str,
    since: Mapping[Place, int],
    counting: Counting,
    on_progress: Callable[[int], None] = lambda _n: None,
) -> None:
    """Read both topics as committed, from `since` to their ends as of now. Raises ReadBackError."""
    reader = Consumer(
        {
            **properties,
            "group.id": "attestream-loadtest-ledger",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "fetch.queue.backoff.ms": 5,
            "log_level": 0,
        }
    )
    try:
        reader.assign([TopicPartition(*place, offset) for place, offset in since.items()])
        _read(reader, set(since), events, rejected, counting, on_progress)
    finally:
        reader.close()


def _read(  # noqa: PLR0917
    reader: Consumer,
    waiting: set[Place],
    events: str,
    rejected: str,
    counting: Counting,
    on_progress: Callable[[int], None],
) -> None:
    done, until = 0, time.monotonic() + READ_DEADLINE_S
    while waiting:
        messages = reader.consume(READ_AT_ONCE, 0.2)
        if messages:
            until = time.monotonic() + READ_DEADLINE_S
        elif time.monotonic() > until:
            raise ReadBackError(
                f"nothing came for {READ_DEADLINE_S:.0f} s; {len(waiting)} partitions are unread"
            )
        for message in messages:
            topic, partition, error = message.topic() or "", message.partition() or 0, message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the public name
                    waiting.discard((topic, partition))
                    continue
                raise KafkaException(error)
            headers = message.headers() or ()
            source = header_of(headers, "source")
            value, offset = message.value() or b"", message.offset() or 0
            if topic == events:
                counting.accept(source, value if isinstance(value, bytes) else b"", partition, offset)
            elif topic == rejected:
                reason = header_of(headers, "reason").decode(errors="replace")
                counting.reject(source, reason, partition, offset)
            done += 1
        on_progress(done)


def header_of(headers: Any, wanted: str) -> bytes:
    """Return the value of a header; empty where there is none."""
    found: Iterable[tuple[str, Any]] = headers
    for name, value in found:
        if name == wanted:
            return value if isinstance(value, bytes) else b""
    return b""
