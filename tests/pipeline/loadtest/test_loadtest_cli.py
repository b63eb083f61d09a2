"""`attestream loadtest` as an engineer types it: what it writes, and how it refuses."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from loadtests.corpus import Corpus
from loadtests.errors import PlanError
from loadtests.livemetrics import served
from loadtests.measure import Progress
from loadtests.results import FORMAT
from pipeline.loadtest.show import LoadShow, told
from tests.kit.receivers import free_port

ROOT = Path(__file__).parents[3]


def run(*arguments: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipeline.cli.main", "loadtest", *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=seconds, check=False, cwd=ROOT
    )


def test_a_run_on_a_stack_of_its_own_measures_every_leg(tmp_path: Path) -> None:
    asked = (
        "--throughput",
        "100",
        "--num-records",
        "200",
        "--devices",
        "12",
        "--bad-share",
        "0.05",
        "--seed",
        "3",
    )
    done = run("run", "-o", str(tmp_path), *asked, seconds=280)
    assert done.returncode == 0, done.stderr
    assert "200 records sent, " in done.stdout
    assert "200 sent, 190 accepted, 10 rejected (10 as expected), 0 lost, 0 duplicated" in done.stdout
    found = json.loads((tmp_path / "result.json").read_text())["attestream"]
    assert found["ledger"]["ok"]
    for name in ("published", "accepted", "rejected", "checkpoint", "anchored", "alert"):
        assert (found["legs"][name]["count"] > 0, found["legs"][name]["missing"]) == (True, 0), name
        assert (tmp_path / f"{name}.hgrm").exists()
    assert {"kafka", "ingest", "seal", "anchor", "correlate", "generator", "observer"} <= set(found["stages"])
    assert "balances" in (tmp_path / "report.html").read_text()


def test_a_corpus_is_made_twice_the_same_but_for_its_times(tmp_path: Path) -> None:
    arguments = ("--devices", "3", "--num-records", "40", "--bad-share", "0.1", "--seed", "5")
    made = run("corpus", "-o", str(tmp_path / "a"), *arguments)
    assert (made.returncode, made.stdout.split(":")[0]) == (0, str(tmp_path / "a" / "corpus.bin"))
    run("corpus", "-o", str(tmp_path / "b"), *arguments)
    a, b = Corpus(tmp_path / "a"), Corpus(tmp_path / "b")
    assert a.header.forged == b.header.forged == 4
    assert [a.did(n) for n in range(3)] == [b.did(n) for n in range(3)]
    assert a.index.devices.tolist() == b.index.devices.tolist()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "--throughput", "0"), "--throughput 0"),
        (("run", "--throughput", "-1", "--find-max"), "--find-max begins at a rate"),
        (("run", "--producer-props", "linger.ms"), "expected key=value"),
        (("compare", "--seal", "--partitions", "4"), "leave --partitions out"),
        (("corpus", "-o", "unused", "--record-size", "10"), "a record size of 10 bytes"),
        (("corpus", "-o", "unused", "--bad-share", "1.5"), "share of bad signatures"),
        (("corpus", "-o", "unused", "--access-share", "1", "--lifecycle-share", "0.5"), "must be parts of 1"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(arguments: Sequence[str], said: str, tmp_path: Path) -> None:
    done = run(*(str(tmp_path / "out") if each == "unused" else each for each in arguments))
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("attestream: ")
    assert said in last


def test_a_file_that_is_no_corpus_or_result_fails_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "corpus.bin").write_bytes(b"noise")
    (tmp_path / "result.json").write_text("{}")
    for arguments in (
        ("run", "--corpus", str(tmp_path)),
        ("report", str(tmp_path), "-o", str(tmp_path / "r")),
    ):
        done = run(*arguments)
        assert (done.returncode, len(done.stderr.strip().splitlines())) == (1, 1), done.stderr


def test_a_report_of_a_result(tmp_path: Path) -> None:
    ours = {
        "format": FORMAT,
        "began": 1.8e9,
        "seconds": 1.0,
        "target_rate": 10.0,
        "rate": 10.0,
        "summary": "",
        "ledger": {},
        "legs": {},
        "quantiles": {},
        "stages": {},
        "lag": [],
        "processes": {},
        "machine": {},
    }
    (tmp_path / "result.json").write_text(json.dumps({"attestream": ours}))
    done = run("report", str(tmp_path), "-o", str(tmp_path / "r.html"), "--title", "One & only")
    assert done.returncode == 0, done.stderr
    assert "<h1>One &amp; only</h1>" in (tmp_path / "r.html").read_text()


def test_seal_beside_tessera_or_the_reason_why_not(tmp_path: Path) -> None:
    asked = ("--seal", "--num-records", "2000", "--devices", "5")
    done = run("compare", "-o", str(tmp_path), *asked, seconds=280)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "compare.json").read_text())
    assert found["leaves"] == 2000
    assert "attestream seal: " in done.stdout
    if "Tessera" in found["contenders"]:
        assert found["rounds"][0]["Tessera"]["done"] == 2000
        assert "CPU time, Tessera / attestream: " in done.stdout
    else:
        assert f"Tessera: not measured, {found['not_measured']['Tessera']}" in done.stdout
        assert found["ratios"] == {"tessera_cpu_ratio": None}


def test_progress_is_told_in_plain_lines_where_nobody_watches() -> None:
    written = StringIO()
    show = LoadShow(Console(file=written, force_terminal=False))
    show.step("signing: [0 %]")
    with show.progress("load") as update:
        update(Progress(1.0, 10))
    assert written.getvalue() == "signing: [0 %]\n"
    assert told(Progress(2.0, 10, sent=5, lag=3, unsealed=1)) == (
        "2 s, 5 of 10 sent; 3 wait for ingest, 1 for seal"
    )
    assert "FAILED" in told(Progress(2.0, 10, failed=1))


def test_progress_is_a_bar_on_a_terminal() -> None:
    written = StringIO()
    show = LoadShow(Console(file=written, force_terminal=True, width=120))
    with show.progress("load") as update:
        update(Progress(1.0, 10, sent=5))
    assert "5 of 10 sent" in written.getvalue()


def test_metrics_are_served_on_the_loopback_interface_meanwhile() -> None:
    port = free_port()
    with served(port) as take:
        take(Progress(3.0, 100, sent=40, lag=7))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        assert "attestream_loadtest_sent_records 40.0" in text
        assert "attestream_loadtest_lag_records 7.0" in text
        with pytest.raises(PlanError, match=f"port {port}"), served(port):
            pass
    with served(None) as take:
        take(Progress(1.0, 1))
