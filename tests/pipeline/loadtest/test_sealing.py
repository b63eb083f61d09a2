"""Seal and Tessera make logs of the same leaves; without Go there is seal alone, and the reason."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loadtests import corpusmake
from loadtests.corpus import Corpus
from loadtests.draining import Drained
from loadtests.errors import LoadTestError
from loadtests.goprogram import NotBuiltError
from loadtests.published import bundles
from pipeline.loadtest import sealing, site
from pipeline.loadtest.run import CorpusOptions
from pipeline.loadtest.sealing import (
    SEAL,
    SHARD,
    SOURCE,
    TESSERA,
    compare_seals,
    drain_seal,
    drain_tessera,
    fill,
)
from pipeline.loadtest.show import LoadShow
from pipeline.loadtest.site import Site
from pipeline.settings import Settings
from pipeline.shard import leaf_of, store_of
from pipeline.topics import EVENTS
from schemas.checkpoint import parse_checkpoint
from schemas.note import parse_note
from schemas.tile import encode_bundle
from tests.kit.deployment import Deployment, make_deployment
from tests.kit.goprograms import built

RECORDS = 700
IN_CORPUS = 300


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    folder = tmp_path_factory.mktemp("corpus")
    corpusmake.make(folder, CorpusOptions(devices=10, records=IN_CORPUS, bad_share=0.0).plan(), jobs=1)
    made = Corpus(folder)
    yield made
    made.close()


@pytest.fixture(scope="module")
def filled(kafka: str, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment with events in their topic, for each test of this module as the one before left it."""
    made = make_deployment(kafka, tmp_path_factory.mktemp("sealed"), partitions=1)
    (made.settings.data_dir / "run").mkdir(exist_ok=True)
    fill(made.settings, corpus, RECORDS)
    yield made
    made.authority.close()


def test_a_corpus_that_is_too_short_comes_again(filled: Deployment, corpus: Corpus) -> None:
    found = filled.read(EVENTS)
    assert [record.value for record in found] == [corpus.envelope(n % IN_CORPUS) for n in range(RECORDS)]
    assert {tuple(name for name, _ in record.headers) for record in found} == {("registry.offset", "source")}
    assert len({leaf_of(record) for record in found}) == RECORDS


def test_seal_then_tessera_on_the_leaves_that_it_published(
    filled: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, show = filled.settings, LoadShow()
    found = drain_seal(Site(settings, ()), RECORDS, show)
    assert (found.name, found.done, found.rss_mib > 0) == (SEAL, RECORDS, True)
    leaves = [leaf_of(record) for record in filled.read(EVENTS)]
    log = store_of(settings, SHARD).root
    assert b"".join(bundles(log)) == encode_bundle(leaves)

    program = built(SOURCE, tmp_path / "tessera-posix")
    if program is None:  # and that was the reason which `built` has looked at
        return
    theirs, said = drain_tessera(program, settings, RECORDS, show)
    assert (theirs.name, theirs.done, theirs.rss_mib > 0) == (TESSERA, RECORDS, True)
    assert min(said["seconds"], said["user_s"] + said["system_s"], said["rss_mib"]) > 0
    made = settings.data_dir / "tessera"
    assert roots(made / "log") == roots(log)

    shutil.rmtree(made)
    monkeypatch.setattr(sealing, "bundles", lambda _log: [encode_bundle([*leaves[1:], leaves[0]])])
    with pytest.raises(LoadTestError, match="another tree than attestream seal of the same 700"):
        drain_tessera(program, settings, RECORDS, show)
    shutil.rmtree(made)
    monkeypatch.setattr(sealing, "bundles", lambda _log: [encode_bundle(leaves[1:])])
    with pytest.raises(LoadTestError, match="699 leaves are published, not 700"):
        drain_tessera(program, settings, RECORDS, show)


def roots(log: Path) -> tuple[int, bytes]:
    checkpoint = parse_checkpoint(parse_note((log / "checkpoint").read_bytes()).text)
    return checkpoint.size, checkpoint.root


def test_what_is_not_taken_is_not_measured(
    filled: Deployment, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "_send", lambda *_given: None)
    with pytest.raises(LoadTestError, match="0 of 5 records were taken"):
        fill(filled.settings, corpus, 5)


class Rounds:
    """Stands in for what takes long: stacks and programs; the comparison itself is the real one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self._cpu_us = iter((5.0, 9.0, 6.0))
        monkeypatch.setattr(site, "temporary", self.temporary)
        monkeypatch.setattr(sealing, "build", self.build)
        monkeypatch.setattr(sealing, "fill", lambda _settings, _corpus, count: self.done.append(f"{count}"))
        monkeypatch.setattr(sealing, "drain_seal", self.drain_seal)
        monkeypatch.setattr(sealing, "drain_tessera", self.drain_tessera)
        self.why_not = ""

    @contextmanager
    def temporary(self, settings: Settings, **_given: Any) -> Iterator[Site]:
        assert settings.partitions == 1
        yield Site(settings, ())

    def build(self, source: Path, _program: Path) -> None:
        assert (source / "go.sum").exists()
        if self.why_not:
            raise NotBuiltError(self.why_not)

    def drain_seal(self, _stack: Site, count: int, _show: LoadShow) -> Drained:
        self.done.append(SEAL)
        return Drained(SEAL, count, 100.0, next(self._cpu_us), 1.0, 50.0)

    def drain_tessera(
        self, _program: Path, _settings: Settings, count: int, _show: LoadShow
    ) -> tuple[Drained, dict[str, Any]]:
        self.done.append(TESSERA)
        return Drained(TESSERA, count, 100.0, 12.0, 0.0, 50.0), {"seconds": 1.0}


def test_medians_of_rounds_and_their_ratio(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = Rounds(monkeypatch)
    found = compare_seals(Settings(), corpus, LoadShow(), 3, 1000)
    assert rounds.done == ["1000", SEAL, TESSERA] * 3
    assert found["contenders"][SEAL]["cpu_us"] == 6.0
    assert found["contenders"][TESSERA]["cpu_us"] == 12.0
    assert (found["ratios"], found["not_measured"]) == ({"tessera_cpu_ratio": 2.0}, {})
    assert [each[SEAL]["cpu_us"] for each in found["rounds"]] == [5.0, 9.0, 6.0]
    assert found["rounds"][0][TESSERA]["said"] == {"seconds": 1.0}


def test_without_go_there_is_seal_and_the_reason(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = Rounds(monkeypatch)
    rounds.why_not = "go is not on the PATH"
    found = compare_seals(Settings(), corpus, LoadShow(), 1, 1000)
    assert rounds.done == ["1000", SEAL]
    assert list(found["contenders"]) == [SEAL]
    assert found["not_measured"] == {TESSERA: "go is not on the PATH"}
    assert found["ratios"] == {"tessera_cpu_ratio": None}
