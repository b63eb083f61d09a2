"""Up to when all has been judged: lag, outages and recoveries never make a fleet silent."""

import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.clock import OUTAGE_S, FleetClock
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.statestore import Partition

A: Partition = ("device.telemetry.raw", 0)
B: Partition = ("device.telemetry.raw", 1)
SILENCE_S = 30.0
START_S = 1_700_000_000


@dataclass
class _Offset:
    offset: int


class Cluster:
    """Log ends, as an admin client tells them; and the time, which the test moves."""

    def __init__(self) -> None:
        self.now_us = START_S * 1_000_000
        self.ends = {A: 0, B: 0}
        self.asked: list[list[Partition]] = []
        self.is_down = self.is_slow = False

    def time_ns(self) -> int:
        return self.now_us * 1000

    def after(self, seconds: float) -> None:
        self.now_us += round(seconds * 1e6)

    def list_offsets(self, wanted: Mapping[TopicPartition, Any], **_: Any) -> dict[TopicPartition, Any]:
        self.asked.append(sorted((tp.topic, tp.partition) for tp in wanted))
        found = {}
        for place in wanted:
            found[place] = Future[_Offset]()
            if self.is_down:
                found[place].set_exception(KafkaException(KafkaError(KafkaError._TRANSPORT)))
            elif not self.is_slow:
                found[place].set_result(_Offset(self.ends[place.topic, place.partition]))
        return found


class Worker:
    """A clock as the stage drives it: positions first, then a new question."""

    def __init__(self, cluster: Cluster, partitions: tuple[Partition, ...] = (A, B)) -> None:
        self.cluster, self.next_offsets = cluster, dict.fromkeys(partitions, 0)
        self.recover()

    def recover(self) -> None:
        self.clock = FleetClock(list(self.next_offsets), SILENCE_S, 0.5)

    def tick(self, after_s: float = 0.5) -> None:
        self.cluster.after(after_s)
        self.clock.reached(self.next_offsets)
        self.clock.ask(self.cluster)  # type: ignore[arg-type]

    def tick_for(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.5)):
            self.tick()

    def horizon_s(self, partition: Partition = A) -> float | None:
        """The horizon in seconds since the start of the test."""
        found = self.clock.horizon_us(partition)
        return None if found is None else found / 1e6 - START_S

    def complete_s(self, partition: Partition = A) -> float:
        return self.clock.complete_until_us(partition) / 1e6 - START_S


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(time, "time_ns", made.time_ns)
    return made


def test_deadlines_run_from_the_start_and_not_from_before_it(cluster: Cluster) -> None:
    worker = Worker(cluster)
    for _ in range(60):
        worker.tick()
        assert worker.horizon_s() is None
    worker.tick_for(1)
    assert worker.horizon_s() == worker.complete_s() - SILENCE_S
    assert 0 <= (worker.horizon_s() or 0) <= 1


def test_all_is_judged_up_to_the_moment_of_the_question_not_of_the_answer(cluster: Cluster) -> None:
    worker = Worker(cluster)
    cluster.ends[A] = 5
    worker.tick()  # asked at 0.5: the log ends at 5
    worker.next_offsets[A] = 4
    worker.tick()
    assert worker.complete_s() == 0
    cluster.ends[A] = 50
    worker.next_offsets[A] = 5
    worker.tick()
    assert worker.complete_s() == 0.5
    assert cluster.asked[:3] == [[A, B], [B], [A, B]]


def test_nobody_is_silent_while_records_wait_to_be_judged(cluster: Cluster) -> None:
    worker = Worker(cluster)
    worker.tick_for(40)
    before = worker.horizon_s()
    cluster.ends[A] = 1000
    worker.tick_for(1)
    stuck = worker.horizon_s()
    worker.tick_for(600)  # ten minutes of lag: nothing more is known of this partition
    assert worker.horizon_s() == stuck
    assert before is not None
    assert stuck is not None
    assert stuck - before <= 1.5
    # Another partition's deadlines go on.
    assert worker.horizon_s(B) == worker.complete_s(B) - SILENCE_S > 600
    # Once it is read up, its deadlines start anew: the fleet is not silent because we were.
    cluster.ends[A] = worker.next_offsets[A] = 1000
    worker.tick()
    worker.tick()
    assert worker.horizon_s() is None
    worker.tick_for(29)
    assert worker.horizon_s() is None
    worker.tick_for(2)
    assert worker.horizon_s() is not None


def test_an_outage_of_the_cluster_is_no_silence(cluster: Cluster) -> None:
    worker = Worker(cluster)
    worker.tick_for(40)
    cluster.is_down = True
    before = worker.horizon_s()
    worker.tick_for(100)
    found = worker.horizon_s()
    assert before is not None
    assert found is not None
    assert found - before <= 1
    cluster.is_down = False
    worker.tick()
    worker.tick()
    assert worker.horizon_s() is None


def test_a_question_on_its_way_is_not_asked_again_and_nobody_waits_for_it(cluster: Cluster) -> None:
    worker = Worker(cluster)
    cluster.is_slow = True
    worker.tick_for(10)
    assert cluster.asked == [[A, B]]
    assert worker.complete_s() == 0


def test_only_a_client_that_never_gets_an_answer_ends_the_session(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("pipeline.clock.time.monotonic", lambda: now)
    worker = Worker(cluster)
    for is_down in (True, False, True):  # an answer in between starts the patience anew
        cluster.is_down = is_down
        worker.tick()
        now += CALL_TIMEOUT_S - 1
        worker.tick()
    now += CALL_TIMEOUT_S
    worker.tick()
    now += 1
    with pytest.raises(KafkaException):
        worker.tick()


def test_a_recovery_restarts_every_deadline(cluster: Cluster) -> None:
    worker = Worker(cluster)
    worker.tick_for(40)
    assert worker.horizon_s() is not None
    cluster.after(100)
    worker.recover()
    for _ in range(60):
        assert worker.horizon_s() is None
        worker.tick()
    worker.tick_for(1)
    assert (worker.horizon_s() or 0) >= 140


def test_a_stage_without_partitions_asks_nothing(cluster: Cluster) -> None:
    Worker(cluster, ()).tick_for(2)
    assert cluster.asked == []


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "read", "read", "tick", "tick", "tick", "down", "up", "recover"]),
        st.sampled_from([0.1, 0.5, 1.0, 4.0, 10.0, 60.0]),
    ),
    max_size=80,
)


@given(STEPS)
@settings(max_examples=200)
def test_whatever_happens_a_horizon_rests_on_complete_knowledge(steps: list[tuple[str, float]]) -> None:
    """Every record below the horizon's knowledge was read, and deadlines never reach into an outage."""
    cluster = Cluster()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", cluster.time_ns)
        worker = Worker(cluster, (A,))
        appended: list[int] = []
        known_from = cluster.now_us  # since when knowledge had no hole longer than the limit
        complete = began = worker.clock.complete_until_us(A)
        for step, wait_s in steps:
            cluster.after(wait_s)
            if step == "write":
                appended.append(cluster.now_us)
                cluster.ends[A] = len(appended)
            elif step == "read":
                worker.next_offsets[A] = min(len(appended), worker.next_offsets[A] + 2)
            elif step == "recover":
                worker.recover()
                complete = known_from = began = cluster.now_us
            elif step in ("up", "down"):
                cluster.is_down = step == "down"
            else:
                try:
                    worker.tick(0)
                except KafkaException:
                    assert cluster.is_down
            found = worker.clock.complete_until_us(A)
            assert found >= complete, "knowledge went back"
            if found - complete > OUTAGE_S * 1e6:
                known_from = found
            complete = found
            if complete > began:  # before the first answer nothing is claimed
                unread = appended[worker.next_offsets[A] :]
                assert all(moment >= complete for moment in unread), "said complete, but records wait"
            horizon = worker.clock.horizon_us(A)
            if horizon is not None:
                assert known_from <= horizon <= complete - SILENCE_S * 1e6
