"""The page needs nothing but itself, escapes what it shows, and refuses what is no result."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from loadtests.results import FORMAT, ResultError
from pipeline.loadtest.report import page
from pipeline.loadtest.resultmodel import checked, read

LEG = {
    "title": "raw → accepted",
    "count": 9,
    "avg": 2.0,
    "50pct": 1.0,
    "95pct": 2.0,
    "99pct": 3.0,
    "999pct": 4.0,
    "max": 5.0,
}
LEDGER = {
    "sent": 10,
    "accepted": 9,
    "rejected": 1,
    "lost": 0,
    "duplicated": 0,
    "ok": True,
    "rejected_wrongly": {},
}


def document(**changes: Any) -> dict[str, Any]:
    ours: dict[str, Any] = {
        "format": FORMAT,
        "began": 1.8e9,
        "seconds": 10.0,
        "target_rate": 1000.0,
        "rate": 999.0,
        "summary": "10 records sent",
        "ledger": LEDGER,
        "legs": {
            "accepted": LEG,
            "alert": {**LEG, "count": 0, "not_measured": "the stage correlate does not run"},
        },
        "quantiles": {"accepted": {"0": 0.1, "50": 1.0, "99.9": 4.0, "100": 5.0}},
        "stages": {"ingest": {"cores": 0.5, "cpu_us": 52.1, "of": "envelope", "rss_mib": 101.0}},
        "lag": [[0.0, 5, 1], [1.0, 7, None]],
        "processes": {"ingest": {"at_s": [1.0, 2.0], "cores": [0.5, 0.6], "rss_mib": [99.0, 101.0]}},
        "machine": {"cpu": "an abacus", "packages": {"numpy": "2"}},
        "find_max": {
            "rate": 1000.0,
            "objective_ms": 250.0,
            "trials": [
                {"rate": 1000.0, "seconds": 10.0, "p99_ms": 40.0, "lag": 3, "sustained": True},
                {
                    "rate": 2000.0,
                    "seconds": 10.0,
                    "p99_ms": 4000.0,
                    "lag": 900,
                    "sustained": False,
                    "why_not": "late",
                },
            ],
        },
        **changes,
    }
    return {"workload": "3 devices", "attestream": ours}


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


def shown(*documents: dict[str, Any]) -> str:
    return page([checked(each, "test") for each in documents], "A title")


def test_the_page_asks_nobody_for_anything() -> None:
    text = shown(document())
    found = Tags()
    found.feed(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(found.tags)
    assert not [
        name for name, _ in found.attributes if name in ("src", "href", "srcset") or name.startswith("on")
    ]
    assert "default-src 'none'" in text
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(", text)


def test_it_shows_curves_legs_ledger_processes_and_machine() -> None:
    text = shown(document())
    for part in (
        "Rate and latency",
        "Latency by rate",
        "Latency percentiles",
        "What waits",
        "Memory of each process",
    ):
        assert part in text
    assert "balances" in text
    assert "not measured: the stage correlate does not run" in text
    assert "an abacus" in text
    assert "prefers-color-scheme:dark" in text


def test_a_ledger_that_does_not_balance_is_told() -> None:
    text = shown(document(ledger={**LEDGER, "ok": False, "lost": 3, "rejected_wrongly": {"stale": 2}}))
    assert "does not balance" in text
    assert "rejected wrongly: stale" in text


def test_what_a_result_says_is_escaped() -> None:
    evil = "<script>alert(1)</script>"
    hostile = document(
        summary=evil,
        machine={evil: evil},
        ledger={**LEDGER, "lost": evil, "rejected_wrongly": {evil: evil}},
        legs={"accepted": {**LEG, "title": evil}},
        stages={evil: {"cores": 1.0, "cpu_us": 1.0, "of": evil, "rss_mib": 1.0}},
        processes={evil: {"at_s": [1.0], "cores": [1.0], "rss_mib": [1.0]}},
    )
    hostile["workload"] = evil
    assert "<script" not in shown(hostile)


def test_many_runs_are_one_curve() -> None:
    runs = [document(target_rate=float(rate), find_max=None) for rate in (500, 1000, 2000)]
    text = shown(*runs)
    assert "Run 3: 3 devices" in text
    assert "Latency by rate" in text


def test_a_run_with_little_to_show_is_shown() -> None:
    text = shown(document(find_max=None, lag=[], processes={}, quantiles={}, legs={}))
    assert "balances" in text
    assert "Latency by rate" not in text


@pytest.mark.parametrize(
    "change",
    [
        {"lag": [[1, 2]]},
        {"rate": "fast"},
        {"began": float("nan")},
        {"rate": 1e300},
        {"legs": [1]},
        {"processes": {"x": {}}},
        {"quantiles": {"accepted": {"50": "x"}}},
    ],
)
def test_what_is_no_result_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ResultError, match="test is not the result"):
        checked(document(**change), "test")


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"attestream": 1}', b"\xff\xfe", b'{"attestream": {"format": "x"}}']
)
def test_a_file_that_is_no_result_is_one_clear_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(data)
    with pytest.raises(ResultError):
        read(path)
    with pytest.raises(ResultError):
        read(tmp_path / "absent.json")


def test_a_folder_of_results_is_read(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(document()))
    assert read(tmp_path).rate == 999.0
