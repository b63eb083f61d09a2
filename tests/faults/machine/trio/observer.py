"""What a consumer of accepted events sees: when something committed arrives, partition by partition.

It reads committed records from all partitions and finds new leaders quickly, but it is a client like any
other: its own way to a new leader is part of the gap that it measures.
"""

import itertools
import threading
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline import topics

QUICK = {
    "topic.metadata.refresh.interval.ms": 500,
    "socket.timeout.ms": 2000,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 100,
    "fetch.wait.max.ms": 50,
}
QUICK_ADMIN = {"socket.timeout.ms": 2000, "reconnect.backoff.max.ms": 100}
LOOK_EVERY_S = 0.05


class Observer:
    """Notes the moments, on the monotonic clock, at which something arrived or was published."""

    def __init__(self, bootstrap: str, log_dir: Path, partitions: int) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "trio-observer",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "log_level": 0,
                **QUICK,
            }
        )
        self._consumer.assign([TopicPartition(topics.EVENTS, n, OFFSET_END) for n in range(partitions)])
        self._checkpoints = {
            number: log_dir / topics.EVENTS / str(number) / "checkpoint" for number in range(partitions)
        }
        self._published_ns: dict[int, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="observer", daemon=True)
        self.committed: defaultdict[int, list[float]] = defaultdict(list)
        """By partition of accepted events: when committed records arrived."""
        self.published: defaultdict[int, list[float]] = defaultdict(list)
        """By partition: when its checkpoint was replaced."""

    def start(self) -> None:
        """Watch in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def has_seen_all(self, since: float) -> bool:
        """Tell whether every partition has had committed and published news since that moment."""
        number_of = len(self._checkpoints)
        return all(
            seen[number] and seen[number][-1] > since
            for seen in (self.committed, self.published)
            for number in range(number_of)
        )

    def _watch(self) -> None:
        while not self._stop.is_set():
            messages = self._consumer.consume(1000, LOOK_EVERY_S)
            now = time.monotonic()
            for number in {m.partition() for m in messages if m.error() is None}:
                self.committed[number or 0].append(now)
            for number, path in self._checkpoints.items():
                with suppress(FileNotFoundError):
                    changed_ns = path.stat().st_mtime_ns
                    if changed_ns != self._published_ns.get(number):
                        self._published_ns[number] = changed_ns
                        self.published[number].append(now)


class LeaderWatch:
    """A context manager, entered just before a broker is taken away: when do others lead its partitions?"""

    def __init__(self, bootstrap: str, node: int) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, **QUICK_ADMIN})
        self._node = node
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="leaders", daemon=True)
        self.moved_after_s: float | None = None

    def __enter__(self) -> Self:
        self._began_at = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                topics_there = self._admin.list_topics(timeout=2).topics.values()
            except KafkaException:
                continue
            leaders = {p.leader for topic in topics_there for p in topic.partitions.values()}
            if not leaders & {-1, self._node}:
                self.moved_after_s = round(time.monotonic() - self._began_at, 2)
                return


def longest_gap_s(moments: dict[int, list[float]], begin: float, end: float) -> float:
    """Return the longest time without news of any partition within [begin, end]; open gaps count."""
    longest = 0.0
    for seen in moments.values():
        edges = [*(at for at in seen if at < end), end]
        for before, after in itertools.pairwise(edges):
            if after > begin:
                longest = max(longest, after - before)
    return longest
