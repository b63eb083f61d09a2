"""`attestream size` as an engineer types it."""

import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from loadtests.costs import read_costs
from loadtests.sizeplan import Fleet
from loadtests.sizing import size
from pipeline.loadtest.sizetable import assumptions, in_bytes, tell
from tests.kit import sizing_tables
from tests.kit.regenerate_formats import TABLE

ROOT = Path(__file__).parents[3]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline.cli.main", "size", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT
    )


def test_tables_and_every_assumption() -> None:
    done = run("--devices", "100000", "--rate", "1/s", "--checkpoint-interval", "7")
    assert done.returncode == 0, done.stderr
    assert "100,000 devices, 100,000 events a second" in done.stdout
    for said in (
        "ingest, wheel",
        "changelogs",
        "RocksDB of seal",
        "7 s *",
        "259,200",
        "Assumptions",
        "S3 Standard",
    ):
        assert said in done.stdout


def test_json_has_what_the_tables_have() -> None:
    done = run("--devices", "200", "--rate", "2/min", "--json", "--event-bytes", "500")
    found = json.loads(done.stdout)
    assert found["needs"]["events_a_second"] == pytest.approx(200 / 30)
    assert found["fleet"]["event_bytes"] == found["needs"]["event_bytes"] == 500
    fleet = Fleet(devices=200, rate=2 / 60, event_bytes=500.0)
    assert found["assumptions"] == assumptions(fleet, read_costs())


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (("--devices", "5", "--rate", "often"), "attestream: --rate 'often'", 2),
        (("--devices", "0"), "attestream: --devices 0", 2),
        (("--devices", "5", "--access-share", "nan"), "attestream: --access-share nan", 2),
        (("--devices", "5", "--costs", "README.md"), "attestream: README.md is not JSON", 1),
        (("--devices", "5", "--costs", "none"), "attestream: cannot read none", 1),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(arguments: tuple[str, ...], said: str, code: int) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout, len(done.stderr.strip().splitlines())) == (code, "", 1), done.stderr
    assert done.stderr.startswith(said)


def test_what_was_not_measured_says_so() -> None:
    fleet, costs = Fleet(devices=10, rate=0.001), read_costs()
    without = costs.model_copy(update={"stages": costs.stages.model_copy(update={"ingest_crate": None})})
    written = StringIO()
    tell(fleet, size(fleet, without), without, Console(file=written, force_terminal=False))
    assert "0.01 events a second" in written.getvalue()
    assert "not measured" in written.getvalue()


def test_bytes_are_written_with_three_digits() -> None:
    assert [in_bytes(each) for each in (0, 999, 999.6, 12_345, 1.5e12, 4e21)] == [
        "0 B", "999 B", "1 kB", "12.3 kB", "1.5 TB", "4,000 EB",
    ]  # fmt: skip


def test_the_documentation_shows_what_was_measured() -> None:
    document = sizing_tables.DOCUMENT.read_text(encoding="utf-8")
    assert sizing_tables.regenerated(document) == document
    assert set(sizing_tables.tables()) == {found["name"] for found in TABLE.finditer(document)}
