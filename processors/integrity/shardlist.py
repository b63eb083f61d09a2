"""The signed list of shards, read: which topic each shard is of, so that leaving one out shows.

The text is `<log name>/shards`, the number of shards, then one sorted line `<origin> <topic id>` each.
"""

from schemas.errors import FormatError

MAX_SHARDS = 100_000


class ShardListError(FormatError):
    """A note's text is not a list of shards: whoever signed it is at fault."""


def parse_shard_list(text: str, name: str) -> dict[str, str]:
    """Return the topic id of each origin; raises ShardListError."""
    lines = text.split("\n")
    if len(lines) < 3 or lines[0] != name or lines[-1]:
        raise ShardListError(f"a list of shards begins with {name!r} and ends in a newline")
    origins = lines[2:-1]
    if lines[1] != str(len(origins)) or len(origins) > MAX_SHARDS:
        raise ShardListError(f"the list says {lines[1][:20]!r} shards and has {len(origins)}")
    found: dict[str, str] = {}
    for line in origins:
        origin, separator, topic_id = line.partition(" ")
        if not separator or not origin or not topic_id or origin in found:
            raise ShardListError(f"{line[:80]!r} is not an origin and a topic id, once")
        found[origin] = topic_id
    return found
