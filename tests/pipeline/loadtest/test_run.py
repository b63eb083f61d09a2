"""A short load through a real Kafka, ingest and seal: what is asserted is what was counted, never a time."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from loadtests import corpusmake
from loadtests.corpus import Corpus
from loadtests.corpusplan import Plan
from loadtests.errors import PlanError
from loadtests.measure import Measured, measure
from loadtests.results import document, save
from loadtests.target import Load, Target
from pipeline import seal
from pipeline.loadtest.run import INTERVAL_OF_SEARCH_S, CorpusOptions, judge, pace_of_search
from pipeline.loadtest.site import Site, enrol
from processors.detect.noiseprints import FAST_US
from tests.kit.deployment import Deployment, in_thread, make_deployment

RECORDS, FORGED = 600, 30


@pytest.fixture(scope="module")
def loaded(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    # Its monitors report many minutes within seconds, and then nothing more.
    made = make_deployment(kafka, tmp_path_factory.mktemp("loaded"), silence_after_s=86400.0)
    yield made
    made.authority.close()


@pytest.fixture(scope="module")
def corpus(loaded: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    options = CorpusOptions(
        devices=20, records=RECORDS, bad_share=FORGED / RECORDS, log_name=loaded.settings.log_name
    )
    folder = tmp_path_factory.mktemp("corpus")
    corpusmake.make(folder, options.plan(), jobs=1)
    return Corpus(folder)


@pytest.fixture(scope="module")
def target(loaded: Deployment, corpus: Corpus) -> Target:
    assert enrol(loaded.settings, corpus) == corpus.header.devices + corpus.header.nurses
    return Site(loaded.settings, ("ingest", "seal")).target()


@pytest.fixture(scope="module")
def measured(loaded: Deployment, corpus: Corpus, target: Target) -> Measured:
    with ExitStack() as stack:
        stack.enter_context(loaded.ingesting())
        stack.enter_context(in_thread(seal.work, loaded.settings, "seal"))
        return measure(target, corpus, Load(300.0, count=400, warmup=50, anchored=False))


def test_every_record_is_accounted_for(measured: Measured) -> None:
    ledger = measured.ledger
    assert ledger.ok, ledger
    assert (ledger.sent, ledger.acknowledged, ledger.accepted + ledger.rejected) == (400, 400, 400)
    assert (ledger.lost, ledger.duplicated, ledger.not_ours) == (0, 0, 0)
    assert measured.drained


def test_each_leg_that_runs_has_latencies_and_the_others_say_why_not(measured: Measured) -> None:
    legs = measured.legs
    assert len(legs["published"].took_ns) == 350
    assert len(legs["accepted"].took_ns) + len(legs["rejected"].took_ns) == 350
    assert len(legs["checkpoint"].took_ns) == len(legs["accepted"].took_ns)
    assert (legs["checkpoint"].missing, legs["accepted"].missing) == (0, 0)
    assert legs["anchored"].why_not
    assert legs["alert"].why_not == "the stage correlate does not run"
    assert (legs["accepted"].took_ns > 0).all()


def test_the_rest_of_a_corpus_goes_on_where_it_was_left(
    measured: Measured, loaded: Deployment, corpus: Corpus, target: Target
) -> None:
    assert measured.ledger.ok
    with loaded.ingesting():
        rest = measure(target, corpus, Load(0.0, first=400, anchored=False, drain_s=20.0))
    assert (rest.ledger.sent, rest.ledger.lost, rest.ledger.duplicated) == (200, 0, 0)
    assert rest.ledger.rejected_as_expected == rest.ledger.rejected
    with pytest.raises(PlanError, match="all of them were sent"):
        measure(target, corpus, Load(1.0, first=RECORDS))


def test_the_document_has_the_fields_of_the_openmessaging_benchmark(
    measured: Measured, target: Target, corpus: Corpus, tmp_path: Path
) -> None:
    found = document(measured, target, corpus, "a test")
    periods = len(found["publishRate"])
    suffixes = ("Avg", "50pct", "75pct", "95pct", "99pct", "999pct", "9999pct", "Max")
    for name in ("publishLatency", "publishDelayLatency", "endToEndLatency"):
        over_all = f"aggregated{name[0].upper()}{name[1:]}"
        assert all(len(found[f"{name}{suffix}"]) == periods for suffix in suffixes)
        assert all(isinstance(found[f"{over_all}{suffix}"], float) for suffix in suffixes)
        assert found[f"{over_all}Quantiles"]
    for name in ("publishErrorRate", "consumeRate", "backlog"):
        assert len(found[name]) == periods
    assert sum(found["publishRate"]) <= 400
    assert (found["driver"], found["partitions"], found["topics"]) == ("Kafka", 2, 3)
    paths = {path.name for path in save(tmp_path, measured, found)}
    assert {"result.json", "published.hgrm", "accepted.hgrm", "checkpoint.hgrm"} <= paths
    assert json.loads((tmp_path / "result.json").read_text()) == found


def test_a_rate_is_sustained_by_what_was_counted(measured: Measured) -> None:
    assert judge(measured, objective_ms=1e9).sustained
    refused = judge(measured, objective_ms=1e-6)
    assert (refused.sustained, refused.why_not) == (False, "the objective is 1e-06 ms")


def test_another_logs_corpus_is_refused(loaded: Deployment, tmp_path: Path) -> None:
    corpusmake.make(tmp_path, Plan("another.example", 1, 1, 1, 10**15), jobs=1)
    with pytest.raises(PlanError, match=r"another\.example"):
        enrol(loaded.settings, Corpus(tmp_path))


def test_clocks_of_a_search_gain_on_the_brokers_at_any_rate_that_is_tried() -> None:
    # What a search begins with is far above what it may come to.
    assert pace_of_search(10_000.0, 2000) == 500.0
    assert pace_of_search(100.0, 2000) == 25.0
    # Devices that report more seldom leave more prints of noise, and make other work than live ones.
    assert INTERVAL_OF_SEARCH_S * 1e6 < FAST_US / 2
