"""Topics on a cluster of several brokers: how many replicas must have a record before it counts."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import topics
from pipeline.settings import Settings


class Cluster:
    """Keeps the topics that it is asked for, with as many replicas as are wanted."""

    def __init__(self) -> None:
        self.configs: dict[str, dict[str, str]] = {}
        self.topics: dict[str, Any] = {}

    def list_topics(self, **_options: Any) -> Any:
        return SimpleNamespace(topics=self.topics)

    def create_topics(self, wanted: Any, **_options: Any) -> dict[str, Future[None]]:
        for topic in wanted:
            replicas = list(range(topic.replication_factor))
            self.topics[topic.topic] = SimpleNamespace(
                partitions={n: SimpleNamespace(replicas=replicas) for n in range(topic.num_partitions)}
            )
            self.configs[topic.topic] = {"min.insync.replicas": "1", **topic.config}
        return {topic.topic: _answer(None) for topic in wanted}

    def describe_configs(self, resources: Any) -> dict[Any, Future[Any]]:
        return {
            resource: _answer({k: SimpleNamespace(value=v) for k, v in self.configs[resource.name].items()})
            for resource in resources
        }


def _answer(value: Any) -> "Future[Any]":
    answer: Future[Any] = Future()
    answer.set_result(value)
    return answer


def applied(replication_factor: int) -> tuple[Any, Settings]:
    cluster, settings = Cluster(), Settings(partitions=2, replication_factor=replication_factor)
    assert len(topics.apply(cluster, settings)) == len(topics.TOPICS)  # type: ignore[arg-type]
    return cluster, settings


@pytest.mark.parametrize(("replicas", "in_sync"), [(1, "1"), (2, "1"), (3, "2"), (5, "2")])
def test_one_broker_may_be_lost_and_one_may_be_away(replicas: int, in_sync: str) -> None:
    cluster, settings = applied(replicas)
    assert {config["min.insync.replicas"] for config in cluster.configs.values()} == {in_sync}
    assert topics.check(cluster, settings) == []


@pytest.mark.parametrize("in_sync", ["1", "3"])
def test_a_topic_that_was_made_otherwise_is_told(in_sync: str) -> None:
    cluster, settings = applied(3)
    cluster.configs[topics.EVENTS]["min.insync.replicas"] = in_sync
    told = [f"topic {topics.EVENTS} has min.insync.replicas={in_sync}, needs 2 for its 3 replicas"]
    assert topics.check(cluster, settings) == told
    with pytest.raises(topics.TopicMismatchError, match=r"needs 2 for its 3 replicas"):
        topics.apply(cluster, settings)


def test_an_operator_may_want_more_where_one_broker_may_still_be_away() -> None:
    cluster, settings = applied(5)
    cluster.configs[topics.EVENTS]["min.insync.replicas"] = "4"
    assert topics.check(cluster, settings) == []
