"""Which broker does what at this moment."""

import json
from collections.abc import Callable
from contextlib import suppress
from random import Random

from pipeline import topics
from tests.faults.machine.trio.cluster import Cluster, ClusterError

INTERNAL_PARTITIONS = 8
"""Of each of Kafka's own topics, as the local broker's properties say."""


def java_hash(text: str) -> int:
    """`String.hashCode` of the JVM, signed, for text in the Basic Multilingual Plane."""
    value = 0
    for letter in text:
        value = (31 * value + ord(letter)) & 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value


def coordinator_partition(name: str) -> int:
    """Partition of Kafka's internal topic whose leader coordinates this group or transactional id."""
    return (java_hash(name) & 0x7FFFFFFF) % INTERNAL_PARTITIONS


class Roles:
    """Names the node in a role; each name of a role is a target of the machine."""

    def __init__(self, cluster: Cluster, log_name: str, partitions: int, workers: int, rng: Random) -> None:
        self._cluster, self._log_name, self._rng = cluster, log_name, rng
        self._partitions, self._workers = partitions, workers

    def transaction_coordinator(self) -> int:
        """Of one of ingest's transactional ids."""
        name = f"{self._log_name}.ingest.{self._rng.randrange(self._workers)}"
        return self._leader("__transaction_state", coordinator_partition(name))

    def group_coordinator(self) -> int:
        """Of ingest's consumer group."""
        return self._leader("__consumer_offsets", coordinator_partition(f"{self._log_name}.ingest"))

    def leader(self) -> int:
        """Of a partition of accepted events, raw telemetry or its changelog."""
        names = (topics.EVENTS, topics.TELEMETRY_RAW, topics.changelog_of(topics.TELEMETRY_RAW))
        return self._leader(self._rng.choice(names), self._rng.randrange(self._partitions))

    def controller(self) -> int:
        """The leader of the metadata quorum: what nodes have written down, the newest epoch."""
        newest = (-1, -1)
        for node in self._cluster.nodes.values():
            with suppress(OSError, ValueError, KeyError):
                said = json.loads((node.storage / "__cluster_metadata-0" / "quorum-state").read_text())
                newest = max(newest, (int(said["leaderEpoch"]), int(said["leaderId"])))
        if newest[1] < 0:
            raise ClusterError("no node knows the controller")
        return newest[1]

    def _leader(self, topic: str, partition: int) -> int:
        metadata = self._cluster.admin.list_topics(topic, timeout=10)
        leader = int(metadata.topics[topic].partitions[partition].leader)
        if leader < 0:
            raise ClusterError(f"{topic}[{partition}] has no leader")
        return leader


TARGETS: dict[str, Callable[[Roles], int]] = {
    "coordinator": Roles.transaction_coordinator,
    "group": Roles.group_coordinator,
    "leader": Roles.leader,
    "controller": Roles.controller,
}
