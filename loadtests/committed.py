"""How far a consumer group has come, asked by a consumer that does not join it.

Not by an admin client: while a fresh cluster has no coordinator for the group yet, librdkafka 2.16 crashes on
its `list_consumer_group_offsets` (a null pointer in its main thread, met on a stack that had just been
started).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from loadtests.sightings import Place

ASK_S = 10.0


class Committed:
    """Committed offsets of one group. Not for use from several threads at once."""

    def __init__(self, properties: Mapping[str, Any], group: str, places: Sequence[Place]) -> None:
        self._places = [TopicPartition(*place) for place in places]
        self._consumer = Consumer(
            {**properties, "group.id": group, "enable.auto.commit": False, "log_level": 0}
        )
        self._known: dict[Place, int] = dict.fromkeys(places, 0)

    def offsets(self) -> dict[Place, int]:
        """Return each place's next offset, 0 for none; the last known while nobody answers."""
        try:
            found = self._consumer.committed(self._places, timeout=ASK_S)
        except KafkaException as error:
            if not error.args[0].retriable() and error.args[0].code() >= 0:
                raise
            return self._known
        self._known = {(each.topic, each.partition): max(0, each.offset) for each in found}
        return self._known

    def total(self) -> int:
        """Return all offsets added up: how many records are done where the topics began empty."""
        return sum(self.offsets().values())

    def close(self) -> None:
        """Let the connection go."""
        self._consumer.close()
