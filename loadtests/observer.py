"""The observer: looks at topics and published logs while a load runs, and notes when it saw what.

It costs little, so that it hardly takes part: instead of reading every event it asks for last stable offsets,
fifty times a second; what each record became is read afterwards (`ledger.py`). A process of its own: a
job as JSON on standard input, a JSON object a line on standard output, and the sightings in a file at the
end, which comes with the end of its input.
"""

import json
import select
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from loadtests.committed import Committed
from loadtests.sightings import Alert, EpochLeaf, Lag, Place, Sightings, Steps
from schemas.checkpoint import parse_checkpoint
from schemas.codec import CODEC
from schemas.errors import FormatError
from schemas.note import parse_note
from schemas.tile import ENTRIES, TILE_WIDTH, Tile, decode_bundle

LOOK_S = 0.02
"""How often last stable offsets and published checkpoints are looked at: how fine latencies are known."""
LAG_S = 0.5
ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class Job:
    """Where to look."""

    properties: Mapping[str, Any]
    outputs: Sequence[str]
    """Topics of accepted events and rejections, in this order."""
    raw: Sequence[str]
    partitions: int
    group: str
    """Consumer group of ingest."""
    log_name: str
    checkpoints: str
    anchors: str
    alerts: str
    log: str
    """Folder of the published logs; empty: there is none here."""
    out: str


class Observer:
    """Looks until it is told to stop."""

    def __init__(self, job: Job) -> None:
        self._job, self._seen = job, Sightings()
        self._admin = AdminClient({**job.properties, "log_level": 0})
        self._outputs = [(topic, p) for topic in job.outputs for p in range(job.partitions)]
        self._raw = [(topic, p) for topic in job.raw for p in range(job.partitions)]
        self._committed = Committed(job.properties, job.group, self._raw)
        for place in self._outputs:
            self._seen.stable[place] = Steps()
            if job.log:
                self._seen.covered[place] = Steps()
        self._noted: dict[Place, tuple[int, int]] = {}
        self._epoch_leaves = 0
        self._reader = self._small_topics()
        self._stop = threading.Event()
        self._failure: BaseException | None = None

    def run(self) -> Sightings:
        """Look until the input ends. Raises what a look at Kafka raised."""
        threads = [
            threading.Thread(target=self._guarded, args=(work,), daemon=True)
            for work in (self._read_small, self._look_at_checkpoints, self._look_at_lag)
        ]
        self._look_at_stable()
        for thread in threads:
            thread.start()
        _say({"ready": True})
        while not self._is_over():
            began = time.monotonic()
            self._look_at_stable()
            time.sleep(max(0.0, LOOK_S - (time.monotonic() - began)))
        self._stop.set()
        for thread in threads:
            thread.join(ANSWER_S)
        self._look_at_stable()
        self._reader.close()
        self._committed.close()
        if self._failure is not None:
            raise self._failure
        return self._seen

    def _is_over(self) -> bool:
        if self._failure is not None:
            return True
        return bool(select.select([sys.stdin], [], [], 0)[0]) and not sys.stdin.readline()

    def _guarded(self, work: Any) -> None:
        try:
            while not self._stop.is_set():
                work()
        except BaseException as error:  # noqa: BLE001 - handed to the main thread, which raises it
            self._failure = error

    # ---- topics ----------------------------------------------------------------------------------------

    def _look_at_stable(self) -> None:
        for place, offset in self._ends(self._outputs, IsolationLevel.READ_COMMITTED).items():
            self._seen.stable[place].saw(offset, time.monotonic_ns())

    def _ends(self, places: Sequence[Place], level: IsolationLevel) -> dict[Place, int]:
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        asked: dict[TopicPartition, Future[Any]] = self._admin.list_offsets(
            {TopicPartition(*place): latest for place in places},
            isolation_level=level,
            request_timeout=ANSWER_S,
        )
        return {(each.topic, each.partition): future.result().offset for each, future in asked.items()}

    def _look_at_lag(self) -> None:
        ends = self._ends(self._raw, IsolationLevel.READ_UNCOMMITTED)
        committed = self._committed.offsets()
        raw = sum(end - committed[place] for place, end in ends.items())
        lag = Lag(time.monotonic_ns(), raw, self._seen.unsealed() if self._job.log else None)
        self._seen.lag.append(lag)
        _say(
            {
                "lag": lag.raw,
                "unsealed": lag.unsealed,
                "unanchored": self._unanchored(),
                "alerts": len(self._seen.alerts),
            }
        )
        self._stop.wait(LAG_S)

    def _unanchored(self) -> int | None:
        """Count the partitions whose last sealed record no anchor covers yet."""
        if not self._job.log:
            return None
        anchored = self._seen.anchored.values[-1] if self._seen.anchored.values else 0
        reached: dict[Place, int] = {}
        for leaf in tuple(self._seen.epoch):
            if leaf.index < anchored:
                reached[leaf.place] = max(reached.get(leaf.place, -1), leaf.last_offset)
        last = {place: steps.values[-1] for place, steps in self._seen.covered.items() if steps.values}
        return sum(reached.get(place, -1) < offset for place, offset in last.items())

    def _small_topics(self) -> Consumer:
        reader = Consumer(
            {
                **self._job.properties,
                "group.id": "attestream-loadtest-observer",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 100,
                "log_level": 0,
            }
        )
        job = self._job
        places = [TopicPartition(t, 0, OFFSET_BEGINNING) for t in (job.checkpoints, job.anchors)]
        latest = self._ends([(job.alerts, 0)], IsolationLevel.READ_COMMITTED)[job.alerts, 0]
        reader.assign([*places, TopicPartition(job.alerts, 0, latest)])
        return reader

    def _read_small(self) -> None:
        message = self._reader.poll(0.1)
        if message is None:
            return
        error = message.error()
        if error is not None:
            if error.retriable():
                return
            raise KafkaException(error)
        now_ns, value = time.monotonic_ns(), message.value() or b""
        match message.topic():
            case self._job.checkpoints:
                self._take_checkpoint(value)
            case self._job.anchors:
                anchor = CODEC.decode("anchor", value)
                if anchor["status"] == "CONFIRMED":
                    self._seen.anchored.saw(int(anchor["tree_size"]), now_ns)
            case _:
                self._take_alert(value, now_ns)

    def _take_alert(self, value: bytes, now_ns: int) -> None:
        try:
            covers = json.loads(value)["unmapped"].get("covers", {})
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # none of ours; the stages count such
        self._seen.alerts.append(Alert(now_ns, covers))

    def _take_checkpoint(self, value: bytes) -> None:
        index = self._epoch_leaves
        self._epoch_leaves += 1
        try:
            checkpoint = parse_checkpoint(parse_note(value).text)
        except FormatError:
            return  # the signed list of the shards is a leaf too, but no checkpoint
        place = self._place_of(checkpoint.origin)
        if place is not None and checkpoint.size and self._job.log:
            last = self._offset_of_leaf(place, checkpoint.size)
            if last is not None:
                self._seen.epoch.append(EpochLeaf(index, place, last))

    def _place_of(self, origin: str) -> Place | None:
        """Return the output partition of an origin `<log name>/<topic>/<partition>`."""
        topic, _, number = origin.removeprefix(f"{self._job.log_name}/").rpartition("/")
        place = (topic, int(number) if number.isdecimal() else -1)
        return place if place in self._seen.stable else None

    # ---- the published logs ----------------------------------------------------------------------------

    def _look_at_checkpoints(self) -> None:
        began = time.monotonic()
        for place in self._seen.covered:
            self._look_at_checkpoint(place)
        self._stop.wait(max(0.0, LOOK_S - (time.monotonic() - began)))

    def _look_at_checkpoint(self, place: Place) -> None:
        path = self._folder(place) / "checkpoint"
        with suppress(FileNotFoundError):
            found = path.stat()
            if self._noted.get(place) == (found.st_mtime_ns, found.st_ino):
                return
            self._noted[place] = (found.st_mtime_ns, found.st_ino)
            size = parse_checkpoint(parse_note(path.read_bytes()).text).size
            last = self._offset_of_leaf(place, size) if size else None
            if last is not None:
                self._seen.covered[place].saw(last, time.monotonic_ns())

    def _offset_of_leaf(self, place: Place, size: int) -> int | None:
        """Read from the entry bundle where in the topic the last leaf of a tree of this size lies."""
        index, width = divmod(size - 1, TILE_WIDTH)
        width += 1
        for tile in (Tile(ENTRIES, index, width), Tile(ENTRIES, index)):
            with suppress(FileNotFoundError):
                data = (self._folder(place) / tile.path).read_bytes()
                leaf = decode_bundle(data, tile.width)[width - 1]
                return int(CODEC.decode("leaf", leaf)["offset"])
        return None

    def _folder(self, place: Place) -> Path:
        return Path(self._job.log, place[0], str(place[1]))


def main() -> None:
    """Do one job."""
    job = Job(**json.loads(sys.stdin.readline()))
    Observer(job).run().save(Path(job.out))
    _say({"done": True})


def _say(what: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
