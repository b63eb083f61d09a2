"""What stands beside a shard's checkpoint, in `shard.json`: which topic it is of, and what came before it.

A shard is named by its topic's id; a successor on the same topic by that and a generation, `<topic id>.<n>`.
The signed list of shards carries that name, so that a successor is public.
"""

import json
from dataclasses import asdict, dataclass, replace

from pipeline.settings import PipelineError
from pipeline.tilestore import LocalTileStore

ABOUT = "shard.json"
CLOSED = "closed"


class ShardAboutError(PipelineError):
    """`shard.json` is not what was written there."""


@dataclass(frozen=True, slots=True)
class ShardAbout:
    """One published shard."""

    topic: str
    partition: int
    topic_id: str
    generation: int = 0
    from_offset: int = 0
    """Records below were no longer in the topic when the shard was begun."""
    predecessor: str = ""
    """Name of the shard that was closed for this one; empty for a topic's first."""

    @property
    def shard_id(self) -> str:
        """The shard's name in the signed list."""
        return f"{self.topic_id}.{self.generation}" if self.generation else self.topic_id

    def successor(self, topic_id: str, from_offset: int) -> "ShardAbout":
        """Return the shard that takes this one's place, on this topic or on another of the same name."""
        generation = self.generation + 1 if topic_id == self.topic_id else 0
        return replace(
            self,
            topic_id=topic_id,
            generation=generation,
            from_offset=from_offset,
            predecessor=self.shard_id,
        )

    def encode(self) -> bytes:
        """Write the file; what is as usual is left out."""
        usual = asdict(ShardAbout(self.topic, self.partition, self.topic_id))
        required = ("topic", "partition", "topic_id")
        told = {k: v for k, v in asdict(self).items() if k in required or v != usual[k]}
        return json.dumps(told).encode()


def closed_path(path: str, shard_id: str) -> str:
    """Return where the shard that was published at `path` stands once it is closed."""
    # Topic ids are base64 and may hold a slash.
    return f"{CLOSED}/{path}/{shard_id.replace('/', '_').replace('+', '-')}"


def parse_about(data: bytes) -> ShardAbout:
    """Read the file; raises ShardAboutError."""
    try:
        about = ShardAbout(**json.loads(data))
    except (ValueError, TypeError, RecursionError) as error:
        raise ShardAboutError(f"{ABOUT}: {error}") from error
    texts, numbers = (about.topic, about.topic_id, about.predecessor), (about.generation, about.from_offset)
    if not all(isinstance(each, str) for each in texts) or not all(type(each) is int for each in numbers):
        raise ShardAboutError(f"{ABOUT}: a member is of the wrong kind")
    return about


def read_about(store: LocalTileStore) -> ShardAbout | None:
    """Read what stands beside a checkpoint; None where nothing does. Raises ShardAboutError."""
    data = store.read(ABOUT)
    return None if data is None else parse_about(data)
