"""Topics of the parties: `alerts.<party>` for each, what could not be delivered, and the route's changelog.

A party's topic has one partition, so that its numbers rise with its offsets, and is no source of truth: what
it holds is in `alerts`, which is kept for ever. So it has finite retention.
"""

from pipeline.settings import Settings
from pipeline.topics import ALERTS, TOPICS, TopicSpec, changelog_of
from schemas.parties import RESERVED_NAMES, Parties
from schemas.partyoutputs import NAME

_KEPT = {
    "cleanup.policy": "delete",
    "message.timestamp.type": "LogAppendTime",
    "retention.ms": str(90 * 86400 * 1000),
}


def party_topic(party: str) -> str:
    """Name the topic of a party."""
    return f"{ALERTS}.{party}"


def is_party_topic(topic: str) -> bool:
    """Tell whether a topic is that of a party."""
    name = topic.removeprefix(f"{ALERTS}.")
    return name != topic and bool(NAME.fullmatch(name)) and name not in RESERVED_NAMES


def undelivered_topic(party: str) -> str:
    """Name the topic of what an output of the party did not take within its bounds."""
    return f"{ALERTS}.{party}.undelivered"


def topics_of(party: str) -> tuple[TopicSpec, ...]:
    """List the topics of one party."""
    names = party_topic(party), undelivered_topic(party)
    return tuple(TopicSpec(name, by_device=False, config=_KEPT) for name in names)


def party_topics(parties: Parties) -> tuple[TopicSpec, ...]:
    """List the topics that these parties need beside the table's."""
    compacted = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.3"}
    return (
        TopicSpec(changelog_of(ALERTS), by_device=False, config=compacted),
        *(spec for each in parties.parties for spec in topics_of(each.name)),
    )


def all_topics(settings: Settings) -> tuple[TopicSpec, ...]:
    """List the table's topics and those of the parties that are subscribed."""
    from pipeline.parties import has_parties, read_parties

    return (*TOPICS, *party_topics(read_parties(settings))) if has_parties(settings) else TOPICS
