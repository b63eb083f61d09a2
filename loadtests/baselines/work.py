"""What the baselines have in common: a job, the opening of a raw record, and the lines that say how far they
are.
"""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.corpus import Corpus
from schemas.envelope import PayloadKind, decode_envelope, pae, pae_prefix
from schemas.errors import FormatError
from schemas.events import decode_event

TELL_EVERY_S = 0.2
_out = os.fdopen(os.dup(1), "w")
"""Ours alone: libraries print what they like to standard output."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a baseline reads and writes."""

    corpus: str
    """For the devices' keys."""
    properties: Mapping[str, Any]
    raw: Mapping[str, str]
    """Raw topics by kind of event."""
    partitions: int
    out: str
    """Topic of what is accepted."""
    count: int
    """Raw records that are there: it is over when they are done."""
    folder: str
    """For files of its own."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A raw record as far as it was read: what is to be verified, and what counts against replay."""

    device_id: str
    sequence: int
    key: bytes
    message: bytes
    signature: bytes


class Openings:
    """Opens raw records as ingest does: the same decoding, and a device's key from a table."""

    def __init__(self, job: Job) -> None:
        corpus = Corpus(Path(job.corpus))
        header = corpus.header
        self._keys = {corpus.did(number): corpus.device_key(number) for number in range(header.devices)}
        kinds = {topic: PayloadKind(kind) for kind, topic in job.raw.items()}
        self._kinds = {topic: (kind, pae_prefix(kind, header.log_name)) for topic, kind in kinds.items()}
        corpus.close()

    def open(self, topic: str, value: bytes) -> Opened | None:
        """Open a record; None for one that is no event of a known device."""
        kind, prefix = self._kinds[topic]
        try:
            envelope = decode_envelope(value)
            event = decode_event(kind, envelope.payload)
        except FormatError:
            return None
        key = self._keys.get(event.device_id)
        if key is None:
            return None
        message = pae(prefix, envelope.payload)
        return Opened(event.device_id, event.sequence, key, message, envelope.signatures[0].signature)


class Telling:
    """Says on standard output how many records are done."""

    def __init__(self) -> None:
        self.done = self.accepted = 0
        self._told_s = 0.0
        say({"ready": True})

    def tell(self, *, over: bool = False) -> None:
        """Say it, now and then; at the end wait until whoever listens has looked at this process."""
        now_s = time.monotonic()
        if over or now_s - self._told_s >= TELL_EVERY_S:
            self._told_s = now_s
            say({"done": self.done, "accepted": self.accepted, "over": over})
        if over:
            sys.stdin.read()


def job_from_input() -> Job:
    """Read the job that stands on standard input."""
    return Job(**json.loads(sys.stdin.readline()))


def say(what: Mapping[str, object]) -> None:
    """Write a line of JSON."""
    _out.write(json.dumps(what) + "\n")
    _out.flush()


def topics_of(job: Job) -> Sequence[str]:
    """The raw topics, in a fixed order."""
    return tuple(job.raw.values())
