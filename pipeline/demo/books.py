"""The auditor of invariant 1: {raw records} = {accepted once} + {rejected once, with a reason}.

Counted by reading whole topics as any consumer could, read-committed, by the header `source` that every
output carries. It shares no counter, no state and no code with the stages that it audits.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.kafkaread import read_all
from pipeline.settings import Settings
from pipeline.topics import EVENTS, RAW_TOPICS, REJECTED
from processors.model import RawRecord

MAX_EXAMPLES = 5

Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Balance:
    """The books' result; the lists name up to five records each, as topic/partition/offset."""

    raw: int
    accepted: int
    rejected: Mapping[str, int]
    unjudged: int
    unjudged_examples: tuple[str, ...]
    judged_twice: tuple[str, ...]
    from_nowhere: tuple[str, ...]
    """Outputs whose source is no raw record."""
    out_of_order: tuple[str, ...]
    """Accepted after a later record of the same raw topic-partition."""

    @property
    def even(self) -> bool:
        """True when each raw record was judged exactly once, nothing else was, and order was kept."""
        faults = self.unjudged or self.judged_twice or self.from_nowhere or self.out_of_order
        return not faults and self.raw == self.accepted + sum(self.rejected.values())

    def faults(self) -> list[str]:
        """Say what is wrong, one sentence each."""
        told = []
        if self.unjudged:
            told.append(f"{self.unjudged} raw records were never judged: {', '.join(self.unjudged_examples)}")
        if self.judged_twice:
            told.append(f"judged more than once: {', '.join(self.judged_twice)}")
        if self.from_nowhere:
            told.append(f"outputs of records that do not exist: {', '.join(self.from_nowhere)}")
        if self.out_of_order:
            told.append(f"accepted out of order: {', '.join(self.out_of_order)}")
        return told


@dataclass(slots=True)
class _Account:
    """One raw topic-partition: a byte per offset, whether it is there and how often it was judged."""

    since: int
    present: bytearray = field(default_factory=bytearray)
    judged: bytearray = field(default_factory=bytearray)
    last_accepted: int = -1

    def row(self, offset: int) -> int:
        index = offset - self.since
        missing = index + 1 - len(self.present)
        if missing > 0:
            self.present.extend(bytes(missing))
            self.judged.extend(bytes(missing))
        return index


class Books:
    """Takes raw records and verdicts in any order; memory is two bytes a raw record.

    `since` gives the first offset that counts in each raw topic-partition; what lies before is left out.
    """

    def __init__(self, since: Mapping[Partition, int] | None = None) -> None:
        self._since = dict(since or {})
        self._accounts: dict[Partition, _Account] = {}
        self.raw = 0
        self.accepted = 0
        self.rejected: Counter[str] = Counter()
        self._out_of_order: list[str] = []
        self._malformed: list[str] = []

    @property
    def in_flight(self) -> int:
        """Raw records seen minus verdicts seen."""
        return self.raw - self.accepted - self.rejected.total()

    def take(self, record: RawRecord) -> None:
        """Book a record of a raw topic, of `device.events` or of `device.rejected`."""
        if record.topic in RAW_TOPICS:
            self._raw(record)
            return
        headers = dict(record.headers)
        source = headers.get("source") or b""
        place = _parse(source)
        if place is None:
            self._malformed.append(f"{record.topic}/{record.partition}/{record.offset} (no source)")
            return
        account = self._account((place[0], place[1]))
        if place[2] < account.since:
            return
        index = account.row(place[2])
        account.judged[index] = min(account.judged[index] + 1, 255)
        if record.topic == EVENTS:
            self.accepted += 1
            if place[2] <= account.last_accepted:
                self._out_of_order.append(source.decode())
            account.last_accepted = max(place[2], account.last_accepted)
        else:
            self.rejected[(headers.get("reason") or b"no reason").decode(errors="replace")] += 1

    def _raw(self, record: RawRecord) -> None:
        account = self._account((record.topic, record.partition))
        if record.offset >= account.since:
            account.present[account.row(record.offset)] = 1
            self.raw += 1

    def _account(self, partition: Partition) -> _Account:
        account = self._accounts.get(partition)
        if account is None:
            account = self._accounts[partition] = _Account(self._since.get(partition, 0))
        return account

    def balance(self) -> Balance:
        """Draw the balance of what was booked so far."""
        unjudged: list[str] = []
        twice: list[str] = []
        nowhere = list(self._malformed)
        missing = 0
        for (topic, partition), account in sorted(self._accounts.items()):
            for index, (present, judged) in enumerate(zip(account.present, account.judged, strict=True)):
                if present == 1 == judged or (not present and not judged):
                    continue
                place = f"{topic}/{partition}/{account.since + index}"
                if not present:
                    nowhere.append(place)
                elif not judged:
                    missing += 1
                    unjudged.append(place)
                else:
                    twice.append(place)
        return Balance(
            self.raw,
            self.accepted,
            dict(self.rejected),
            missing,
            tuple(unjudged[:MAX_EXAMPLES]),
            tuple(twice[:MAX_EXAMPLES]),
            tuple(nowhere[:MAX_EXAMPLES]),
            tuple(self._out_of_order[:MAX_EXAMPLES]),
        )


def _parse(source: bytes) -> tuple[str, int, int] | None:
    topic, _, place = source.decode(errors="replace").partition("/")
    partition, _, offset = place.partition("/")
    known = topic in RAW_TOPICS and partition.isdecimal() and offset.isdecimal()
    return (topic, int(partition), int(offset)) if known else None


def read_books(settings: Settings, since: Mapping[Partition, int] | None = None) -> Books:
    """Read the raw topics, `device.events` and `device.rejected` from beginning to end."""
    books = Books(since)
    for topic in (*RAW_TOPICS, EVENTS, REJECTED):
        for record in read_all(settings, topic):
            books.take(record)
    return books
