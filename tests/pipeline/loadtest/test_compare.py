"""Each contender works off what lies in the raw topics, and accepts exactly what is good of it."""

from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient

from loadtests import corpusmake
from loadtests.corpus import Corpus
from pipeline import kafka as clients
from pipeline import topics
from pipeline.loadtest.compare import BASELINES, OURS, TOPICS, drain, fill, ratios
from pipeline.loadtest.run import CorpusOptions
from pipeline.loadtest.show import LoadShow
from pipeline.loadtest.site import Site, enrol
from tests.kit.deployment import Deployment, make_deployment, read_topic

RECORDS, FORGED = 300, 15


@pytest.fixture(scope="module")
def filled(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, Corpus]]:
    made = make_deployment(kafka, tmp_path_factory.mktemp("compared"), silence_after_s=86400.0)
    (made.settings.data_dir / "run").mkdir(exist_ok=True)
    options = CorpusOptions(
        devices=10, records=RECORDS, bad_share=FORGED / RECORDS, log_name=made.settings.log_name
    )
    folder = tmp_path_factory.mktemp("corpus")
    corpusmake.make(folder, options.plan(), jobs=1)
    corpus = Corpus(folder)
    enrol(made.settings, corpus)
    fill(Site(made.settings, ()).target(), corpus)
    yield made, corpus
    made.authority.close()
    # Topics of a broker that all tests share.
    client: AdminClient = clients.admin(made.settings)
    present = set(client.list_topics(timeout=20).topics)
    extra = [name for name in present if name in TOPICS.values() or name.startswith("attestream-loadtest-")]
    for answer in client.delete_topics(extra, operation_timeout=20).values() if extra else ():
        answer.result(30)


@pytest.mark.parametrize("name", [*BASELINES, OURS])
def test_a_contender_does_all_of_it(filled: tuple[Deployment, Corpus], name: str) -> None:
    deployment, corpus = filled
    found = drain(Site(deployment.settings, ()), corpus, name, LoadShow())
    assert (found.name, found.done) == (name, RECORDS)
    accepted = read_topic(deployment.settings, TOPICS.get(name, topics.EVENTS))
    good = {corpus.envelope(n) for n in range(RECORDS) if not corpus.index.forged[n]}
    assert len(accepted) == RECORDS - FORGED
    assert {record.value for record in accepted} == good


def test_ratios_are_of_what_was_measured() -> None:
    found = {
        "attestream ingest": {"cpu_us": 50.0, "rate": 800.0},
        "Faust": {"cpu_us": 250.0, "rate": 100.0},
        "plain loop": {"cpu_us": 40.0, "rate": 1000.0},
    }
    assert ratios(found) == {"faust_cpu_ratio": 5.0, "plain_loop_share": 0.8}
    assert ratios({}) == {"faust_cpu_ratio": None, "plain_loop_share": None}
