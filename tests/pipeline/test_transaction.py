"""The producer side of exactly once, where the library does not keep its word."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import kafka, transaction
from pipeline.bounded import StalledCallError
from pipeline.settings import Settings
from pipeline.statestore import Partition
from pipeline.transaction import Delivered, TransactionalProducer, TransactionError

TIMEOUT_S = 0.2
PLACE = ("device.telemetry.raw", 0)


class Library:
    """A producer of which single calls hang until `release`, or leave records behind."""

    def __init__(self) -> None:
        self.hanging, self.left, self.called = "", 0, list[str]()
        self.sent: list[tuple[Any, Any]] = []
        self.release = threading.Event()
        self.conf: dict[str, Any] = {}
        self.room = 1
        """Records that the queue has room for; to ask for acknowledgements makes room for one."""
        self.produced: list[tuple[str, Any]] = []

    def make(self, _settings: Settings, **conf: Any) -> "Library":
        self.conf = conf
        return self

    def _call(self, name: str) -> None:
        self.called.append(name)
        if name == self.hanging:
            self.release.wait()

    def produce(self, topic: str, value: Any, *_rest: Any) -> None:
        if not self.room:
            raise BufferError("Local: Queue full")
        self.room -= 1
        self.produced.append((topic, value))

    def poll(self, _timeout_s: float) -> int:
        self._call("poll")
        self.room += self.hanging != "queue"
        return 1

    def init_transactions(self, _timeout_s: float) -> None:
        self._call("init")

    def flush(self, _timeout_s: float) -> int:
        self._call("flush")
        return self.left

    def send_offsets_to_transaction(self, offsets: Any, metadata: Any, _timeout_s: float) -> None:
        self.sent.append((offsets, metadata))
        self._call("offsets")

    def commit_transaction(self, _timeout_s: float) -> None:
        self._call("commit")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Library()
    monkeypatch.setattr(kafka, "producer", made.make)
    yield made
    made.release.set()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    seconds: list[dict[str, float]] = []
    monkeypatch.setattr(transaction, "SLOW_S", 0.0)
    monkeypatch.setattr(transaction.log, "info", lambda _text, **more: seconds.append(more["seconds"]))
    return seconds


def producer(tmp_path: Path, **more: Any) -> TransactionalProducer:
    settings = Settings(data_dir=tmp_path, transaction_timeout_s=TIMEOUT_S)
    return TransactionalProducer(settings, "t.0", **more)


def commit(made: TransactionalProducer) -> None:
    made.commit("a membership", {PLACE: 7}, lambda _place: "a note")


def test_a_full_queue_is_waited_for_and_loses_nothing(tmp_path: Path, library: Library) -> None:
    made = producer(tmp_path)
    for number in range(4):
        made.produce("topic", b"%d" % number)
    assert library.produced == [("topic", b"%d" % number) for number in range(4)]


def test_a_queue_that_stays_full_ends_the_session_and_not_the_process(
    tmp_path: Path, library: Library
) -> None:
    made = producer(tmp_path)
    library.hanging = "queue"
    made.produce("topic", b"0")
    with pytest.raises(TransactionError, match="full queue"):
        made.produce("topic", b"1")
    assert library.produced == [("topic", b"0")]


def test_a_commit_flushes_first_and_tells_what_it_waited_for(
    tmp_path: Path, library: Library, told: list[dict[str, float]]
) -> None:
    commit(producer(tmp_path))
    assert library.called == ["init", "flush", "offsets", "commit"]
    assert [list(seconds) for seconds in told] == [["flush", "offsets", "commit"]]


@pytest.mark.parametrize("hanging", ["flush", "offsets", "commit"])
def test_a_call_that_hangs_is_left_behind_and_named(
    tmp_path: Path, library: Library, told: list[dict[str, float]], hanging: str
) -> None:
    made = producer(tmp_path)
    library.hanging = hanging
    with pytest.raises(StalledCallError):
        commit(made)
    assert list(told[0])[-1] == library.called[-1] == hanging
    with pytest.raises(StalledCallError, match="never returned"):
        commit(made)


def test_a_commit_that_was_begun_is_under_way_until_it_is_asked_for(tmp_path: Path, library: Library) -> None:
    made, asked = producer(tmp_path), list[threading.Thread]()
    made.finish_commit()  # nothing was begun
    library.hanging = "flush"

    def note(_place: Partition) -> str:
        asked.append(threading.current_thread())
        return "a note"

    next_offsets = {PLACE: 7}
    made.start_commit("a membership", next_offsets, note)
    next_offsets[PLACE] = 9  # the next batch's
    assert not asked
    library.release.set()
    made.finish_commit()
    assert library.called == ["init", "flush", "offsets", "commit"]
    assert [each is not threading.current_thread() for each in asked] == [True]
    (([place], membership),) = library.sent
    assert (place.topic, place.partition, place.offset, place.metadata) == (*PLACE, 7, "a note")
    assert membership == "a membership"


def test_what_a_commit_under_way_met_is_raised_where_it_is_asked_for(
    tmp_path: Path, library: Library
) -> None:
    made = producer(tmp_path)
    library.left = 2
    made.start_commit("a membership", {PLACE: 7}, str)
    with pytest.raises(TransactionError, match="2 records"):
        made.finish_commit()
    made.finish_commit()


def test_a_commit_that_never_began_is_told_as_any_other(
    tmp_path: Path, library: Library, monkeypatch: pytest.MonkeyPatch, told: list[dict[str, float]]
) -> None:
    made = producer(tmp_path)
    monkeypatch.setattr(made, "_end_transaction", lambda *_: library.release.wait())
    with pytest.raises(StalledCallError):
        commit(made)
    assert told == [{}]


def test_records_that_nobody_acknowledged_are_not_committed(tmp_path: Path, library: Library) -> None:
    made = producer(tmp_path)
    library.left = 3
    with pytest.raises(TransactionError, match="3 records"):
        commit(made)
    assert library.called == ["init", "flush"]


def test_a_producer_beats_while_it_fences_its_predecessor(tmp_path: Path, library: Library) -> None:
    library.hanging = "init"
    producer(tmp_path, beat=library.release.set)
    assert library.called == ["init"]


def test_a_broker_that_stands_still_leaves_time_for_a_second_chance(tmp_path: Path, library: Library) -> None:
    producer(tmp_path)
    assert library.conf["socket.timeout.ms"] < library.conf["transaction.timeout.ms"]


def test_an_acknowledgement_without_an_offset_leaves_the_place_unknown() -> None:
    delivered = Delivered()
    for offset, place in ((7, 8), (None, None), (9, 10)):
        delivered(None, SimpleNamespace(offset=lambda offset=offset: offset))  # type: ignore[arg-type]
        assert delivered.next_offset == place
