"""The bench's document has the names that others read, says why a figure is missing, and is a page too."""

import json
import os
from pathlib import Path

import pytest

from pipeline.loadtest import bench as module
from pipeline.loadtest.bench import KEYS, Bench, BenchOptions, Figures, bench
from pipeline.loadtest.show import LoadShow
from pipeline.settings import Settings
from schemas.native import VARIABLE


@pytest.mark.parametrize("has_crate", [True, False])
def test_both_verifiers_stand_beside_each_other(
    has_crate: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def run(_self: Bench) -> Figures:
        asked.append(os.environ[VARIABLE])
        found = Figures()
        found.values["ingest_cpu_us"] = 25.0 if asked[-1] == "require" else 52.0
        return found

    monkeypatch.setattr(Bench, "run", run)
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
    assert document["tessera_cpu_us"] is None
    assert document["not_measured"]["tessera_cpu_us"]
    page = (tmp_path / "bench.html").read_text()
    assert "ingest_cpu_us" in page
    assert "<script" not in page
