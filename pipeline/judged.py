"""How far a stage has judged a source partition, as its outputs tell.

Each raw record has one verdict, whose header `source` names it, written in one transaction with the offset
that ingest commits. So the last verdict says where ingest stands, also when its group has forgotten. So do
the records of the parties' topics for route, in `alerts`: what fitted no party after the last of them is
looked at once more, which tells nobody twice. Of profile, in `access.decisions`, its changelog tells: each
profile holds how far it went, and what changed none after the last of them is passed over once more. So does
its changelog of `device.prints`.
"""

from collections.abc import Iterable

from confluent_kafka.admin import AdminClient

from pipeline import kafka
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.kafkaread import read_from
from pipeline.partytopics import is_party_topic
from pipeline.settings import Settings
from pipeline.statestore import Partition
from pipeline.topics import DECISIONS, EVENTS, PRINTS, RAW_TOPICS, REJECTED, changelog_of
from processors.access.profile import decode_profile
from processors.model import RawRecord
from processors.samenoise.pair import decode_memory

FIRST_LOOK = 10_000


def judged_to(settings: Settings, admin: AdminClient, place: Partition) -> int | None:
    """Return one past the last record of a source partition that has a verdict, as outputs tell."""
    known = admin.list_topics(timeout=CALL_TIMEOUT_S).topics
    verdicts = [_last_verdict(settings, admin, output, place) for output in _outputs(place[0], known)]
    return max((offset + 1 for offset in verdicts if offset is not None), default=None)


def _outputs(topic: str, known: Iterable[str]) -> list[str]:
    """List the topics whose records tell how far a source topic was judged."""
    if topic in (DECISIONS, PRINTS):
        return [changelog_of(topic)]
    return [EVENTS, REJECTED] if topic in RAW_TOPICS else [name for name in known if is_party_topic(name)]


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
    newest: int | None = None
    for record in read_from(settings, partition, first):
        offset = _source_offset(record, place)
        if offset is not None:
            newest = offset if newest is None else max(newest, offset)
    return newest


def _source_offset(record: RawRecord, place: Partition) -> int | None:
    """Return the offset of the source record that an output tells of; None for one of another partition."""
    if place[0] == DECISIONS:
        return decode_profile(record.value or b"").next_offset - 1
    if place[0] == PRINTS:
        return decode_memory(record.value or b"")[0] - 1
    wanted = f"{place[0]}/{place[1]}/".encode()
    source = dict(record.headers).get("source") or b""
    return int(source.removeprefix(wanted)) if source.startswith(wanted) else None
