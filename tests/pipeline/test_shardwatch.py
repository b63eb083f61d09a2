"""When records count as overdue: by what the cluster says, not by how long it has said nothing."""

from types import SimpleNamespace
from typing import cast

import pytest

from pipeline.watch.cluster import ClusterFacts
from pipeline.watch.context import Watch
from pipeline.watch.memory import KnownShard
from pipeline.watch.shardwatch import ShardWatch
from processors.integrity.delays import Standing

PLACE = ("device.events", 1)
PATIENCE_S = 7.0


def facts(asked_at_s: float, end: int) -> ClusterFacts:
    return ClusterFacts(asked_at_s, {PLACE[0]: "id"}, {PLACE: 0}, {PLACE: end}, {})


@pytest.fixture
def watch() -> Watch:
    """A monitor that has read all 540 records of a topic, as far as it was told."""
    tail = SimpleNamespace(follows=lambda _place: True, trouble="", seen_to=lambda _place: 540)
    shared = SimpleNamespace(
        source=SimpleNamespace(at=lambda _folder: None),
        settings=SimpleNamespace(monitor_patience_s=PATIENCE_S),
        standing=Standing(),
        tail=tail,
        facts=None,
        now_s=0.0,
    )
    return cast("Watch", shared)


@pytest.fixture
def shard(watch: Watch) -> ShardWatch:
    return ShardWatch(watch, KnownShard("log/events/1", *PLACE))


def overdue(shard: ShardWatch, watch: Watch, now_s: float) -> bool:
    watch.now_s = now_s
    return shard._records_are_overdue(810)


def test_an_old_word_of_a_cluster_that_is_away_accuses_nobody(shard: ShardWatch, watch: Watch) -> None:
    watch.facts = facts(100.0, 540)
    assert [overdue(shard, watch, at) for at in (100.1, 105.0, 200.0)] == [False, False, False]
    watch.facts = facts(200.5, 810)  # back again: the records were only on their way
    assert not overdue(shard, watch, 200.6)


def test_a_topic_that_is_said_to_end_before_its_leaves_for_a_while_does(
    shard: ShardWatch, watch: Watch
) -> None:
    found = []
    for asked_at_s in (100.0, 101.0, 103.4, 103.5):
        watch.facts = facts(asked_at_s, 540)
        found.append(overdue(shard, watch, asked_at_s + 0.1))
    assert found == [False, False, False, True]
