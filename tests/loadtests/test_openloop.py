"""Records are due by the plan alone: whoever sends late has latency, and a stall is not forgiven."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests import corpusmake
from loadtests.corpus import Corpus
from loadtests.corpusplan import Plan
from loadtests.openloop import UNSET, Generator, Job, Schedule, Sent
from schemas.partition import partition_of

TOPICS = {"telemetry": "t", "access": "a", "lifecycle": "l"}


@given(st.integers(0, 2**60), st.floats(0.01, 1e6), st.integers(0, 10**7))
def test_a_record_is_due_from_its_moment_on_and_not_before(start_ns: int, rate: float, number: int) -> None:
    schedule = Schedule(start_ns, rate)
    at_ns = schedule.intended_ns(number)
    assert schedule.due(at_ns) > number
    if at_ns > start_ns and schedule.intended_ns(number - 1) < at_ns:
        assert schedule.due(at_ns - 1) == number


def test_before_the_start_nothing_is_due_and_without_a_rate_all_is() -> None:
    assert Schedule(1000, 5.0).due(999) == 0
    assert Schedule(1000, 0.0).due(0) > 10**12


class FakeMessage:
    def __init__(self, offset: int) -> None:
        self._offset = offset

    def offset(self) -> int:
        return self._offset


class FakeProducer:
    """Acknowledges at each poll; its queue is full for the first `full` tries."""

    def __init__(self, full: int = 0, fail_at: int | None = None) -> None:
        self.full, self.fail_at = full, fail_at
        self.records: list[tuple[str, bytes, bytes, int]] = []
        self._waiting: list[tuple[Callable[[Any, Any], None], int]] = []

    def produce(
        self, topic: str, value: bytes, key: bytes, partition: int, *, on_delivery: Callable[[Any, Any], None]
    ) -> None:
        if self.full:
            self.full -= 1
            raise BufferError
        self.records.append((topic, value, key, partition))
        self._waiting.append((on_delivery, len(self.records) - 1))

    def poll(self, seconds: float) -> None:
        time.sleep(seconds)
        for told, offset in self._waiting:
            failed = offset == self.fail_at
            told("lost" if failed else None, FakeMessage(offset))
        self._waiting.clear()

    def flush(self, _seconds: float) -> int:
        self.poll(0)
        return 0


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    corpusmake.make(folder, Plan("x.example", 3, 120, 1, 10**15, forged_share=0.1), jobs=1)
    return Corpus(folder)


def job(corpus: Corpus, **changes: Any) -> Job:
    given: dict[str, Any] = {
        "corpus": str(corpus.path),
        "first": 0,
        "count": 120,
        "rate": 0.0,
        "seconds": 0.0,
        "topics": TOPICS,
        "partitions": 4,
        "properties": {},
        "out": "",
    }
    return Job(**{**given, **changes})


def nothing() -> None:
    pass


def test_a_part_is_sent_in_order_to_the_places_of_its_keys(corpus: Corpus) -> None:
    producer = FakeProducer()
    sent = Generator(job(corpus, first=20, count=50), corpus, producer).run(0, nothing)  # type: ignore[arg-type]
    assert [value for _, value, _, _ in producer.records] == [corpus.envelope(n) for n in range(20, 70)]
    assert all(partition == partition_of(key, 4) for _, _, key, partition in producer.records)
    assert sent.offsets.tolist() == list(range(50))
    assert (sent.first, len(sent)) == (20, 50)


def test_latency_begins_when_a_record_was_due_not_when_it_was_sent(corpus: Corpus) -> None:
    late_ns = 3_000_000_000
    start_ns = time.monotonic_ns() - late_ns
    # As after a stall of three seconds: all were due long ago.
    sent = Generator(job(corpus, rate=1000.0), corpus, FakeProducer()).run(start_ns, nothing)  # type: ignore[arg-type]
    intended_ns = sent.intended_ns()
    assert intended_ns.tolist() == [start_ns + number * 1_000_000 for number in range(120)]
    assert (sent.sent_ns - intended_ns).min() > late_ns - 120 * 1_000_000
    assert (sent.acknowledged_ns >= sent.sent_ns).all()


def test_a_full_queue_delays_and_loses_nothing(corpus: Corpus) -> None:
    producer = FakeProducer(full=3)
    Generator(job(corpus), corpus, producer).run(0, nothing)  # type: ignore[arg-type]
    assert len(producer.records) == 120


def test_what_was_not_acknowledged_is_told(corpus: Corpus) -> None:
    generator = Generator(job(corpus), corpus, FakeProducer(fail_at=7))  # type: ignore[arg-type]
    sent = generator.run(0, nothing)
    assert (generator.failed, generator.acknowledged) == (1, 119)
    assert (sent.offsets[7], sent.acknowledged_ns[7]) == (UNSET, UNSET)


def test_a_run_by_time_ends_with_the_last_record_that_is_due_in_it(corpus: Corpus) -> None:
    assert Generator(job(corpus, rate=10.0, seconds=3.0), corpus, FakeProducer()).count == 30  # type: ignore[arg-type]


def test_a_run_that_is_stopped_counts_what_was_sent(corpus: Corpus) -> None:
    generator = Generator(job(corpus, rate=1000.0), corpus, FakeProducer())  # type: ignore[arg-type]
    sent = generator.run(time.monotonic_ns(), generator.stop)
    assert len(sent) == generator.sent < 120
    assert (sent.offsets != UNSET).all()


def test_times_are_kept_in_a_file(corpus: Corpus, tmp_path: Path) -> None:
    sent = Generator(job(corpus, rate=10_000.0), corpus, FakeProducer()).run(5, nothing)  # type: ignore[arg-type]
    sent.save(tmp_path / "sent.npz")
    again = Sent.load(tmp_path / "sent.npz")
    assert (again.first, again.start_ns, again.rate) == (0, 5, 10_000.0)
    assert again.offsets.tolist() == sent.offsets.tolist()
    assert again.intended_ns().tolist() == sent.intended_ns().tolist()
