"""By which configuration ingest judges, with tables that stand still."""

from dataclasses import dataclass
from typing import cast

from pipeline.judging import overriding
from pipeline.policies import PolicyFollower
from processors.access.policies import OVERRIDES, PolicyTable
from processors.detect import DetectConfig
from tests.kit.ward import PolicyTopic, Ward

HOURS = "[ward.nursery.replay]\nwindow_h = 9.0\n"


@dataclass
class Follower:
    table: PolicyTable
    was_read_up: bool = True


def hours(ward: Ward, policies: PolicyTopic, device: str, *, was_read_up: bool = True) -> float | None:
    """How far back a replay is looked for at a device; None where all have the defaults."""
    follower = cast("PolicyFollower", Follower(policies.table, was_read_up))
    config_of = overriding(ward.registry.table, follower)
    return config_of(device).replay_window_s / 3600 if config_of else None


def test_the_ward_is_the_registrys_as_it_stands() -> None:
    ward, policies = Ward(None), PolicyTopic()
    small, grown = ward.device("small", ward="nursery"), ward.device("grown")
    nowhere, stranger = ward.device("nowhere", ward=""), "did:key:nobody"
    default = DetectConfig.default().replay_window_s / 3600
    assert hours(ward, policies, small) is None
    policies.publish(OVERRIDES, HOURS, "")
    assert [hours(ward, policies, each) for each in (small, grown, nowhere, stranger)] == [
        9.0, default, default, default,
    ]  # fmt: skip
    policies.publish(OVERRIDES, f'{HOURS}[device."{small}".replay]\nwindow_h = 5.0', "")
    assert hours(ward, policies, small) == 5.0
    policies.withdraw(OVERRIDES)
    assert hours(ward, policies, small) is None


def test_policies_that_were_never_read_up_set_nothing() -> None:
    ward, policies = Ward(None), PolicyTopic()
    small = ward.device("small", ward="nursery")
    policies.publish(OVERRIDES, HOURS, "")
    assert hours(ward, policies, small, was_read_up=False) is None
    assert hours(ward, policies, small) == 9.0
