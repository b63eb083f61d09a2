"""The bench's document has the names that others read, says why a figure is missing, and is a page too."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from loadtests.corpus import Corpus
from pipeline.loadtest import bench as module
from pipeline.loadtest import sealing
from pipeline.loadtest.bench import KEYS, Bench, BenchOptions, Figures, bench
from pipeline.loadtest.sealing import SEAL, TESSERA
from pipeline.loadtest.show import LoadShow
from pipeline.settings import Settings
from schemas.native import VARIABLE

SEALS: dict[str, Any] = {
    "contenders": {SEAL: {"cpu_us": 6.0}, TESSERA: {"cpu_us": 12.0}},
    "ratios": {"tessera_cpu_ratio": 2.0},
    "not_measured": {},
}
WITHOUT_GO: dict[str, Any] = {
    "contenders": {SEAL: {"cpu_us": 6.0}},
    "ratios": {"tessera_cpu_ratio": None},
    "not_measured": {TESSERA: "go is not on the PATH"},
}


@pytest.mark.parametrize("has_crate", [True, False])
@pytest.mark.parametrize("seals", [SEALS, WITHOUT_GO])
def test_both_verifiers_stand_beside_each_other(
    has_crate: bool, seals: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def run(_self: Bench) -> Figures:
        asked.append(os.environ[VARIABLE])
        found = Figures()
        found.values["ingest_cpu_us"] = 25.0 if asked[-1] == "require" else 52.0
        found.at_pace("after the drains")
        return found

    monkeypatch.setattr(Bench, "run", run)
    monkeypatch.setattr(module, "compare_seals", lambda *_given: seals)
    monkeypatch.setattr(module, "find_spec", lambda _name: object() if has_crate else None)
    monkeypatch.delenv(VARIABLE, raising=False)
    document = bench(Settings(data_dir=tmp_path), BenchOptions(out=tmp_path), LoadShow())
    assert asked == (["require", "off"] if has_crate else ["off"])
    assert VARIABLE not in os.environ
    assert document == json.loads((tmp_path / "bench.json").read_text())
    assert {"native", "wheels_only", *KEYS} <= set(document)
    assert set(KEYS) <= set(document["wheels_only"])
    assert (document["native"], document["wheels_only"]["native"]) == (has_crate, False)
    assert document["ingest_cpu_us"] == (25.0 if has_crate else 52.0)
    assert document["wheels_only"]["ingest_cpu_us"] == 52.0
    for found in (document, document["wheels_only"]):
        assert found["seal_cpu_us"] == 6.0
        assert found["loop_ns"]["after the drains"] > 0
        if seals is SEALS:
            assert found["tessera_cpu_us"] == 12.0
            assert "tessera_cpu_us" not in found["not_measured"]
        else:
            assert found["tessera_cpu_us"] is None
            assert found["not_measured"]["tessera_cpu_us"] == "go is not on the PATH"
    assert document["seals"] == seals
    page = (tmp_path / "bench.html").read_text()
    assert "ingest_cpu_us" in page
    assert "a step of a plain loop after the drains" in page
    assert "<script" not in page


def test_the_corpus_of_the_seals_is_no_longer_than_pays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, ...]] = []

    def compare_seals(
        _s: Settings, corpus: Corpus, _show: LoadShow, rounds: int, records: int
    ) -> dict[str, Any]:
        asked.append((len(corpus.index), rounds, records))
        return SEALS

    monkeypatch.setattr(sealing, "compare_seals", compare_seals)
    monkeypatch.setattr(sealing, "CORPUS_RECORDS", 50)
    options = BenchOptions(out=tmp_path, rounds=2, seal_records=1000, devices=3)
    assert module.compare_seals(Settings(data_dir=tmp_path), options, LoadShow()) == SEALS
    assert asked == [(50, 2, 1000)]
    assert list((tmp_path / "bench-corpus").glob("*.bin")) == []
