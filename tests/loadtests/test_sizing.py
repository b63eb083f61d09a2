"""The cost model is monotone, linear where it says so, and bears whatever a fleet may be."""

import math
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.costs import Costs, StageCost, read_costs
from loadtests.errors import PlanError
from loadtests.sizeplan import Fleet, parse_rate
from loadtests.sizing import CACHED_DEVICES, MONTH_S, Sized, size
from pipeline.settings import Settings

COSTS = read_costs()
WITH_CRATE = COSTS.model_copy(
    update={
        "stages": COSTS.stages.model_copy(update={"ingest_crate": StageCost(idle_cores=0.01, cpu_us=25.0)})
    }
)

FLEETS = st.builds(
    Fleet,
    devices=st.integers(1, 10**9),
    rate=st.floats(1e-9, 1e6),
    event_bytes=st.none() | st.floats(1, 1e6),
    access_share=st.floats(0, 1),
    checkpoint_interval_s=st.floats(0.01, 86_400),
    anchor_interval_s=st.floats(0.1, 30 * 86_400),
    retention_days=st.floats(0.01, 36_500),
    replication=st.integers(1, 9),
    cores_per_machine=st.integers(1, 4096),
    put_price=st.floats(0, 1e6),
    message_price=st.floats(0, 1e6),
)


def growing(sized: Sized) -> dict[str, float]:
    """All that more events or devices can only raise; a worker's memory not: of more each has less."""
    found: dict[str, Any] = asdict(sized)
    flat = {name: each for name, each in found.items() if isinstance(each, int | float)}
    flat |= {f"cores of {name}": each for name, each in found["cores"].items() if each is not None}
    flat |= {f"workers of {name}": each for name, each in found["workers"].items() if each is not None}
    flat |= {family["name"]: family["bytes_kept"] for family in found["kafka"]}
    flat |= {f"price at {each['checkpoint_interval_s']}": each["dollars_a_month"] for each in found["prices"]}
    del flat["worker_mib"]
    return flat


@pytest.mark.parametrize("costs", [COSTS, WITH_CRATE])
@given(fleet=FLEETS)
def test_every_fleet_within_bounds_has_a_size(costs: Costs, fleet: Fleet) -> None:
    sized = size(fleet, costs)
    assert all(math.isfinite(each) and each >= 0 for each in growing(sized).values())
    assert min(sized.workers["ingest, wheel"] or 0, sized.machines, sized.partitions) >= 1
    assert sized.partitions >= 2 * (sized.workers["ingest, wheel"] or 0)
    assert sized.brokers >= fleet.replication
    assert (sized.cores_with_crate is None) == (costs.stages.ingest_crate is None)


@given(
    fleet=FLEETS.filter(lambda fleet: fleet.devices <= 10**8 and fleet.rate <= 1e5),
    factor=st.integers(1, 10),
    by_rate=st.booleans(),
)
def test_more_devices_or_events_never_need_less(fleet: Fleet, factor: int, by_rate: bool) -> None:
    more = (
        replace(fleet, rate=fleet.rate * factor)
        if by_rate
        else replace(fleet, devices=fleet.devices * factor)
    )
    less, now = growing(size(fleet, WITH_CRATE)), growing(size(more, WITH_CRATE))
    assert [name for name in less if now[name] < less[name] * (1 - 1e-9)] == []


@given(fleet=FLEETS.filter(lambda fleet: fleet.rate <= 1e5), factor=st.floats(1, 10))
def test_what_is_said_to_be_linear_is(fleet: Fleet, factor: float) -> None:
    one, many = (size(each, COSTS) for each in (fleet, replace(fleet, rate=fleet.rate * factor)))
    for name in ("events_a_second", "leaves_a_second", "tile_bytes_a_day", "tile_objects_a_day"):
        assert getattr(many, name) == pytest.approx(getattr(one, name) * factor)
    families = {each.name: each for each in many.kafka}
    for family in one.kafka:
        if family.name != "checkpoints":
            assert families[family.name].bytes_a_day == pytest.approx(family.bytes_a_day * factor)
    cores = (one.cores["profile"] or 0) - COSTS.stages.profile.idle_cores
    assert (many.cores["profile"] or 0) - COSTS.stages.profile.idle_cores == pytest.approx(cores * factor)


def test_the_figures_follow_from_the_measured_ones() -> None:
    sized = size(Fleet(devices=10_000, rate=0.5, access_share=0.0, replication=2), COSTS)
    assert sized.events_a_second == 5000
    assert sized.leaves_a_second == pytest.approx(5000 * (1 + COSTS.leaves.findings_per_event))
    raw = sized.kafka[0]
    assert raw.bytes_a_day == pytest.approx(
        5000 * (COSTS.mix.event_bytes + COSTS.kafka.raw_overhead) * 86_400 * 2
    )
    assert raw.bytes_kept == pytest.approx(7 * raw.bytes_a_day)
    assert sized.network_between == pytest.approx(sized.network_in)
    assert sized.anchors_a_month == pytest.approx(MONTH_S / 10)
    assert sized.anchor_dollars_a_month == pytest.approx(MONTH_S / 10 * 0.0008)
    assert sized.ingest_rocksdb_bytes == 10_000 * COSTS.rocksdb_bytes


@given(fleet=FLEETS)
def test_a_longer_checkpoint_interval_is_never_dearer(fleet: Fleet) -> None:
    prices = size(fleet, COSTS).prices
    assert fleet.checkpoint_interval_s in [each.checkpoint_interval_s for each in prices]
    for shorter, longer in pairwise(prices):
        assert shorter.checkpoint_interval_s < longer.checkpoint_interval_s
        assert longer.writes_a_month <= shorter.writes_a_month * (1 + 1e-9)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("1/s", 1.0), ("0.5/s", 0.5), ("2/min", 2 / 60), ("60/h", 1 / 60), (" 5/d ", 5 / 86_400)],
)
def test_rates_are_read(text: str, rate: float) -> None:
    assert parse_rate(text) == pytest.approx(rate)


@pytest.mark.parametrize(
    "text",
    ["", "1", "/s", "1/", "1/y", "-1/s", "0/s", "0.0/h", "1e3/s", "nan/s", "1 /s", "1/s/s", "٣/s", "1" * 50],
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="--rate"):
        parse_rate(text)


@given(text=st.text())
def test_any_text_is_a_rate_or_one_error(text: str) -> None:
    try:
        rate = parse_rate(text)
    except PlanError:
        return
    assert 0 < rate < 1e10


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"devices": 0}, "--devices"),
        ({"devices": 10**10}, "--devices"),
        ({"rate": math.inf}, "--rate"),
        ({"event_bytes": math.nan}, "--event-bytes"),
        ({"access_share": 1.1}, "--access-share"),
        ({"checkpoint_interval_s": 0.0}, "--checkpoint-interval"),
        ({"anchor_interval_s": -1.0}, "--anchor-interval"),
        ({"retention_days": math.nan}, "--retention-days"),
        ({"replication": 0}, "--replication"),
        ({"cores_per_machine": 0}, "--cores-per-machine"),
        ({"put_price": -0.1}, "--put-price"),
        ({"message_price": math.inf}, "--message-price"),
    ],
)
def test_a_fleet_out_of_bounds_is_refused_by_the_name_of_its_option(
    changed: dict[str, Any], named: str
) -> None:
    with pytest.raises(PlanError, match=named):
        size(Fleet(**{"devices": 1, "rate": 1.0, **changed}), COSTS)


def test_a_worker_is_sized_for_as_many_states_as_it_keeps() -> None:
    assert Settings().cached_devices == CACHED_DEVICES
