"""The signed list of shards: a record of the epoch log, so that leaving a shard out shows.

A signed note named `<log name>/shards`: that name, the number of shards, then one line `<origin> <topic id>`
each, sorted.
"""

from collections.abc import Mapping

from pipeline.statestore import Partition
from schemas.note import Signer, format_note, sign_note


def shard_list_name(log_name: str) -> str:
    """Name the list's signer."""
    return f"{log_name}/shards"


def shard_list(signer: Signer, topic_ids: Mapping[str, str], origins: Mapping[Partition, str]) -> bytes:
    """Sign the list of all shards of this log; the signer is named by `shard_list_name`."""
    lines = sorted(f"{origin} {topic_ids[topic]}" for (topic, _number), origin in origins.items())
    text = "\n".join([signer.name, str(len(lines)), *lines]) + "\n"
    return format_note(sign_note(text, [signer]))
