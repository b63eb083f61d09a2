"""How many records wait for a worker: what its clients have heard of each partition's end, less where it is.

No question is sent for it: every fetch brings the high watermark along. That counts records of transactions
that are still open, and of a partition that has never answered nothing is known.
"""

import time
from collections import Counter
from collections.abc import Mapping

from confluent_kafka import TopicPartition

from pipeline import metrics
from pipeline.membership import GroupMember
from pipeline.statestore import Partition

LOOK_EVERY_S = 1.0


class Lag:
    """Sets `attestream_lag_records` of one worker."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._looked_at = 0.0
        self._shown: set[str] = set()

    def look(self, member: GroupMember, next_offsets: Mapping[Partition, int]) -> None:
        """Measure, at most once a second; topics that the worker has lost count nothing."""
        if time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = time.monotonic()
        behind: Counter[str] = Counter(dict.fromkeys(self._shown, 0))
        for partition, next_offset in next_offsets.items():
            # Where the end was met, only markers of transactions may lie between it and the last record.
            at = max(next_offset, member.ends.get(partition, 0))
            known = member.consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
            behind[partition[0]] += max(0, known[1] - at) if known else 0
        self._shown |= set(behind)
        for topic, records in behind.items():
            metrics.LAG.labels(self._stage, topic).set(records)
