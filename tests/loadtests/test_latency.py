"""Percentiles are those of every single value, and the text format is HdrHistogram's."""

import math
import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loadtests.latency import Latencies, summary_line


def test_percentiles_of_a_hundred_values() -> None:
    found = Latencies.of_ns(np.arange(1, 101) * 1_000_000)
    assert [found.at(each) for each in (0, 1, 50, 95, 99, 99.9, 100)] == [1, 1, 50, 95, 99, 100, 100]
    assert (found.mean, found.most) == (50.5, 100.0)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=300), st.floats(0, 100))
def test_so_many_percent_are_not_above_a_percentile(values: list[int], percentile: float) -> None:
    found = Latencies.of_ns(np.array(values))
    value = found.at(percentile)
    not_above = sum(each / 1e6 <= value for each in values)
    below = sum(each / 1e6 < value for each in values)
    assert not_above >= percentile / 100 * len(values) - 1e-6
    assert below <= percentile / 100 * len(values) + 1e-6


def test_of_nothing_there_is_no_latency() -> None:
    found = Latencies.of_ns(np.zeros(0, np.int64))
    assert math.isnan(found.at(99))
    assert found.summary()["99pct"] is None
    assert "Total count    =            0" in found.hgrm()


@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=2000))
def test_the_distribution_rises_to_all_values(values: list[int]) -> None:
    found = Latencies.of_ns(np.array(values))
    lines = [line.split() for line in found.hgrm().splitlines()[2:] if not line.startswith("#")]
    columns = list(zip(*((float(line[0]), float(line[1]), int(line[2])) for line in lines), strict=True))
    for column in columns:
        assert list(column) == sorted(column)
    assert columns[1][-1] == 1.0
    assert columns[2][-1] == len(values)
    assert math.isclose(columns[0][-1], max(values) / 1e6, abs_tol=0.001)


def test_the_text_format_has_its_head_and_foot() -> None:
    lines = Latencies.of_ns(np.arange(1000) * 1_000_000).hgrm().splitlines()
    assert lines[0].split() == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
    assert re.fullmatch(r" *\d+\.\d{3} 0\.\d{12} +\d+ +\d+\.\d\d", lines[2])
    assert re.fullmatch(r"#\[Mean    = +[\d.]+, StdDeviation   = +[\d.]+\]", lines[-3])
    assert re.fullmatch(r"#\[Max     = +[\d.]+, Total count    = +1000\]", lines[-2])
    assert lines[-1].startswith("#[Buckets = ")


def test_the_summary_is_the_line_of_kafka_producer_perf_test() -> None:
    found = Latencies.of_ns(np.arange(1, 1001) * 1_000_000)
    assert summary_line(1000, 1024 * 1024, 2.0, found) == (
        "1000 records sent, 500.0 records/sec (0.50 MB/sec), 500.50 ms avg latency, 1000.00 ms max latency, "
        "500 ms 50th, 950 ms 95th, 990 ms 99th, 999 ms 99.9th."
    )
