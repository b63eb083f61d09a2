"""The carried record is the published one, figure by figure."""

import hashlib

from loadtests import vitals
from schemas.mdc import BY_NAME

PUBLISHED_SHA256 = "71b1d616f43bc051e9bd30105a3e04117978f4514d5dbdaeb60cf8cfe55f1527"


def test_the_published_file_is_rebuilt_byte_for_byte() -> None:
    assert hashlib.sha256(vitals.as_csv().encode()).hexdigest() == PUBLISHED_SHA256


def test_rows_hold_every_figure_of_the_csv_and_no_blank() -> None:
    header, *lines = vitals.as_csv().splitlines()
    codes = [BY_NAME[name.lower()].code for name in header.split(",")[1:]]
    rows = vitals.rows()
    assert len(rows) == len(lines) == 1936
    for row, line in zip(rows, lines, strict=True):
        cells = line.split(",")[1:]
        expected = [(code, float(cell)) for code, cell in zip(codes, cells, strict=True) if cell]
        assert list(zip(row.codes, row.values, strict=True)) == expected


def test_zeros_of_a_sensor_that_is_off_are_kept() -> None:
    heart_rate = BY_NAME["hr"].code
    values = [
        v for row in vitals.rows() for c, v in zip(row.codes, row.values, strict=True) if c == heart_rate
    ]
    assert (len(values), values.count(0.0)) == (1936, 46)
