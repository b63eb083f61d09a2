"""The oracle: the court with a broker and a folder before it. Every call costs only what is new."""

import json
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.faults.machine.ledger import Sent, Violation
from tests.faults.machine.oracle.accounts import Accepted
from tests.faults.machine.oracle.court import Court, read_published, size_of
from tests.faults.machine.oracle.formats import Partition, Place
from tests.faults.machine.oracle.reading import TopicReader, UnreadableError
from tests.faults.machine.oracle.shards import Confirmed, Head

PATIENCE_S = 3.0
"""A transaction's records show in its topics one after another; `check` waits so long for the rest."""
PAUSE_S = 0.05
FRESH_S = 10.0
"""A sealer's word on its shards counts no longer: it writes it at least every second."""


class Oracle:
    """Judges one log. Call it when nothing that was sent is still under way; safe from several threads."""

    def __init__(self, bootstrap: str, log_dir: Path, log_name: str, log_key: bytes, partitions: int) -> None:
        self._log_dir = log_dir
        self._court = Court(log_name, log_key, partitions)
        self._reader = TopicReader(bootstrap, self._court.topics)
        self._must_stop: set[Partition] = set()
        self._lock = threading.Lock()

    def pending(self, sent: Sequence[Sent]) -> str:
        """Read on; "" when `sent` is judged and what is committed is published, else what is missing."""
        with self._lock:
            self._court.sent(sent)
            try:
                self._pass()
            except UnreadableError as error:
                return f"unreadable: {error}"
            return "; ".join(self._missing()[:3])

    def check(self, sent: Sequence[Sent], seen: Iterable[Head] = ()) -> list[Violation]:
        """Read on and judge all that was ever read; returns the violations that are new.

        `seen` are heads that a watcher saw. What was sent must be judged and sealed by now, see `pending`.
        """
        with self._lock:
            self._court.sent(sent)
            self._court.shards.observed(seen)
            until = time.monotonic() + PATIENCE_S
            while True:
                try:
                    self._pass()
                except UnreadableError as error:
                    return [Violation("unreadable", str(error))]
                is_done = self._court.adds_up and not (self._court.shards.waiting or self._reader.shrunk)
                if is_done or time.monotonic() > until:
                    break
                time.sleep(PAUSE_S)
            for (topic, number), (end, position) in self._reader.shrunk.items():
                self._court.complain("lost", f"{topic}/{number} ends at {end}, was read up to {position}")
            for topic, number in sorted(self._silently_stopped()):
                what = f"{topic}/{number} had to stop, and no sealer says that a shard is STOPPED"
                self._court.complain("stopped_silently", what)
            return self._court.verdict()

    def retire(self, topic: str, partition: int | None = None, *, must_stop: bool = True) -> None:
        """Expect a sealed topic to be damaged next: its shards must stop, tell, and sign nothing new.

        Call it when all is settled, before the damage. With `must_stop` a shard counts as stalled until a
        sealer's health says that one is STOPPED.
        """
        with self._lock:
            self._pass()
            shards = [p for p in self._court.shards.trees if p[0] == topic and partition in (None, p[1])]
            for each in shards:
                self._court.shards.retire(each)
            self._reader.drop(shards)
            if must_stop:
                self._must_stop.update(shards)

    def skipped(self) -> Sequence[Place]:
        """Records that were passed over, as of the last reading."""
        with self._lock:
            return self._court.accounts.skipped()

    def latest_accepted(self, device: str, kind: str) -> Accepted | None:
        """The newest accepted event of a device id and kind, as of the last reading, if there is one."""
        return self._court.accounts.latest(device, kind)

    def confirmed(self) -> list[Confirmed]:
        """What was said to be anchored, as of the last reading; whoever has a mirror compares it there."""
        return self._court.shards.confirmed()

    @property
    def records(self) -> int:
        """Verdicts read so far."""
        return self._court.accounts.outputs

    def close(self) -> None:
        """Leave the broker."""
        with self._lock:
            self._reader.close()

    # ---- reading ---------------------------------------------------------------------------------------

    def _pass(self) -> None:
        """What is published first, then the topics: what is signed must be committed already."""
        self._court.published(self._log_dir)
        self._court.shards.begin_pass()
        for record in self._reader.read():
            self._court.take(record)
        self._court.end_pass()

    def _missing(self) -> list[str]:
        trees = self._court.shards.trees
        sizes = {p: size_of(data) for p, data in read_published(self._log_dir, trees).items()}
        stopping = [
            f"{topic}/{number} has not said that it stopped" for topic, number in self._silently_stopped()
        ]
        # Findings without a cause, and verdicts without a record, are not waited for: `check` names them.
        return [*self._court.unjudged(), *self._court.shards.unpublished(sizes), *stopping]

    def _silently_stopped(self) -> set[Partition]:
        """Shards that must have stopped while no sealer tells of any."""
        if not self._must_stop:
            return set()
        for path in (self._log_dir.parent / "run").glob("seal*.health.json"):
            try:
                health = json.loads(path.read_text())
                if "STOPPED" in health["detail"] and time.time() - health["beat_s"] < FRESH_S:
                    return set()
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return self._must_stop
