"""Costs are measured on a real stack, and what comes out is what `attestream size` reckons with."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from loadtests.costs import KafkaCost, read_costs
from loadtests.sizeplan import Fleet
from loadtests.sizing import size
from pipeline.loadtest import costing
from pipeline.loadtest.costing import CostOptions, Round, measure
from pipeline.loadtest.show import LoadShow
from pipeline.settings import Settings


def test_a_file_of_costs_comes_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costing, "WARM_UP_S", 2.0)
    monkeypatch.setattr(costing, "find_spec", lambda _name: None)
    out = tmp_path / "made" / "costs.json"
    options = CostOptions(
        devices=20,
        rate=200.0,
        load_s=8.0,
        idle_s=1.0,
        rounds=1,
        few_devices=10,
        many_devices=30,
        out=out,
    )
    found = measure(Settings(data_dir=tmp_path), options, LoadShow(Console(file=StringIO())))
    assert read_costs(out) == found
    assert found.origin.command == (
        "attestream loadtest costs --devices 20 --rate 200 --rounds 1 --many-devices 30"
    )
    assert found.stages.ingest_crate is None
    assert min(found.stages.ingest_wheel.cpu_us, found.stages.seal.cpu_us, found.stages.broker.cpu_us) > 0
    # Keys and headers are all that a record has beside its envelope.
    assert 50 < found.kafka.raw_overhead < 300
    assert found.kafka.events_overhead > found.kafka.raw_overhead
    assert found.kafka.decision > 100
    assert found.kafka.changelog > 100
    assert found.leaves.entry_bytes > 40
    assert found.rocksdb_bytes > 500
    assert size(Fleet(devices=1000, rate=1.0), found).cores_with_wheel > 0


def test_an_event_costs_what_a_process_takes_above_idle() -> None:
    nothing = KafkaCost(**dict.fromkeys(KafkaCost.model_fields, 0.0))
    stages = {
        "ingest": {"cores": 0.5, "cpu_us": 250.0},
        "seal": {"cores": 0.2, "cpu_us": 50.0},
        "anchor": {"cores": 0.01, "cpu_us": 5.0},
    }
    found = Round({"ingest": 0.1, "seal": 0.1, "anchor": 0.02}, stages, 2000.0, {}, nothing, 250.0)
    assert found.of("ingest", of_own=False) == pytest.approx((0.1, 200.0))
    # Seal did 4,000 leaves a second.
    assert found.of("seal", of_own=True) == pytest.approx((0.1, 25.0))
    assert found.of("anchor", of_own=False) == (0.02, 0.0)
    assert found.of("gone", of_own=False) == (0.0, 0.0)
