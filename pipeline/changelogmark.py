"""What ingest commits with each source offset: where the changelog stood in the same transaction.

What was accepted is remembered in a changelog and in its working copy. A group that knew nothing but offsets
would go on without either, and accept old records again. So the metadata of each committed offset names the
changelog by its Kafka id and its last record by offset and digest.

A changelog is compacted, but its last committed record stays: none after it has its key. Hence a restore that
found everything ends exactly at the mark, and one that does not ends elsewhere.
"""

import json
from dataclasses import dataclass
from typing import Self

from pipeline.settings import PipelineError
from pipeline.statestore import ChangelogPosition


class ChangelogMarkError(PipelineError):
    """The metadata of a committed offset is not what ingest writes there."""


@dataclass(frozen=True, slots=True)
class ChangelogMark:
    """One partition of a changelog as of a commit."""

    topic_id: str
    next_offset: int | None
    """One past its last record; None where its broker did not tell, or an operator took it as it was."""
    digest: bytes | None
    """Of that record (pipeline/statestore.py); None where there is none, or none is known."""

    def encode(self) -> str:
        """Return it as the metadata of an offset."""
        last = None if self.digest is None else self.digest.hex()
        return json.dumps({"changelog": self.topic_id, "next": self.next_offset, "last": last})

    @classmethod
    def decode(cls, metadata: str | None) -> Self | None:
        """Read metadata; None where there is none: an earlier version of ingest, or another tool."""
        if not metadata:
            return None
        try:
            found = json.loads(metadata)
            last = found["last"]
            return cls(found["changelog"], found["next"], None if last is None else bytes.fromhex(last))
        except (ValueError, TypeError, KeyError) as error:
            raise ChangelogMarkError(f"the metadata of a committed offset is no mark: {metadata}") from error

    def denied_by(self, topic_id: str, end: int) -> str:
        """Say what in the id and the end of the changelog cannot be if this is true; empty if nothing."""
        if topic_id != self.topic_id:
            return f"is another topic: its id is {topic_id}, ingest committed to {self.topic_id}"
        if self.next_offset is not None and end < self.next_offset:
            return f"ends at {end}, ingest committed up to {self.next_offset}"
        return ""

    def denied_by_copy(self, position: ChangelogPosition | None, digest: bytes | None) -> str:
        """Say what in a working copy that holds all of the changelog cannot be."""
        reached = 0 if position is None else position.next_offset
        if self.next_offset is not None and reached != self.next_offset:
            return f"has its last record before {reached}, ingest committed up to {self.next_offset}"
        is_known = self.next_offset is not None or self.digest is not None
        if is_known and digest != self.digest:
            return f"holds another record at {reached - 1} than ingest committed"
        return ""

    def is_before(self, position: ChangelogPosition | None) -> bool:
        """Tell whether a working copy has committed records from after this commit."""
        reached = 0 if position is None else position.next_offset
        return self.next_offset is not None and self.next_offset < reached
