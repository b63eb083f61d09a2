"""Where a stage goes on in a partition, set by an operator: offsets expired, or records are gone.

Where the group has forgotten, the stage's outputs say where it stood (pipeline/judged.py).
"""

import time
from dataclasses import dataclass

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline import kafka
from pipeline.changelogmark import ChangelogMark
from pipeline.judged import judged_to
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.membership import group_of
from pipeline.settings import PipelineError, Settings, UsageError
from pipeline.statestore import Partition
from pipeline.topics import ALERTS, DECISIONS, PRINTS, RAW_TOPICS, changelog_of, stage_of

_SOURCES = (*RAW_TOPICS, DECISIONS, PRINTS, ALERTS)
RETRY_S = 0.5


class OffsetError(PipelineError):
    """The group's offset could not be set."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a stage's place in a partition; offsets are next offsets, None where unknown."""

    place: Partition
    committed: int | None
    judged_to: int | None
    """One past the last record that has a verdict."""
    start: int
    end: int

    @property
    def is_another_topic(self) -> bool:
        """Tell whether verdicts reach beyond the topic's end: it was made anew, or cut off."""
        return self.judged_to is not None and self.judged_to > self.end

    @property
    def next_offset(self) -> int:
        """Return where to go on: behind the last verdict, or where the topic begins now."""
        if self.judged_to is None or self.is_another_topic:
            return self.start
        return max(self.start, self.judged_to)

    @property
    def gone(self) -> int:
        """Count the offsets that will never get a verdict, because their records are gone."""
        return 0 if self.judged_to is None else max(0, self.start - self.judged_to)


def standing(settings: Settings, place: Partition) -> Standing:
    """Find out where a stage stands; raises UsageError for a place that none with such offsets reads."""
    topic, number = place
    if topic not in _SOURCES:
        raise UsageError(f"{topic} is none of {', '.join(_SOURCES)}")
    admin = kafka.admin(settings)
    known = admin.list_topics(timeout=CALL_TIMEOUT_S).topics
    if number not in known[topic].partitions:
        raise UsageError(f"{topic} has no partition {number}")
    found = _committed(settings, admin, place)
    return Standing(
        place,
        found.offset if found.offset >= 0 else None,
        judged_to(settings, admin, place),
        kafka.start_offsets(admin, [place])[place],
        kafka.end_offsets(admin, [place])[place],
    )


def set_offset(
    settings: Settings, place: Partition, next_offset: int, *, accept_changelog: bool = False
) -> None:
    """Let the stage go on at an offset; waits until the group has let its last worker go.

    `accept_changelog` takes the changelog as it is now, whatever offsets were committed with; without it the
    mark that was committed stays. Raises OffsetError where a worker stays, KafkaException when nobody
    answers.
    """
    admin = kafka.admin(settings)
    if accept_changelog:
        mark = ChangelogMark(kafka.topic_id(admin, changelog_of(place[0])), None, None).encode()
    else:
        mark = _committed(settings, admin, place).metadata or ""
    wanted = ConsumerGroupTopicPartitions(
        group_of(settings, stage_of(place[0])), [TopicPartition(*place, next_offset, metadata=mark)]
    )
    deadline = time.monotonic() + settings.session_timeout_s + CALL_TIMEOUT_S
    while True:
        asked = admin.alter_consumer_group_offsets([wanted], request_timeout=CALL_TIMEOUT_S)
        error = asked[wanted.group_id].result(CALL_TIMEOUT_S).topic_partitions[0].error
        if error is None:
            return
        if time.monotonic() > deadline:
            raise OffsetError(
                f"{wanted.group_id}: is every {stage_of(place[0])} worker stopped? Kafka says: {error.str()}"
            )
        time.sleep(RETRY_S)


def _committed(settings: Settings, admin: AdminClient, place: Partition) -> TopicPartition:
    group = ConsumerGroupTopicPartitions(group_of(settings, stage_of(place[0])), [TopicPartition(*place)])
    asked = admin.list_consumer_group_offsets([group], request_timeout=CALL_TIMEOUT_S)
    found: TopicPartition = asked[group.group_id].result(CALL_TIMEOUT_S).topic_partitions[0]
    return found
