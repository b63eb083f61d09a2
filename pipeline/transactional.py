"""What the workers that write in transactions have in common around their steps: ingest, profile and route.

A member of the group, a fenced producer, the one recovery and a working copy that outlives the sessions.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from pipeline import kafka
from pipeline.batchsize import BatchSize
from pipeline.brokerless import WatchedAdmin
from pipeline.changelogmark import ChangelogMark
from pipeline.lag import Lag
from pipeline.membership import GroupMember
from pipeline.patience import LeavingError
from pipeline.recovery import Recovery
from pipeline.sessions import run_sessions
from pipeline.settings import Settings
from pipeline.stage import Health, StageState, Stop, state_dir
from pipeline.statestore import Partition, StateStore
from pipeline.transaction import TransactionalProducer

CONSUME_WAIT_S = 0.1


class TransactionalSession(ABC):
    """One worker slot from its first assignment to its first failure."""

    stage: ClassVar[str]
    topics: ClassVar[tuple[str, ...]]
    with_headers: ClassVar[bool] = True
    stops_alone: ClassVar[bool] = False
    """See Recovery."""

    def __init__(
        self,
        settings: Settings,
        slot: int,
        health: Health,
        store: StateStore,
        admin: WatchedAdmin | None = None,
    ) -> None:
        self._settings, self._health, self._store = settings, health, store
        self._admin = admin or kafka.admin(settings)
        self._member = GroupMember(
            settings, self._admin, self.stage, slot, list(self.topics), with_headers=self.with_headers
        )
        self._recovery = Recovery(
            settings,
            self._admin,
            store,
            transactional_id=f"{settings.log_name}.{self.stage}.{slot}",
            on_progress=self._restoring,
            stops_alone=self.stops_alone,
        )
        self._stop = Stop()
        self._producer: TransactionalProducer | None = None
        self._marks: dict[Partition, ChangelogMark] = {}
        self._next_offsets: dict[Partition, int] = {}
        self._lag = Lag(self.stage)
        self._batch_size = BatchSize(settings.batch_records)

    @classmethod
    def work(cls, settings: Settings, slot: int, health: Health, stop: Stop) -> None:
        """Run session after session; the working copy on disk outlives them."""
        store = StateStore(state_dir(settings, cls.stage, slot) / "rocksdb")
        try:
            run_sessions(cls.stage, lambda: cls(settings, slot, health, store), health, stop)
        finally:
            store.close()

    def run(self, stop: Stop) -> None:
        """Step until asked to stop; an assignment leads through recovery, a failure ends the session."""
        self._stop = stop
        self._store.mend()
        while not stop.requested and not self._is_over():
            self.step()
            if self._member.changed:
                self._recover()

    @abstractmethod
    def step(self) -> None:
        """Consume, decide, write, commit."""

    @abstractmethod
    def _recover(self) -> None:
        """Forget memory; bring producer, state and positions to the last commit (pipeline/recovery.py)."""

    def _is_over(self) -> bool:
        """Tell whether another session must take this one's place."""
        return False

    def close(self) -> None:
        """Leave off; what was not committed is nobody's."""
        self._drop_producer()
        self._member.close()

    def _drop_producer(self) -> None:
        if self._producer is not None:
            self._producer.close()
        self._producer = None

    def _restoring(self, detail: str) -> None:
        """Say how far a recovery is; raises LeavingError when asked to leave: there is nothing to commit."""
        self._health.beat(StageState.RESTORING, detail)
        if self._stop.requested:
            raise LeavingError("left before the recovery was done")

    def _is_at_work(self) -> bool:
        """Tell whether there is an assignment with its states; says what is waited for while there is not."""
        if not self._member.has_joined:
            self._health.beat(StageState.STARTING, "waiting for an assignment")
            return False
        if self._member.changed:
            # An assignment without its states is not yet work.
            self._health.beat(StageState.RESTORING, f"assigned {len(self._member.assigned)} partitions")
            return False
        self._lag.look(self._member, self._next_offsets)
        return True
