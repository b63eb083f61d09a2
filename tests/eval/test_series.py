"""Labelled series: the benchmark's scoring, our own example, and folders that are wrong or hostile."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.eval import __main__ as command
from tests.eval import nab
from tests.eval.adapter import detections
from tests.eval.series import Series, SeriesError, read

EXAMPLE = Path(__file__).with_name("example")
STANDARD = nab.PROFILES["standard"]
CSV = "timestamp,value\n2026-01-05 00:00:00,1.0\n2026-01-05 00:05:00,2.0\n2026-01-05 00:10:00,3.0\n"


def series(*windows: tuple[int, int], rows: int = 1000) -> Series:
    return Series("a", [row * 60_000_000 for row in range(rows)], [0.0] * rows, windows)


def raw(rows: Sequence[int], *windows: tuple[int, int]) -> float:
    return nab.raw_score(nab.Found(series(*windows), rows), STANDARD)


def written(folder: Path, labels: str, text: str | bytes = CSV, name: str = "a.csv") -> Path:
    (folder / "combined_windows.json").write_text(labels, encoding="utf-8")
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


# ---- the benchmark's scoring ----------------------------------------------------------------------------


def test_the_sigmoid_has_the_values_of_the_paper() -> None:
    for position, worth in ((-1.0, 0.98661), (-0.5, 0.84828), (0.0, 0.0), (1.0, -0.98661), (3.0, -1.0)):
        assert nab.scaled_sigmoid(position) == pytest.approx(worth, abs=1e-5)


def test_silence_scores_0_and_every_window_at_its_first_row_100() -> None:
    windows = (400, 449), (700, 799)
    for profile in nab.PROFILES.values():
        assert nab.score([nab.Found(series(*windows), [])], profile) == 0.0
        assert nab.score([nab.Found(series(*windows), [400, 700])], profile) == pytest.approx(100.0)


def test_an_earlier_detection_is_worth_more_and_a_second_one_nothing() -> None:
    window = (400, 499)
    worths = [raw([row], window) for row in (400, 420, 450, 499)]
    assert worths == sorted(worths, reverse=True)
    assert worths[-1] > 0
    assert worths[2] == pytest.approx(nab.scaled_sigmoid(-0.5) / nab.scaled_sigmoid(-1.0))
    assert raw([450, 460, 470], window) == worths[2]


def test_a_false_detection_costs_less_right_behind_a_window() -> None:
    window = (400, 499)
    for row, position in ((500, 1 / 99), (598, 2.0 - 1.0), (598 + 99, 2.0)):
        cost = raw([400, row], window) - raw([400], window)
        assert cost == pytest.approx(0.11 * nab.scaled_sigmoid(position))
    for row in (300, 900):
        assert raw([400, row], window) - raw([400], window) == pytest.approx(-0.11)


def test_the_probation_counts_for_nothing() -> None:
    assert [nab.probation(rows) for rows in (0, 10, 1000, 5000, 22_000)] == [0, 1, 150, 750, 750]
    assert raw([0, 100, 149]) == 0.0
    assert raw([150]) == -0.11
    assert nab.score([nab.Found(series((20, 120)), [30])], STANDARD) is None
    assert raw([], (20, 160)) == -1.0


def test_the_profiles_weigh_false_alarms_and_misses() -> None:
    found = [nab.Found(series((400, 499), (700, 799)), [400, 600, 650])]
    scores = {name: nab.score(found, profile) or 0.0 for name, profile in nab.PROFILES.items()}
    assert scores["reward_low_FP_rate"] < scores["standard"]
    assert scores["standard"] < scores["reward_low_FN_rate"]


def test_precision_is_of_detections_and_recall_of_windows() -> None:
    told = nab.summary([nab.Found(series((400, 499), (700, 799)), [10, 410, 420, 900])])
    assert (told["precision"], told["recall"], told["detections"]) == (0.667, 0.5, 3)
    told = nab.summary([nab.Found(series(), [])])
    assert (told["precision"], told["recall"]) == (None, None)
    assert set(told["scores"].values()) == {None}


# ---- our own series -------------------------------------------------------------------------------------


def test_the_example_is_scored_the_same_every_time(tmp_path: Path) -> None:
    paths = [tmp_path / "one.json", tmp_path / "two.json"]
    for path in paths:
        assert command.main(["--data", str(EXAMPLE), "--report", str(path)]) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()
    document = json.loads(paths[0].read_text(encoding="utf-8"))
    assert (document["series"], document["windows"]) == (3, 3)
    for each in (document, *document["by_series"].values()):
        assert set(each["scores"]) == set(nab.PROFILES)
        assert each["recall"] is None or 0.0 <= each["recall"] <= 1.0
        assert all(score is None or score <= 100.0 for score in each["scores"].values())


def test_a_value_that_no_instrument_gives_is_detected_where_it_stands() -> None:
    values = [10.0 + (row * 7 % 5) / 10 for row in range(200)]
    values[150] = 1e305
    assert 150 in detections([row * 60_000_000 for row in range(200)], values)


def test_constant_and_extreme_series_are_read_without_harm() -> None:
    times = [row * 60_000_000 for row in range(64)]
    for values in ([0.0] * 64, [5e-324, 1.7e308] * 32, [-1.7e308] * 64):
        assert all(0 <= row < 64 for row in detections(times, values))


def test_the_benchmarks_own_layout_is_read(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "data" / "group").mkdir(parents=True)
    window = ["2026-01-05 00:05:00.000000", "2026-01-05 00:10:00.000000"]
    (tmp_path / "labels" / "combined_windows.json").write_text(json.dumps({"group/a.csv": [window]}))
    (tmp_path / "data" / "group" / "a.csv").write_text("\ufeff" + CSV, encoding="utf-8")
    (found,) = read(tmp_path)
    assert (found.name, found.values, found.windows) == ("group/a.csv", [1.0, 2.0, 3.0], [(1, 2)])
    assert found.times_us[1] - found.times_us[0] == 300_000_000


# ---- what is wrong --------------------------------------------------------------------------------------

ROW = "2026-01-05 00:15:00"
BAD_ROWS = {
    f"{ROW},nan\n": "line 5: 'nan' is not a finite number",
    f"{ROW},-inf\n": "line 5: '-inf' is not a finite number",
    f"{ROW},high\n": "line 5: 'high' is no number",
    f"{ROW},\n": "line 5: '' is no number",
    f"{ROW}\n": "line 5: 1 cells",
    f"{ROW},1,2\n": "line 5: 3 cells",
    "yesterday,1.0\n": "line 5: 'yesterday' is no timestamp",
    "0001-01-01T00:00:00+23:59,1.0\n": "line 5: ",
    "2026-01-05 00:09:59,1.0\n": "line 5: '2026-01-05 00:09:59' is earlier than the line before",
    f'{ROW},"1.0\n': "line 5: no readable CSV",
}


@pytest.mark.parametrize(("row", "message"), BAD_ROWS.items())
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(SeriesError) as raised:
        list(read(written(tmp_path, '{"a.csv": []}', CSV + row)))
    assert str(raised.value).startswith(f"{tmp_path / 'a.csv'} {message}")


BAD_FILES = {
    "time,value\n": "line 1: expected the header timestamp,value",
    "": "line 1: has no rows",
    "timestamp,value\n": "line 1: has no rows",
}


@pytest.mark.parametrize(("text", "message"), BAD_FILES.items())
def test_a_file_without_series_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SeriesError) as raised:
        list(read(written(tmp_path, '{"a.csv": []}', text)))
    assert str(raised.value) == f"{tmp_path / 'a.csv'} {message}"


def test_bytes_that_are_no_text_are_named_by_line(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match=r"a\.csv line 5: not UTF-8 text"):
        list(read(written(tmp_path, '{"a.csv": []}', CSV.encode() + b"\xff\xfe,1\n")))


BAD_LABELS = {
    "{": "line 1: no JSON",
    "[1]": "line 1: expected an object",
    "{}": "line 1: expected an object",
    "[" * 100_000: "line 1: no",
    '{\n"a.csv": 7}': "line 2: expected a list of windows",
    '{\n"a.csv": [["2026-01-05 00:05:00"]]}': "line 2: a window is a list",
    '{\n"a.csv": [["noon", "2026-01-05 00:05:00"]]}': "line 2: 'noon' is no timestamp",
    '{\n"a.csv": [[1, 2]]}': "line 2: 1 is no timestamp",
    '{\n"a.csv": [["2026-01-05 00:10:00", "2026-01-05 00:05:00"]]}': "line 2: the window",
    '{\n"a.csv": [["2026-01-06 00:00:00", "2026-01-06 01:00:00"]]}': "line 2: no row lies in the window",
    '{"a.csv": [],\n"/etc/passwd": []}': "line 2: '/etc/passwd' leads out of the folder",
    '{"a.csv": [],\n"../b.csv": []}': "line 2: '../b.csv' leads out of the folder",
    '{"a.csv": [["2026-01-05 00:00:00", "2026-01-05 00:05:00"], '
    '["2026-01-05 00:05:00", "2026-01-05 00:10:00"]]}': "line 1: two windows overlap",
}


@pytest.mark.parametrize(("labels", "message"), BAD_LABELS.items(), ids=range(len(BAD_LABELS)))
def test_bad_labels_are_named_by_file_and_line(tmp_path: Path, labels: str, message: str) -> None:
    with pytest.raises(SeriesError) as raised:
        list(read(written(tmp_path, labels)))
    assert str(raised.value).startswith(f"{tmp_path / 'combined_windows.json'} {message}")


def test_a_missing_file_is_one_clear_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--data", str(tmp_path)]) == 2
    assert command.main(["--data", str(written(tmp_path, '{"b.csv": []}'))]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told == [
        f"eval: {tmp_path / 'combined_windows.json'} line 1: No such file or directory",
        f"eval: {tmp_path / 'b.csv'} line 1: No such file or directory",
    ]
