"""What the cluster says about the sealed topics: partitions, topic ids, where they begin and end."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from pipeline import kafka
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.statestore import Partition
from pipeline.topics import SEALED_TOPICS


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """One look; `asked_at_s` (monotonic) is from before it, so nothing in it is older."""

    asked_at_s: float
    topic_ids: Mapping[str, str]
    starts: Mapping[Partition, int]
    ends: Mapping[Partition, int]
    """Next offsets, counting what is not committed."""
    sealed_to: Mapping[Partition, int]
    """Up to which offsets leaves had been compared when it was asked."""

    @property
    def partitions(self) -> list[Partition]:
        """Every partition of a sealed topic."""
        return sorted(self.ends)


def read_facts(client: AdminClient, sealed_to: Mapping[Partition, int]) -> ClusterFacts:
    """Ask the cluster; raises KafkaException when it does not answer."""
    asked_at_s = time.monotonic()
    topic_ids: dict[str, str] = {}
    partitions: list[Partition] = []
    described = client.describe_topics(TopicCollection(list(SEALED_TOPICS)), request_timeout=CALL_TIMEOUT_S)
    for topic, future in described.items():
        try:
            found = future.result(timeout=CALL_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                continue  # not created yet, or deleted
            raise
        topic_ids[topic] = str(found.topic_id)
        partitions += [(topic, each.id) for each in found.partitions]
    starts = kafka.start_offsets(client, partitions) if partitions else {}
    ends = kafka.end_offsets(client, partitions) if partitions else {}
    return ClusterFacts(asked_at_s, topic_ids, starts, ends, sealed_to)
