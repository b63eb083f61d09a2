"""`attestream detect replay`: recorded data judged, and a page that shows it and obeys nobody."""

import math
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from loadtests.fleet import Monitor, device_identity
from loadtests.vitals import Row, as_csv
from pipeline import detectpage, detectreplay
from pipeline.cli import detect, tail
from pipeline.cli.main import build
from pipeline.detectreplay import Recording, Track, events_of_file, events_of_records, replay
from pipeline.settings import UsageError
from pipeline.topics import EVENTS
from processors.detect import DetectConfig, SilenceRule
from processors.model import RawRecord
from schemas.mdc import BY_NAME
from schemas.records import EvidenceRef, Finding, FindingStatus, Severity

CONFIG = DetectConfig.default()
HR = BY_NAME["hr"].code
HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(1)>'\""


class Page(HTMLParser):
    """Tags, attributes and text of a page, and its drawings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.told: list[str] = []
        self.feed(text)
        drawings = text.split("<svg")[1:]
        self.drawings = [ET.fromstring("<svg" + each.split("</svg>")[0] + "</svg>") for each in drawings]

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.told.append(data)


def csv_file(folder: Path, heart_rates: Sequence[float], name: str = "a.csv") -> Path:
    path = folder / name
    rows = [f"{minute * 60},{value}" for minute, value in enumerate(heart_rates)]
    path.write_text("\n".join(["t_s,HR", *rows, ""]), encoding="utf-8")
    return path


def healthy(count: int) -> list[float]:
    return [70.0 + (row * 7 % 11) / 10 for row in range(count)]


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(build("detect"), ["detect", *arguments], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_a_file_is_judged_and_its_page_shows_signal_and_finding(tmp_path: Path) -> None:
    path = csv_file(tmp_path, [*healthy(40), 480.0, *healthy(40)])
    out = tmp_path / "page.html"
    code, told = run("replay", str(path), "--out", str(out))
    assert code == 0
    assert "81 events of 1 devices" in told
    assert "bounds 1" in told
    assert out.stat().st_mode & 0o777 == 0o600
    page = Page(out.read_text(encoding="utf-8"))
    assert len(page.drawings) == 1
    text = " ".join(page.told)
    assert "HR is outside 15 to 300 bpm" in text
    # The place in the evidence is the line of the file: one header, then 40 rows before it.
    assert "a.csv/0/42" in text
    assert CONFIG.digest in text


def test_the_real_record_is_drawn_with_all_its_signals(tmp_path: Path) -> None:
    path, out = tmp_path / "icu.csv", tmp_path / "page.html"
    path.write_text(as_csv(), encoding="utf-8")
    assert run("replay", str(path), "--out", str(out))[0] == 0
    page = Page(out.read_text(encoding="utf-8"))
    bold = [each.text for each in page.drawings[0].iter() if each.get("font-weight") == "bold"]
    assert bold == [f"{each.name}, {each.unit}" for each in sorted(BY_NAME.values(), key=lambda s: s.code)]
    assert out.stat().st_size < 500_000


def test_the_same_file_gives_the_same_page(tmp_path: Path) -> None:
    path = csv_file(tmp_path, [*healthy(20), 480.0, *healthy(20)])
    pages = [tmp_path / "one.html", tmp_path / "two.html"]
    for out in pages:
        run("replay", str(path), "--out", str(out))
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_silence_is_judged_when_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t_s,HR\n0,70\n60,71\n600,72\n660,70.5\n", encoding="utf-8")
    out = str(tmp_path / "page.html")
    assert "silence 1" in run("replay", str(path), "--out", out, "--silence-after", "100")[1]
    assert "findings  none" in run("replay", str(path), "--out", out)[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("nowhere.csv",),
        ("alerts",),
        ("{file}", "--interval", "0"),
        ("{file}", "--silence-after", "-1"),
        ("{file}", "--config", "{file}"),
        ("{file}", "--config", "nowhere.toml"),
    ],
)
def test_what_was_asked_for_wrongly_is_a_usage_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    path = csv_file(tmp_path, healthy(3))
    with pytest.raises(UsageError):
        run("replay", *(each.format(file=path) for each in arguments))


def test_rows_without_times_are_an_interval_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text('{"HR": 70}\n{"HR": null}\n{"HR": 72.5}\n', encoding="utf-8")
    found = list(events_of_file(path, 30.0))
    assert [each.source.append_us for each in found] == [0, 60_000_000]
    assert [each.source.offset for each in found] == [1, 3]


def sent(device: int, rates: Sequence[float]) -> list[RawRecord]:
    monitor = Monitor(device_identity(1, device), "log")
    values = [monitor.telemetry(0, Row((HR,), (rate,))).value for rate in rates]
    return [
        RawRecord(EVENTS, device, offset, 1_700_000_000_000 + offset * 1000, b"", value)
        for offset, value in enumerate(values)
    ]


def test_accepted_events_are_judged_by_device_and_what_is_no_telemetry_is_passed_over() -> None:
    monitor = Monitor(device_identity(1, 0), "log")
    others = [monitor.lifecycle(0, "BOOT").value, b"", None, b"\x00" * 40]
    strange = [RawRecord(EVENTS, 0, 90 + at, 0, b"", value) for at, value in enumerate(others)]
    records = [*sent(0, [*healthy(10), 480.0]), *strange, *sent(1, healthy(10))]
    counts: list[int] = []
    recording = replay(events_of_records(records), CONFIG, on_judged=counts.append)
    assert recording.events == 21
    assert counts == [21]
    assert len(recording.tracks) == 2
    (opened,) = [each for each in recording.findings if each.rule == "bounds"]
    assert opened.device_id == device_identity(1, 0).did
    assert opened.evidence[-1] == EvidenceRef(EVENTS, 0, 10, opened.evidence[-1].digest)


def test_the_topic_of_accepted_events_is_read_to_its_present_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def records(_settings: object, topic: str, *, last: int | None, follow: bool) -> Iterator[RawRecord]:
        asked.append((topic, last, follow))
        return iter(sent(0, [*healthy(10), 480.0]))

    monkeypatch.setattr(tail, "records", records)
    for name in ("events", EVENTS):
        code, told = run("replay", name, "--out", str(tmp_path / "page.html"))
        assert code == 0
        assert "11 events of 1 devices" in told
    assert asked == [(EVENTS, None, False)] * 2


@pytest.mark.parametrize("interactive", [False, True])
def test_progress_is_told_to_a_person_and_to_a_file_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, interactive: bool
) -> None:
    monkeypatch.setattr(detect, "is_interactive", lambda: interactive)
    monkeypatch.setattr(detect, "PLAIN_EVERY_S", 0.0)
    path = csv_file(tmp_path, healthy(600))
    code, told = run("replay", str(path), "--out", str(tmp_path / "page.html"))
    assert code == 0
    assert ("512 of 600 events judged" in told) is not interactive
    assert "600 events of 1 devices" in told


def test_a_recording_without_end_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectreplay, "MAX_EVENTS", 300)
    recording = replay(events_of_records(sent(0, healthy(301))), CONFIG)
    assert (recording.events, recording.was_cut) == (300, True)
    assert "Only the beginning" in detectpage.page(recording, "a")


def finding(
    status: FindingStatus, time_us: int, severity: Severity = Severity.LOW, cause: str = "a"
) -> Finding:
    return Finding(
        "rule", severity, "did:a", time_us, HOSTILE, (EvidenceRef(EVENTS, 0, 1),), status=status, cause=cause
    )


def test_what_is_told_of_one_cause_is_one_episode() -> None:
    told = [
        finding(FindingStatus.OPENED, 1),
        finding(FindingStatus.OPENED, 2, cause="b"),
        finding(FindingStatus.UPDATED, 3, Severity.HIGH),
        finding(FindingStatus.CLEARED, 9, Severity.INFORMATIONAL),
    ]
    first, second = detectpage.episodes(told)
    assert (first.severity, first.updates, first.end_us) == (Severity.HIGH, 1, 9)
    assert (second.severity, second.updates, second.end_us) == (Severity.LOW, 0, None)


def test_nothing_in_a_page_is_markup_that_somebody_else_wrote() -> None:
    recording = Recording(events=1, config=HOSTILE)
    recording.tracks[HOSTILE] = {HR: track([(0, 70.0), (60, 71.0)])}
    hostile = Finding(HOSTILE, Severity.HIGH, HOSTILE, 30, HOSTILE, (EvidenceRef(HOSTILE, 0, 1),))
    recording.findings = [hostile]
    page = Page(detectpage.page(recording, HOSTILE))
    assert not {"script", "img", "link", "iframe", "a", "object"} & set(page.tags)
    assert not [each for each in page.attributes if each.startswith("on") or each in ("src", "href")]
    assert "".join(page.told).count(HOSTILE) >= 4


def track(samples: Sequence[tuple[int, float]]) -> Track:
    made = Track()
    for time_us, value in samples:
        made.times_us.append(time_us)
        made.values.append(value)
    return made


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False)), min_size=1
    )
)
def test_any_readings_are_drawn_and_no_extreme_is_lost(samples: list[tuple[int, float]]) -> None:
    made = track(samples)
    recording = Recording(tracks={"did:a": {HR: made}})
    Page(detectpage.page(recording, "a"))
    kept = [value for _, value in detectpage.thinned(made, recording.span_us("did:a"), 10) if value == value]
    assert (min(kept), max(kept)) == (min(made.values), max(made.values))


def test_a_long_recording_is_thinned_and_missing_samples_break_the_line() -> None:
    made = track([(row * 1_000_000, float(row % 97)) for row in range(50_000)])
    points = detectpage.thinned(made, (0, 50_000_000_000), 1000)
    assert len(points) <= 2002
    made = track([(0, 1.0), (1, 1.5), (2, 1.0), (100, 2.0), (101, 1.0)])
    broken = [time for time, value in detectpage.thinned(made, (0, 101), 1000) if math.isnan(value)]
    assert broken == [100.0]


def test_only_the_devices_with_most_findings_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectpage, "MAX_DEVICES", 1)
    recording = Recording(tracks={each: {HR: track([(0, 1.0)])} for each in ("did:a", "did:b", "did:c")})
    recording.findings = [Finding("bounds", Severity.LOW, "did:b", 0, "text", ())]
    text = detectpage.page(recording, "a")
    assert "<h2>did:b</h2>" in text
    assert "<h2>did:a</h2>" not in text
    assert "2 more devices are not drawn" in text


def test_a_gap_that_ends_before_the_stage_would_ask_is_no_silence() -> None:
    recording = replay(events_of_records(sent(0, [70.0, 71.0])), CONFIG, silence=SilenceRule(0.5))
    assert [each.rule for each in recording.findings] == []
