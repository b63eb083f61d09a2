"""Builds that are wrong on purpose: each breaks one rule that the guarantees rest on.

Applied in a freshly forked worker, never in the product. `make faults-broken` (brokenrun.py) shows that the
machine finds each of them; a machine that finds nothing has not proved that there is nothing.
"""

from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaException, TopicPartition

from tests.faults.machine.ledgers.broken import LEDGER_BROKEN
from tests.faults.machine.notify.broken import NOTIFY_BROKEN

Break = Callable[[], None]


def _commit_before_flush() -> None:
    """Source offsets are committed before the outputs are flushed: a kill in between loses records."""
    from pipeline import ingest, transaction

    real = ingest.IngestSession._write

    def write(self: Any, producer: Any, outcomes: Any, began_at: float) -> None:
        producer.consumer = self._member.consumer
        real(self, producer, outcomes, began_at)

    def end(self: Any, _membership: Any, next_offsets: Any, _note: Any) -> None:
        places = [TopicPartition(topic, number, at) for (topic, number), at in next_offsets.items()]
        self.consumer.commit(offsets=places, asynchronous=False)
        self._producer.flush(self._timeout_s)
        self._producer.commit_transaction(self._timeout_s)

    ingest.IngestSession._write = write  # type: ignore[method-assign]
    transaction.TransactionalProducer._end_transaction = end  # type: ignore[method-assign, assignment]


def _state_before_commit() -> None:
    """RocksDB takes the state before the transaction has committed: what was never accepted is remembered."""
    from pipeline import ingest

    real = ingest.IngestSession._write

    def write(self: Any, producer: Any, outcomes: Any, began_at: float) -> None:
        start = producer.start_commit

        def store_first(membership: Any, next_offsets: Any, note: Any) -> None:
            self._store.write(note.__self__._changes, {})
            start(membership, next_offsets, note)

        producer.start_commit = store_first
        try:
            real(self, producer, outcomes, began_at)
        finally:
            del producer.start_commit

    ingest.IngestSession._write = write  # type: ignore[method-assign]


def _sign_before_publish() -> None:
    """A checkpoint is signed and published before its tiles are."""
    from pipeline import seal
    from pipeline.sessions import SupersededError
    from pipeline.tilestore import CheckpointConflictError, sync_stores

    def publish(self: Any) -> None:
        dirty = [shard for shard in self._shards.values() if shard.is_dirty]
        for shard in dirty:
            waiting = list(shard._unpublished)
            try:
                shard.sign()
            except CheckpointConflictError as error:
                raise SupersededError(str(error)) from error
            shard._unpublished = waiting
            shard.stage()
            shard._unpublished = []
        sync_stores(shard.published for shard in dirty)

    seal.SealSession._publish = publish  # type: ignore[method-assign]


def _unconditional_checkpoint() -> None:
    """The published checkpoint is replaced whatever it is: a resumed zombie takes the log back."""
    from pipeline import tilestore

    def replace(self: Any, expected: bytes | None, new: bytes) -> None:
        temporary = self._write_temporary(self._root / tilestore.CHECKPOINT, new)
        temporary.replace(self._root / tilestore.CHECKPOINT)

    tilestore.LocalTileStore.compare_and_set_checkpoint = replace  # type: ignore[method-assign]


def _replay_check_dropped() -> None:
    """What was accepted before is accepted again."""
    from processors import admit
    from schemas.reasons import Reason

    real = admit._check

    def check(*arguments: Any) -> Any:
        rejection = real(*arguments)
        return None if rejection is not None and rejection.reason is Reason.REPLAY else rejection

    admit._check = check  # type: ignore[assignment]


def _restore_to_read_committed_end() -> None:
    """State is restored to where read-committed readers stand, which an open transaction may hold back."""
    from confluent_kafka import IsolationLevel
    from confluent_kafka.admin import OffsetSpec

    from pipeline import kafka

    real = kafka.end_offsets

    def end_offsets(client: Any, partitions: Any) -> Any:
        if not all(topic.endswith(_changelog_suffix()) for topic, _number in partitions):
            return real(client, partitions)
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        wanted = {TopicPartition(topic, number): latest for topic, number in partitions}
        found = client.list_offsets(wanted, isolation_level=IsolationLevel.READ_COMMITTED)
        return {(tp.topic, tp.partition): f.result(20).offset for tp, f in found.items()}

    kafka.end_offsets = end_offsets
    _believe_changelogs()


def _believe_changelogs() -> None:
    """Drop the next rule, that a restore ends where offsets say: it refuses what breaking this one does."""
    from pipeline.changelogmark import ChangelogMark

    ChangelogMark.denied_by = ChangelogMark.denied_by_copy = lambda *_: ""  # type: ignore[assignment]


def _changelog_suffix() -> str:
    from pipeline.topics import changelog_of

    return changelog_of("x")[1:]


def _tick_without_offsets() -> None:
    """A transaction that time alone began sends no offsets: nothing fences a resumed zombie."""
    from pipeline import ingest, transaction

    real_write = ingest.IngestSession._write
    real_end = transaction.TransactionalProducer._end_transaction

    def write(self: Any, producer: Any, outcomes: Any, began_at: float) -> None:
        producer.with_records = {p for p, o in outcomes.items() if o.accepted or o.rejected}
        real_write(self, producer, outcomes, began_at)

    def end(self: Any, membership: Any, next_offsets: Any, note: Any) -> None:
        kept = {p: at for p, at in next_offsets.items() if p in self.with_records}
        if kept:
            real_end(self, membership, kept, note)
            return
        self._producer.flush(self._timeout_s)
        self._producer.commit_transaction(self._timeout_s)

    ingest.IngestSession._write = write  # type: ignore[method-assign]
    transaction.TransactionalProducer._end_transaction = end  # type: ignore[method-assign]
    _believe_changelogs()


def _acknowledged_on_abort() -> None:
    """A transaction that failed is taken for done, and the loop goes on."""
    from pipeline import transaction
    from pipeline.kafka import is_fatal
    from pipeline.settings import PipelineError

    real = transaction.TransactionalProducer.finish_commit

    def finish(self: Any) -> None:
        try:
            real(self)
        except (KafkaException, PipelineError) as error:
            if isinstance(error, KafkaException) and is_fatal(error):
                raise
            self._producer.abort_transaction(self._timeout_s)

    transaction.TransactionalProducer.finish_commit = finish  # type: ignore[method-assign]
    _believe_changelogs()


def _fsync_skipped() -> None:
    """Nothing that seal publishes is made durable: only a power cut tells."""
    from pipeline import tilestore

    tilestore._fsync = lambda path: None
    tilestore._syncfs = lambda _folder: None


BROKEN: dict[str, Break] = {
    "commit_before_flush": _commit_before_flush,
    "state_before_commit": _state_before_commit,
    "sign_before_publish": _sign_before_publish,
    "unconditional_checkpoint": _unconditional_checkpoint,
    "replay_check_dropped": _replay_check_dropped,
    "restore_to_read_committed_end": _restore_to_read_committed_end,
    "tick_without_offsets": _tick_without_offsets,
    "acknowledged_on_abort": _acknowledged_on_abort,
    "fsync_skipped": _fsync_skipped,
}


def apply(name: str) -> None:
    """Break this process."""
    {**BROKEN, **LEDGER_BROKEN, **NOTIFY_BROKEN}[name]()
