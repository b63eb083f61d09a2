"""The ledger finds what was lost, judged twice, altered, put out of order or wrongly judged."""

from pathlib import Path

import numpy as np
import pytest

from loadtests import corpusmake
from loadtests.corpus import KINDS, Corpus
from loadtests.corpusplan import Plan
from loadtests.ledger import ACCEPTED, REJECTED, Counting
from loadtests.openloop import UNSET, Sent

TOPICS = {kind.value: f"raw.{kind.value}" for kind in KINDS}
COUNT, FIRST = 40, 10


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder: Path = tmp_path_factory.mktemp("corpus")
    plan = Plan("x.example", 2, 60, 3, 10**15, forged_share=0.2, shares=(0.7, 0.2, 0.1))
    corpusmake.make(folder, plan, jobs=1)
    return Corpus(folder)


class Outputs:
    """A part that was sent to one partition of each topic, and its right verdicts, open to mischief."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        offsets, ends = np.zeros(COUNT, np.int64), dict.fromkeys(range(len(KINDS)), 1000)
        for number in range(COUNT):
            kind = int(corpus.index.kinds[FIRST + number])
            offsets[number], ends[kind] = ends[kind], ends[kind] + 1
        times = np.arange(COUNT, dtype=np.int64)
        self.sent = Sent(FIRST, 0, 1000.0, times, times.copy(), offsets, np.zeros(COUNT, np.int32))
        self.good = [n for n in range(COUNT) if not corpus.index.forged[FIRST + n]]
        self.forged = [n for n in range(COUNT) if corpus.index.forged[FIRST + n]]

    def counting(self) -> Counting:
        return Counting(self.corpus, self.sent, TOPICS)

    def source(self, number: int) -> bytes:
        kind = KINDS[self.corpus.index.kinds[FIRST + number]]
        return f"{TOPICS[kind.value]}/0/{self.sent.offsets[number]}".encode()

    def accept(self, counting: Counting, number: int, value: bytes | None = None, offset: int = 0) -> None:
        counting.accept(self.source(number), value or self.corpus.envelope(FIRST + number), 0, offset)

    def judged(self, counting: Counting, without: tuple[int, ...] = ()) -> Counting:
        for place, number in enumerate(self.good):
            if number not in without:
                self.accept(counting, number, offset=place)
        for place, number in enumerate(self.forged):
            if number not in without:
                counting.reject(self.source(number), "bad_signature", 0, place)
        return counting


@pytest.fixture
def outputs(corpus: Corpus) -> Outputs:
    return Outputs(corpus)


def test_books_that_balance(outputs: Outputs) -> None:
    counting = outputs.judged(outputs.counting())
    ledger = counting.result()
    assert ledger.ok
    assert (ledger.sent, ledger.acknowledged) == (COUNT, COUNT)
    assert (ledger.accepted, ledger.rejected) == (len(outputs.good), len(outputs.forged))
    assert ledger.rejected_as_expected == len(outputs.forged) > 0
    assert set(counting.verdicts.kinds[outputs.good]) == {ACCEPTED}
    assert set(counting.verdicts.kinds[outputs.forged]) == {REJECTED}
    assert counting.verdicts.offsets[outputs.good].tolist() == list(range(len(outputs.good)))


def test_a_lost_record_is_found(outputs: Outputs) -> None:
    for number in (outputs.good[5], outputs.forged[0]):
        ledger = outputs.judged(outputs.counting(), without=(number,)).result()
        assert (ledger.lost, ledger.ok) == (1, False)


def test_what_still_waits_is_not_lost_and_does_not_balance(outputs: Outputs) -> None:
    ledger = outputs.judged(outputs.counting(), without=(outputs.good[5],)).result(drained=False)
    assert (ledger.lost, ledger.unjudged, ledger.ok) == (0, 1, False)


def test_a_record_that_the_broker_never_had_is_not_lost(outputs: Outputs) -> None:
    number = outputs.good[5]
    outputs.sent.offsets[number] = UNSET
    ledger = outputs.judged(outputs.counting(), without=(number,)).result()
    assert (ledger.lost, ledger.acknowledged, ledger.sent, ledger.ok) == (0, COUNT - 1, COUNT, True)


def test_a_record_judged_twice_is_found(outputs: Outputs) -> None:
    counting = outputs.judged(outputs.counting())
    outputs.accept(counting, outputs.good[3])
    counting.reject(outputs.source(outputs.good[4]), "replay", 0, 99)
    ledger = counting.result()
    assert (ledger.duplicated, ledger.ok, ledger.accepted) == (2, False, len(outputs.good))


def test_altered_bytes_are_found(outputs: Outputs) -> None:
    number = outputs.good[0]
    counting = outputs.judged(outputs.counting(), without=(number,))
    outputs.accept(counting, number, outputs.corpus.envelope(FIRST + number) + b"\x00")
    assert counting.result().altered == 1


def test_another_order_is_found(outputs: Outputs) -> None:
    telemetry = [n for n in outputs.good if outputs.corpus.index.kinds[FIRST + n] == 0]
    counting = outputs.counting()
    for number in (telemetry[1], telemetry[0], *telemetry[2:]):
        outputs.accept(counting, number)
    ledger = counting.result()
    assert (ledger.out_of_order, ledger.ok) == (1, False)


def test_wrong_verdicts_are_found(outputs: Outputs) -> None:
    counting = outputs.judged(
        outputs.counting(), without=(outputs.forged[0], outputs.good[0], outputs.forged[1])
    )
    outputs.accept(counting, outputs.forged[0])
    counting.reject(outputs.source(outputs.good[0]), "stale", 0, 50)
    counting.reject(outputs.source(outputs.forged[1]), "malformed", 0, 51)
    ledger = counting.result()
    assert (ledger.forgeries_accepted, ledger.rejected_wrongly) == (1, {"stale": 1, "malformed": 1})
    assert not ledger.ok


@pytest.mark.parametrize(
    "source", [b"", b"raw.telemetry/0/1", b"raw.telemetry/9/1000", b"raw.telemetry/0/x", b"///"]
)
def test_what_somebody_else_sent_is_counted_apart(outputs: Outputs, source: bytes) -> None:
    counting = outputs.judged(outputs.counting())
    counting.accept(source, b"", 0, 77)
    ledger = counting.result()
    assert (ledger.not_ours, ledger.ok) == (1, True)
