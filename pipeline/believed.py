"""What an auditor of a published log believes: its name and keys, and what follows from them for a shard."""

import re
from dataclasses import dataclass

from pipeline.settings import UsageError
from pipeline.statestore import Partition
from pipeline.topics import CHECKPOINTS
from schemas.checkpoint import Checkpoint, log_key, open_checkpoint
from schemas.errors import FormatError
from schemas.note import Note, parse_vkey, verify_note
from schemas.trust import TrustRoot

EPOCH_PATH = f"{CHECKPOINTS}/0"
"""Where the epoch log is published, below the folder of all logs."""
SHARD_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*/(0|[1-9][0-9]{0,8})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Believed:
    """All that is believed: the log's name, and the keys that it signs or has signed with."""

    log_name: str
    keys: tuple[bytes, ...]

    @classmethod
    def from_trust(cls, trust: TrustRoot) -> "Believed":
        """What a trust file says."""
        return cls(trust.log_name, trust.log_keys)

    @classmethod
    def from_vkey(cls, vkey: str) -> "Believed":
        """What a verifier key says; raises UsageError for any other text."""
        try:
            key = parse_vkey(vkey)
        except FormatError as error:
            raise UsageError(f"--log-key: {error}") from error
        return cls(key.name, (key.public_key,))

    def owns(self, origin: str) -> bool:
        """Whether an origin is the log's own name or one of its shards."""
        return origin == self.log_name or origin.startswith(self.log_name + "/")

    def partition_of(self, origin: str) -> Partition:
        """The topic-partition that an origin seals; raises UsageError where it names none."""
        path = EPOCH_PATH if origin == self.log_name else origin.removeprefix(self.log_name + "/")
        if not SHARD_PATH.fullmatch(path):
            raise UsageError(f"{origin} is not the origin of a topic-partition's log")
        topic, number = path.split("/")
        return topic, int(number)

    def verify(self, note: Note, name: str) -> None:
        """Raise FormatError unless the log signed the note under this name."""
        verify_note(note, [log_key(name, key) for key in self.keys])

    def open(self, data: bytes, origin: str) -> Checkpoint:
        """Verify the checkpoint of an origin; raises FormatError."""
        return open_checkpoint(data, *(log_key(origin, key) for key in self.keys)).checkpoint
