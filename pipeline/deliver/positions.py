"""How far each output is, asked of Kafka: the offsets that its group committed, as the party's numbers."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.deliver.worker import group_name
from pipeline.membership import group_of
from pipeline.parties import read_parties
from pipeline.partyread import PartyReader
from pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class OutputPosition:
    """One output of one party."""

    party: str
    output: str
    delivered: int | None
    """The party's number of the last alert that was delivered or given up; None before the first."""
    newest: int
    """The highest number of the party; 0 before the first."""


def positions(settings: Settings) -> Iterator[OutputPosition]:
    """Yield each output of the parties file in force; raises PartiesError, UsageError, KafkaException."""
    for party in read_parties(settings).parties:
        for output in party.outputs:
            reader = PartyReader(
                settings, party.name, group_of(settings, group_name(party.name, output.name))
            )
            try:
                at = reader.position()
                delivered = None if at is None else reader.last_before(at)
                newest = reader.last_before(reader.bounds()[1])
            finally:
                reader.close()
            yield OutputPosition(party.name, output.name, delivered, newest)
