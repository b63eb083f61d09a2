"""The scaling bench does what it says at any size; what figures come out is no matter here."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from loadtests.corpus import Corpus
from loadtests.errors import LoadTestError, PlanError
from pipeline.loadtest import ingestloop, scale, scaledevices, scaleworkers
from pipeline.loadtest.run import CorpusOptions, make_corpus
from pipeline.loadtest.scale import ScaleOptions, cells, part, remarks, rows_of, spread, tell
from pipeline.loadtest.scaledevices import at_devices
from pipeline.loadtest.scaleleaves import WINDOWS, Tree, at_leaves
from pipeline.loadtest.scaleworkers import Layout, at_layouts
from pipeline.loadtest.show import LoadShow
from pipeline.settings import Settings
from processors.detect.blocks import BLOCK
from processors.merkle.reader import TiledTree
from schemas.checkpoint import parse_checkpoint
from schemas.note import parse_note

ROOT = Path(__file__).parents[3]


def test_events_are_judged_and_kept_as_ingest_does() -> None:
    found = at_devices(24, 60, jobs=1)
    assert (found.devices, found.events, found.kept) == (24, 24 * BLOCK, 24)
    assert found.cpu_us == pytest.approx(
        found.judge_us + found.outputs_us + found.changes_us + found.store_us, rel=0.5
    )
    # Four rounds are taken together, and a state is written once for a device's events in a batch.
    assert 1 / 4 < found.touched < 1
    # What the working copy holds is what the changelog was told.
    assert found.state_bytes == pytest.approx(found.changelog_bytes, rel=0.2)


def test_each_device_once_in_a_batch_writes_a_state_for_each_event() -> None:
    assert at_devices(10, 10, jobs=1).touched == 1


def test_a_small_fleet_is_measured_between() -> None:
    found = at_devices(6, 6, warm_blocks=1, jobs=1, beside=3)
    assert (found.devices, found.events) == (6, 6 * BLOCK)
    assert min(found.cpu_us, found.beside_us) > 0
    assert at_devices(6, 6, warm_blocks=1, jobs=1).beside_us == 0


def test_an_event_that_is_rejected_ends_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingestloop, "ARRIVES_MS", -100 * 86_400_000)  # clocks that are far ahead
    with pytest.raises(LoadTestError, match="events were rejected"):
        at_devices(5, 5, jobs=1)


def test_a_tree_grows_for_real_and_is_measured_at_each_size(tmp_path: Path) -> None:
    said: list[str] = []
    found = at_leaves((300, 2_000), tmp_path, said.append, window=500)
    assert [each.leaves for each in found] == [300, 2_000]
    assert all(min(each.cpu_us, each.beside_us) > 0 for each in found)
    assert all(each.tile_bytes > 32 and 0 < each.objects < 1 for each in found)
    assert said[-1].startswith("2,000 leaves: ")
    assert list(tmp_path.iterdir()) == []


def test_what_is_published_while_it_grows_is_a_whole_tree(tmp_path: Path) -> None:
    tree, small = Tree(tmp_path / "tree"), Tree(tmp_path / "small")
    tree.grow(700, lambda _text: None)
    tree.measure(700, 300, small)
    tree.close()
    small.close()
    assert small.shard.size == WINDOWS * 150
    store = tree.shard.published
    checkpoint = parse_checkpoint(parse_note(store.read_checkpoint() or b"").text)
    assert checkpoint.size == 700 + WINDOWS * 300
    whole = TiledTree(store, checkpoint.size, checkpoint.root)
    assert len({whole.entry(index) for index in range(checkpoint.size)}) == checkpoint.size


@pytest.mark.parametrize("sizes", [(), (2, 1), (1, 1), (-1,), (10**13,)])
def test_sizes_that_cannot_be_are_refused(sizes: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(PlanError):
        at_leaves(sizes, tmp_path)


def test_workers_share_a_backlog(tmp_path: Path) -> None:
    settings, show = Settings(data_dir=tmp_path), LoadShow(Console(file=StringIO()))
    options = CorpusOptions(devices=40, records=60_000, bad_share=0.0, log_name=settings.log_name)
    make_corpus(tmp_path, options, show)
    corpus = Corpus(tmp_path)
    (found,) = at_layouts(settings, corpus, [Layout(2, 2)], show)
    corpus.close()
    assert (found.workers, found.partitions) == (2, 2)
    assert min(found.rate, found.cpu_us, found.broker_cpu_us, found.rss_mib) > 0
    with pytest.raises(PlanError, match="nothing to do"):
        at_layouts(settings, corpus, [Layout(3, 2)], show)


def test_a_workers_health_tells_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "ingest.health.json"
    assert scaleworkers.held(path) == 0
    for text, count in (
        ('{"state": "running", "detail": "12 partitions; registry is stale"}', 12),
        ('{"state": "restoring", "detail": "12 partitions"}', 0),
        ('{"state": "running", "detail": ""}', 0),
        ("{", 0),
    ):
        path.write_text(text)
        assert scaleworkers.held(path) == count


def test_spread_is_of_the_largest_over_the_smallest() -> None:
    assert spread([10.0, 12.0, 11.0]) == 0.2
    assert spread([]) == spread([0.0, 1.0]) == 0.0
    found = part([{"cpu_us": 10.0, "beside_us": 4.0}, {"cpu_us": 20.0, "beside_us": 8.0}], window=3)
    assert (found["spread"], found["spread_of_ratios"], found["window"]) == (1.0, 0.0, 3)


def test_all_parts_of_a_document_are_told() -> None:
    def row(**changed: float) -> dict[str, float]:
        names = {member for columns in scale.COLUMNS.values() for member, _, _ in columns}
        return {**dict.fromkeys(names, 1.0), **changed}

    document: dict[str, Any] = {
        "devices": {
            **part([row(devices=10, batch=10, cpu_us=12.0), row(devices=50, batch=20, cpu_us=13.0)]),
            "backlog": part([row(devices=10, batch=20, cpu_us=9.0), row(devices=50, batch=20, cpu_us=13.0)]),
        },
        "leaves": part([row(leaves=5)]),
        "workers": {"rows": [row(), row(workers=2)], "rate_of_two": 1.9, "cpu_of_two": 1.05, "date": "D"},
        "machine": {"cores": 4},
    }
    assert [(each["devices"], each["batch"]) for each in rows_of(document, "devices")] == [
        (10, 10), (10, 20), (50, 20),
    ]  # fmt: skip
    said = remarks(document)
    assert [each.split(":")[0] for each in said[:2]] == ["An event", "A leaf"]
    assert "differ by 8.3%, less than 20%" in said[0]
    assert "as they were measured by 8.3%" in said[0]
    assert "cheaper by 25.0%" in said[2]
    assert "1.90 times" in said[3]
    document["devices"].update(part([row(cpu_us=12.0), row(cpu_us=15.0)]))
    assert "differ by 25.0%, NOT less than 20%" in remarks(document)[0]
    document["devices"]["backlog"]["rows"] = document["devices"]["rows"]
    assert not any("backlog" in each for each in remarks(document))
    titles, rows = cells("workers", document["workers"]["rows"])
    assert (titles[0], rows[1][0]) == ("workers", "2")
    written = StringIO()
    tell(document, Console(file=written))
    assert "broker on the same 4 cores (D)." in " ".join(written.getvalue().split())


def test_parts_that_were_not_asked_for_are_left_out(tmp_path: Path) -> None:
    show = LoadShow(Console(file=StringIO()))
    settings = Settings(data_dir=tmp_path)
    document = scale.scale(settings, ScaleOptions(devices=(), leaves=(), out=tmp_path), show)
    assert not {"devices", "leaves", "workers"} & set(document)
    assert json.loads((tmp_path / "scale.json").read_text()) == document


def test_the_command_writes_its_results_and_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "pipeline.cli.main",
            "loadtest",
            "scale",
            "-o",
            str(tmp_path),
            *arguments,
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=250, check=False, cwd=ROOT
        )

    done = run("--devices", "", "--leaves", "300", "--window", "100")
    assert done.returncode == 0, done.stderr
    assert "A leaf: over what a small one cost in the same minutes, costs differ by 0.0%" in done.stdout
    assert json.loads((tmp_path / "scale.json").read_text())["leaves"]["window"] == 100
    for given in ("1,x", "0", "5,5", "9,3", "-1", "1,,2"):
        done = run("--devices", given)
        assert (done.returncode, done.stderr.strip().splitlines()[-1][:20]) == (2, "attestream: --device")


def test_the_run_in_the_middle_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = at_devices(5, 5, jobs=1)
    asked: list[tuple[int, int, int, int]] = []

    def run(devices: int, batch: int, warm_blocks: int, beside: int, seed: int) -> ingestloop.AtDevices:
        assert beside == scaledevices.BESIDE
        asked.append((devices, batch, warm_blocks, seed))
        return replace(one, devices=devices, batch=batch, cpu_us=float((seed * 7) % 5), beside_us=1.0)

    monkeypatch.setattr(scaledevices, "at_devices", run)
    options = ScaleOptions(devices=(100, 20_000), warm_events=16, leaves=(), out=tmp_path)
    found = scale.scale(Settings(data_dir=tmp_path), options, LoadShow(Console(file=StringIO())))["devices"]
    batch = Settings().batch_records
    assert asked[:5] == [(100, 100, 2, seed) for seed in range(5)]
    assert [(row["devices"], row["batch"]) for row in found["rows"]] == [(100, 100), (20_000, batch)]
    rows = found["backlog"]["rows"]
    assert [(row["devices"], row["batch"]) for row in rows] == [(100, batch), (20_000, batch)]
    assert (found["rows"][0]["cpu_us"], found["warm_events"]) == (2.0, 16)
