"""The signed list of shards: a record of the epoch log, so that leaving a shard out shows.

A signed note named `<log name>/shards`: that name, the number of shards, then one line `<origin> <topic id>`
each, sorted. A successor on the same topic is told apart by its generation: `<topic id>.<n>`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.statestore import Partition
from schemas.note import Signer, format_note, sign_note


def shard_list_name(log_name: str) -> str:
    """Name the list's signer."""
    return f"{log_name}/shards"


def shard_list(
    signer: Signer,
    topic_ids: Mapping[str, str],
    origins: Mapping[Partition, str],
    successors: Mapping[Partition, str] = MappingProxyType({}),
) -> bytes:
    """Sign the list of all shards of this log; the signer is named by `shard_list_name`.

    `successors` gives the names of shards that follow another one on the same topic.
    """
    lines = sorted(
        f"{origin} {successors.get(place, topic_ids[place[0]])}" for place, origin in origins.items()
    )
    text = "\n".join([signer.name, str(len(lines)), *lines]) + "\n"
    return format_note(sign_note(text, [signer]))
