"""FSCK: recompute a published log from its entries, as a stranger would, believing the log's key alone.

The story: open every checkpoint, recompute each tree span by span on several processes, compare every tile,
look at what the entries say, then hold the epoch log against the shards that it records. What a span is and
who is at fault is decided in `processors.merkle.fsck`; what entries may say in `processors.logentries`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from pipeline.believed import EPOCH_PATH, SHARD_PATH, Believed
from pipeline.logsource import FolderSource, LogSource, open_source
from pipeline.publishedshards import PublishedShards, about, closed_shards, published_paths
from pipeline.settings import UsageError
from pipeline.shardlist import shard_list_name
from pipeline.tilestore import CHECKPOINT
from pipeline.workers import in_order
from processors.logentries import EpochOrder, EpochSeen, LeafOrder, LeavesSeen
from processors.merkle.fsck import SPAN_LEAVES, Fault, FaultKind, Rebuild, Span, check_span, span_count
from schemas.checkpoint import Checkpoint, CheckpointError, parse_checkpoint
from schemas.errors import FormatError
from schemas.note import parse_note
from schemas.tile import ENTRIES, TILE_WIDTH, Tile

LEAVES_A_WORKER = 4 * SPAN_LEAVES
"""About a second of work; with less, a process costs more to start than it saves."""

Progress = Callable[[int, int], None]
"""Leaves done, and leaves known of so far."""


@dataclass(slots=True)
class LogReport:
    """One published log: what its checkpoint says, and everything that does not hold."""

    origin: str
    path: str
    """Below the place that was asked for; empty for that place itself."""
    checkpoint: Checkpoint | None = None
    faults: list[Fault] = field(default_factory=list)
    is_closed: bool = False
    """Whether it is a closed shard, which another one follows."""
    recorded: int | None = None
    """Leaves covered by the epoch log; None where that is not known."""
    records_checked: int = 0
    """Leaves that were held against the record in the topic."""
    records_gone: int = 0
    """Leaves whose records the topic no longer keeps: not checkable."""

    @property
    def size(self) -> int:
        """Leaves under the checkpoint."""
        return self.checkpoint.size if self.checkpoint else 0


@dataclass(slots=True)
class Report:
    """Everything that was looked at."""

    logs: list[LogReport]
    foreign: int = 0
    """Entries of the epoch log that are not in the log's name."""

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return not any(log.faults for log in self.logs)


@dataclass(frozen=True, slots=True)
class SpanTask:
    """One span for one process: picklable, and all that it needs."""

    place: str
    path: str
    checkpoint: Checkpoint
    number: int
    believed: Believed
    are_shards_at_hand: bool


Seen = EpochSeen | LeavesSeen


def fsck(
    place: str,
    believed: Believed,
    *,
    origin: str | None = None,
    jobs: int = 1,
    on_progress: Progress | None = None,
) -> Report:
    """Check a published log, or a folder of them with its epoch log.

    Raises LogSourceError where it cannot be read, and UsageError where no log is published.
    """
    check = _Fsck(place, believed, jobs, on_progress or _nobody)
    return Report([check.single(origin)]) if check.is_single(origin) else check.whole()


def checkpoints(place: str, believed: Believed, *, origin: str | None = None) -> list[LogReport]:
    """Open the checkpoint of a published log, or of each in a folder of them; raises as `fsck` does.

    The faults of a shard are those of its checkpoint.
    """
    check = _Fsck(place, believed, 1, _nobody)
    if check.is_single(origin):
        return [check.open("", origin)]
    epoch, shards, _ = check.open_all()
    return [epoch, *shards]


class _Fsck:
    def __init__(self, place: str, believed: Believed, jobs: int, on_progress: Progress) -> None:
        self.place, self.believed, self.jobs = place, believed, jobs
        self.source = open_source(place)
        self._on_progress = on_progress
        self._done = self._known = 0

    def is_single(self, origin: str | None) -> bool:
        """Tell a log from a folder of logs."""
        if self.source.read(CHECKPOINT) is not None:
            return True
        if origin is not None:
            raise UsageError(f"{self.place}: --origin is for a single log, and here is no checkpoint of one")
        return False

    # ---- the story -------------------------------------------------------------------------------------

    def single(self, origin: str | None) -> LogReport:
        """Check the one log that is published at the place itself."""
        report = self.open("", origin)
        self._check([report], are_shards_at_hand=False)
        return report

    def whole(self) -> Report:
        """Check the epoch log, then every shard that it lists or records, and every other that is there."""
        epoch, shards, seen = self.open_all()
        self._check(shards, are_shards_at_hand=False)
        return Report([epoch, *shards], foreign=seen.foreign)

    def open_all(self) -> tuple[LogReport, list[LogReport], EpochSeen]:
        """Check the epoch log, which says what there must be, and open every shard's checkpoint."""
        # The epoch log's checkpoint is read first, so a log that grows meanwhile is never behind it.
        epoch = self.open(EPOCH_PATH, self.believed.log_name)
        found = published_paths(self.source)
        if epoch.checkpoint is None and not found and self.source.at(EPOCH_PATH).read(CHECKPOINT) is None:
            raise UsageError(f"no log is published at {self.place}")
        seen = self._check([epoch], are_shards_at_hand=True)[epoch.path]
        assert isinstance(seen, EpochSeen)  # noqa: S101 - its origin is the log's name
        prefix = self.believed.log_name + "/"
        named = {origin.removeprefix(prefix) for origin in (*seen.listed, *seen.largest)}
        paths = sorted(path for path in named | found if SHARD_PATH.fullmatch(path))
        return epoch, [shard for path in paths for shard in self._open_shard(path, seen)], seen

    # ---- one log ---------------------------------------------------------------------------------------

    def _open_shard(self, path: str, seen: EpochSeen) -> Iterator[LogReport]:
        """Open a shard and the closed ones that it follows."""
        origin = f"{self.believed.log_name}/{path}"
        closed = closed_shards(self.source, path)
        report = self.open(path, origin, must_exist=origin in seen.largest and not closed)
        report.recorded = seen.covered.get(origin, 0)
        listed, own = seen.shard_ids.get(origin, set()), about(self.source, path)
        if closed and report.checkpoint and own is not None and own.shard_id not in listed:
            report.faults.append(_unlisted(own.shard_id))
        # One that is listed and was never recorded has nothing to seal yet.
        if report.checkpoint or report.faults:
            yield report
        for closed_path, shard_id in closed.items():
            old = self.open(closed_path, origin, must_exist=False)
            old.is_closed = True
            if old.checkpoint and shard_id not in listed:
                old.faults.append(_unlisted(shard_id))
            if old.checkpoint or old.faults:
                yield old

    def open(self, path: str, origin: str | None, *, must_exist: bool = True) -> LogReport:
        """Open a checkpoint; what is wrong with it is the report's first fault."""
        data = self.source.at(path).read(CHECKPOINT)
        report = LogReport(origin or self.believed.log_name, path)
        try:
            if data is None:
                if must_exist:
                    raise CheckpointError("is missing")
                return report
            report.origin = origin or self._origin_of(data)
            report.checkpoint = self.believed.open(data, report.origin)
        except FormatError as error:
            report.faults.append(Fault(0, CHECKPOINT, FaultKind.CHECKPOINT, str(error)))
        return report

    def _origin_of(self, data: bytes) -> str:
        """Whose checkpoint it claims to be, where nobody said whose it must be."""
        origin = parse_checkpoint(parse_note(data).text).origin
        if not self.believed.owns(origin):
            raise CheckpointError(f"is of {origin!r}, which does not belong to {self.believed.log_name!r}")
        return origin

    # ---- spans -----------------------------------------------------------------------------------------

    def _check(self, reports: Sequence[LogReport], *, are_shards_at_hand: bool) -> dict[str, Seen]:
        """Recompute the trees of logs whose checkpoints hold; what was seen of each, by its path."""
        joins = {
            each.path: _Join(self.source, each, self._new_seen(each, are_shards_at_hand)) for each in reports
        }
        self._known += sum(each.size for each in reports)

        def tasks() -> Iterator[SpanTask]:
            for each in reports:
                if each.checkpoint is None:
                    continue
                for number in range(span_count(each.size)):
                    if joins[each.path].gave_up:
                        break
                    yield SpanTask(
                        self.place, each.path, each.checkpoint, number, self.believed, are_shards_at_hand
                    )

        for task, span, seen in in_order(run_span, tasks(), self._workers(reports)):
            joins[task.path].add(span, seen)
            self._done += span.leaves
            self._on_progress(self._done, self._known)
        for each in reports:
            if each.checkpoint is not None:
                each.faults += joins[each.path].finish(each.checkpoint.root)
        return {path: join.seen for path, join in joins.items()}

    def _workers(self, reports: Sequence[LogReport]) -> int:
        """How many processes are worth their start: over a network waiting is what is shared."""
        if not isinstance(self.source, FolderSource):
            return min(self.jobs, sum(span_count(each.size) for each in reports))
        return min(self.jobs, sum(each.size for each in reports) // LEAVES_A_WORKER)

    def _new_seen(self, report: LogReport, are_shards_at_hand: bool) -> Seen:
        return EpochSeen(are_shards_at_hand) if report.origin == self.believed.log_name else LeavesSeen()


class _Join:
    """The spans of one log as they come in."""

    def __init__(self, source: LogSource, report: LogReport, seen: Seen) -> None:
        self._rebuild = Rebuild(source.at(report.path), report.size)
        self._size, self._between = report.size, list[Fault]()
        self.seen, self.gave_up = seen, False

    def add(self, span: Span, seen: Seen) -> None:
        if self.gave_up:
            return
        self._rebuild.add(span)
        for index, reason in self.seen.follow(cast("Any", seen)):  # both are of one log
            self._between.append(self._fault(index, reason))
        self.gave_up = span.gave_up

    def finish(self, root: bytes) -> list[Fault]:
        for index, reason in self.seen.complaints():
            self._between.append(self._fault(index, reason))
        return self._rebuild.finish(root, self._between)

    def _fault(self, index: int, reason: str) -> Fault:
        return Fault(index, bundle_path(index, self._size), FaultKind.ORDER, reason)


def run_span(task: SpanTask) -> tuple[SpanTask, Span, Seen]:
    """Check one span: what a worker process does."""
    source = open_source(task.place)
    check: EpochOrder | LeafOrder
    if task.checkpoint.origin == task.believed.log_name:
        published = PublishedShards(source, task.believed).trees if task.are_shards_at_hand else None
        names = task.believed.log_name, shard_list_name(task.believed.log_name)
        check = EpochOrder(*names, task.believed.verify, published)
    else:
        check = LeafOrder()
    span = check_span(source.at(task.path), task.checkpoint.size, task.number, check)
    return task, span, check.seen


def _unlisted(shard_id: str) -> Fault:
    reason = f"no signed list of shards names {shard_id}, which takes another one's place or gave up its own"
    return Fault(0, CHECKPOINT, FaultKind.CHECKPOINT, reason)


def bundle_path(index: int, size: int) -> str:
    """The entry bundle that holds leaf `index` in a tree of `size` leaves."""
    bundle = index // TILE_WIDTH
    return Tile(ENTRIES, bundle, min(TILE_WIDTH, size - bundle * TILE_WIDTH)).path


def _nobody(_done: int, _known: int) -> None:
    pass
