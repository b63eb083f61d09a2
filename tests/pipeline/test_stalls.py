"""A partition that the client library no longer fetches: told from a slow, a quiet and a held-back one."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaException

from pipeline.stalls import OWED_S, QUIET_S, StalledPartitionError, Stalls

A, B = ("device.telemetry.raw", 0), ("device.telemetry.raw", 1)


class Admin:
    """Answers with the ends it is given; None never answers, an exception is the answer."""

    def __init__(self) -> None:
        self.ends: dict[tuple[str, int], int | Exception | None] = {}
        self.asked: list[set[tuple[str, int]]] = []

    def check(self) -> None:
        """It has its brokers."""

    def list_offsets(self, wanted: Any, **_options: Any) -> dict[Any, Future[Any]]:
        self.asked.append({(tp.topic, tp.partition) for tp in wanted})
        answers = {}
        for place in wanted:
            end, answer = self.ends[place.topic, place.partition], Future[Any]()
            if isinstance(end, Exception):
                answer.set_exception(end)
            elif end is not None:
                answer.set_result(SimpleNamespace(offset=end))
            answers[place] = answer
        return answers


class Loop:
    """A stage's loop of one look a second, on a clock of the test's own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.admin = 1000.0, Admin()
        monkeypatch.setattr("pipeline.stalls.time.monotonic", lambda: self.now)
        self.stalls = Stalls(self.admin)  # type: ignore[arg-type]

    def run(self, seconds: float, places: dict[tuple[str, int], int], *, drained: bool = True) -> None:
        for _ in range(int(seconds)):
            self.now += 1.0
            if drained:
                self.stalls.drained()
            self.stalls.look(places)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    return Loop(monkeypatch)


LONG = 4 * (QUIET_S + OWED_S)


def test_records_that_are_never_handed_out(loop: Loop) -> None:
    loop.admin.ends = {A: 7, B: 9}
    with pytest.raises(StalledPartitionError, match=r"telemetry\.raw\[1\] has had records from 5 on"):
        loop.run(QUIET_S + OWED_S + 5, {A: 7, B: 5})


def test_a_quiet_partition_is_asked_for_now_and_then(loop: Loop) -> None:
    loop.admin.ends = {A: 7}
    loop.run(LONG, {A: 7})
    assert 2 <= len(loop.admin.asked) <= LONG / QUIET_S


def test_a_moving_partition_is_never_asked_for(loop: Loop) -> None:
    for at in range(100):
        loop.run(1, {A: at})
    assert not loop.admin.asked


def test_what_comes_late_clears_it(loop: Loop) -> None:
    loop.admin.ends = {A: 9}
    loop.run(QUIET_S + OWED_S - 2, {A: 5})
    loop.run(QUIET_S - 2, {A: 9})
    loop.run(LONG, {A: 9})


def test_a_client_that_still_holds_others_records_may_be_slow(loop: Loop) -> None:
    loop.admin.ends = {A: 9}
    loop.run(LONG, {A: 5}, drained=False)
    with pytest.raises(StalledPartitionError):
        loop.run(2, {A: 5})


def test_nobody_answers(loop: Loop) -> None:
    loop.admin.ends = {A: None}
    loop.run(LONG, {A: 5})
    assert len(loop.admin.asked) == 1


def test_a_refused_question_is_asked_again(loop: Loop) -> None:
    loop.admin.ends = {A: KafkaException("not now")}
    loop.run(2 * QUIET_S, {A: 5})
    loop.admin.ends = {A: 9}
    with pytest.raises(StalledPartitionError):
        loop.run(LONG, {A: 5})


def test_a_new_beginning_gives_time_anew(loop: Loop) -> None:
    loop.admin.ends = {A: 9}
    loop.run(QUIET_S + OWED_S - 2, {A: 5})
    loop.stalls.begin()
    loop.run(QUIET_S + OWED_S - 2, {A: 5})


def test_a_partition_that_is_taken_away_is_owed_nothing(loop: Loop) -> None:
    loop.admin.ends = {A: 9}
    loop.run(QUIET_S + 3, {A: 5})
    loop.run(LONG, {})
