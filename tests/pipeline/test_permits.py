"""When live permits are judged again, with tables and a guard that only count."""

from typing import Any, cast

from pipeline.devices import PartitionStates
from pipeline.permits import MOST_AT_ONCE, Permits
from pipeline.policies import PolicyFollower
from pipeline.registry import RegistryFollower
from pipeline.statestore import Partition
from pipeline.topics import ACCESS_RAW, TELEMETRY_RAW
from processors.access.guard import Guard
from processors.model import Outcome


class Table:
    def __init__(self) -> None:
        self.offset, self.changed_at = 5, 0


class Follower:
    def __init__(self) -> None:
        self.table, self.fresh = Table(), True

    def is_fresh(self) -> bool:
        return self.fresh


class States:
    def __init__(self, topic: str, devices: int) -> None:
        self.partition = (topic, 0)
        self.next_expiry_us = {f"did:{number}": 1 for number in range(devices)}


class Asked:
    """A guard that notes whom it was asked about, from which offset on, and ends nothing."""

    def __init__(self) -> None:
        self.since: list[int] = []

    def sweep(self, _states: object, devices: tuple[str], since: int, _now: int, outcome: Outcome) -> None:
        self.since.append(since)


class Scene:
    def __init__(self, devices: int = 2) -> None:
        self.registry, self.policies, self.guard = Follower(), Follower(), Asked()
        self.permits = Permits(
            cast("Guard", self.guard),
            cast("RegistryFollower", self.registry),
            cast("PolicyFollower", self.policies),
        )
        states: Any = {
            (ACCESS_RAW, 0): States(ACCESS_RAW, devices),
            (TELEMETRY_RAW, 0): States(TELEMETRY_RAW, 3),
        }
        self.states = cast("dict[Partition, PartitionStates]", states)

    def swept(self) -> list[int]:
        self.guard.since = []
        assert self.permits.sweep(self.states, 0) == {}
        return self.guard.since


def test_all_are_judged_at_first_and_then_none_until_a_table_moves() -> None:
    scene = Scene()
    assert scene.swept() == [0, 0]
    assert scene.swept() == []
    scene.registry.table.offset = 7
    assert scene.swept() == [5, 5]
    scene.policies.table.changed_at = 1
    assert scene.swept() == [0, 0]
    assert scene.swept() == []
    scene.permits.begin()
    assert scene.swept() == [0, 0]


def test_a_stale_table_says_nothing_and_is_made_up_for() -> None:
    scene = Scene()
    scene.swept()
    for follower in (scene.registry, scene.policies):
        follower.fresh = False
        scene.registry.table.offset += 1
        assert scene.swept() == []
        follower.fresh = True
    assert scene.swept() == [5, 5]


def test_many_are_judged_over_several_steps_and_a_change_meanwhile_loses_none() -> None:
    scene = Scene(MOST_AT_ONCE + 1)
    assert len(scene.swept()) == MOST_AT_ONCE
    assert scene.swept() == [0]
    scene.registry.table.offset = 6
    assert scene.swept() == [5] * MOST_AT_ONCE
    # One waits since offset 5, and its change must not be forgotten over this one.
    scene.registry.table.offset = 9
    assert scene.swept() == [5] * MOST_AT_ONCE
    assert scene.swept() == [5]
    scene.registry.table.offset = 10
    assert scene.swept()[0] == 9
