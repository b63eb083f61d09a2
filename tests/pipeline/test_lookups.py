"""Small questions to a cluster whose leaders move: asked again, with more patience, and not for ever."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from pipeline import kafka
from pipeline.kafka import CALL_TIMEOUT_S, asked


class Cluster:
    """Refuses with these errors, one after another, and then answers; a silent one uses up its time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refusals: list[int] | None = None) -> None:
        self.now, self.refusals, self.tries = 1000.0, refusals, list[float]()
        monkeypatch.setattr("pipeline.kafka.time.monotonic", lambda: self.now)
        monkeypatch.setattr("pipeline.kafka.time.sleep", self.pass_)

    def pass_(self, seconds: float) -> None:
        self.now += seconds

    def ask(self, within_s: float) -> str:
        self.tries.append(within_s)
        if self.refusals is None:
            self.pass_(within_s)
            raise TimeoutError
        if self.refusals:
            raise KafkaException(KafkaError(self.refusals.pop(0)))
        return "an answer"


def test_an_answer_is_given_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, [])
    assert asked(cluster.ask) == "an answer"
    assert cluster.tries == [kafka.FIRST_TRY_S]


def test_leaders_that_move_are_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(
        monkeypatch,
        [KafkaError.FENCED_LEADER_EPOCH, KafkaError.LEADER_NOT_AVAILABLE, KafkaError._TIMED_OUT],
    )
    assert asked(cluster.ask) == "an answer"


def test_what_does_not_pass_is_raised_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, [KafkaError.TOPIC_AUTHORIZATION_FAILED])
    with pytest.raises(KafkaException):
        asked(cluster.ask)
    assert len(cluster.tries) == 1


def test_a_dead_broker_costs_a_second_and_a_slow_one_gets_more_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster(monkeypatch)
    began = cluster.now
    with pytest.raises(TimeoutError):
        asked(cluster.ask)
    assert cluster.tries[:4] == [1, 2, 4, 8]
    assert CALL_TIMEOUT_S - 1 < cluster.now - began <= CALL_TIMEOUT_S + 1
