"""Hedera's texts for entities, times and transactions are read strictly and written back the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchors.hedera.ids import (
    INT64_MAX,
    EntityId,
    format_timestamp,
    format_transaction_id,
    mirror_transaction_id,
    parse_mirror_transaction_id,
    parse_timestamp,
)

NUMBERS = st.integers(0, INT64_MAX)
TIMES = st.integers(0, INT64_MAX)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_entity_round_trip(shard: int, realm: int, number: int) -> None:
    entity = EntityId(shard, realm, number)
    assert EntityId.parse(str(entity)) == entity


@pytest.mark.parametrize(
    "text", ["", "0.0", "0.0.01", "0.0.-1", "0.0.1 ", "0.0.1\n", "a.b.c", f"0.0.{INT64_MAX + 1}", "0.0.١"]
)
def test_bad_entities(text: str) -> None:
    with pytest.raises(ValueError, match="entity id"):
        EntityId.parse(text)


@given(TIMES)
def test_timestamp_round_trip(time_ns: int) -> None:
    assert parse_timestamp(format_timestamp(time_ns)) == time_ns


def test_timestamps_with_fewer_decimals_are_fractions() -> None:
    assert parse_timestamp("5") == 5_000_000_000
    assert parse_timestamp("5.5") == 5_500_000_000


@pytest.mark.parametrize("text", ["", ".5", "5.", "-5", "5.1234567890", "9999999999", "5e3", "٥"])
def test_bad_timestamps(text: str) -> None:
    with pytest.raises(ValueError, match=r"timestamp|2262"):
        parse_timestamp(text)


@given(TIMES)
def test_transaction_id_round_trip(start_ns: int) -> None:
    text = format_transaction_id(EntityId(0, 0, 2), start_ns)
    assert parse_mirror_transaction_id(mirror_transaction_id(text)) == text


@pytest.mark.parametrize(
    "text", ["", "0.0.2", "0.0.2-1", "0.0.2-1-1", "0.0.2-1-000000001-1", "x-1-000000001"]
)
def test_bad_transaction_ids(text: str) -> None:
    with pytest.raises(ValueError, match="form"):
        parse_mirror_transaction_id(text)
