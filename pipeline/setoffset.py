"""Where ingest or route goes on in a partition, set by an operator: offsets expired, or records are gone.

Each raw record has one verdict, whose header `source` names it, written in one transaction with the offset
that ingest commits. So the last verdict says where ingest stands, also when its group has forgotten. So do
the records of the parties' topics for route, in `alerts`: what fitted no party after the last of them is
looked at once more, which tells nobody twice.
"""

import time
from dataclasses import dataclass

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline import kafka
from pipeline.changelogmark import ChangelogMark
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.kafkaread import read_from
from pipeline.membership import group_of
from pipeline.partytopics import is_party_topic
from pipeline.settings import PipelineError, Settings, UsageError
from pipeline.statestore import Partition
from pipeline.topics import ALERTS, EVENTS, RAW_TOPICS, REJECTED, changelog_of, stage_of

FIRST_LOOK = 10_000
RETRY_S = 0.5


class OffsetError(PipelineError):
    """The group's offset could not be set."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of ingest's place in one raw partition; offsets are next offsets, None where unknown."""

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
    """Find out where ingest or route stands; raises UsageError for a place that neither reads."""
    topic, number = place
    if topic not in (*RAW_TOPICS, ALERTS):
        raise UsageError(f"{topic} is none of {', '.join((*RAW_TOPICS, ALERTS))}")
    admin = kafka.admin(settings)
    known = admin.list_topics(timeout=CALL_TIMEOUT_S).topics
    if number not in known[topic].partitions:
        raise UsageError(f"{topic} has no partition {number}")
    found = _committed(settings, admin, place)
    outputs = [EVENTS, REJECTED] if topic in RAW_TOPICS else [name for name in known if is_party_topic(name)]
    verdicts = [_last_verdict(settings, admin, output, place) for output in outputs]
    judged = [offset for offset in verdicts if offset is not None]
    return Standing(
        place,
        found.offset if found.offset >= 0 else None,
        max(judged) + 1 if judged else None,
        kafka.start_offsets(admin, [place])[place],
        kafka.end_offsets(admin, [place])[place],
    )


def set_offset(
    settings: Settings, place: Partition, next_offset: int, *, accept_changelog: bool = False
) -> None:
    """Let ingest or route go on at an offset; waits until the group has let its last worker go.

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


def _last_verdict(settings: Settings, admin: AdminClient, output: str, place: Partition) -> int | None:
    """Return the offset of the last record of a source partition that has a verdict in `output`."""
    partition = (output, place[1])
    start = kafka.start_offsets(admin, [partition])[partition]
    end = kafka.end_offsets(admin, [partition])[partition]
    size = FIRST_LOOK
    while True:
        first = max(start, end - size)
        found = _newest_source(settings, partition, first, place)
        if found is not None or first == start:
            return found
        size *= 10


def _newest_source(settings: Settings, partition: Partition, first: int, place: Partition) -> int | None:
    """Read an output partition from an offset to its end, as committed, for the newest source."""
    wanted = f"{place[0]}/{place[1]}/".encode()
    newest: int | None = None
    for record in read_from(settings, partition, first):
        source = dict(record.headers).get("source") or b""
        if source.startswith(wanted):
            newest = int(source.removeprefix(wanted))
    return newest
