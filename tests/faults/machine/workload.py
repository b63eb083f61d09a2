"""The known workload: signed events and every kind of bad record, each with the verdict it must get.

The verdict is known when the record is made, from a model of the device that sends it. Records of one device
and kind keep their order on the way (one idempotent producer that retries for ever), so the model holds
whatever the broker goes through.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3
from confluent_kafka import KafkaError, Message, Producer

from pipeline import topics
from pipeline.authority import Authority, NewKey
from pipeline.identity import create_identity
from schemas.codec import CODEC
from schemas.envelope import MAX_ENVELOPE_BYTES, PayloadKind, Signature, SignedEnvelope
from schemas.partition import partition_of
from schemas.signing import SigningIdentity
from tests.faults.machine.ledger import ACCEPTED, Sent

TOPIC_OF = {
    PayloadKind.TELEMETRY: topics.TELEMETRY_RAW,
    PayloadKind.ACCESS: topics.ACCESS_RAW,
    PayloadKind.LIFECYCLE: topics.LIFECYCLE_RAW,
}
REMEMBERED = 64
"""Digests that the design says are remembered (section 3, invariant 2)."""


@dataclass(slots=True)
class _Stream:
    """What one device has sent of one kind, as the right verdicts see it."""

    boot: int = 1
    sequence: int = 0
    taken: list[tuple[int, bytes]] = field(default_factory=list)
    """The last accepted (sequence, envelope) of this boot."""
    forgotten: list[bytes] = field(default_factory=list)
    """Envelopes of earlier boots or too far back, newest last."""
    skipped: list[int] = field(default_factory=list)

    def take(self, sequence: int, value: bytes) -> None:
        self.sequence = sequence
        self.taken.append((sequence, value))
        if len(self.taken) > REMEMBERED:
            self.forgotten.append(self.taken.pop(0)[1])
            del self.forgotten[:-20]
        oldest = self.taken[0][0]
        self.skipped = [n for n in self.skipped if n > oldest]

    def reboot(self) -> None:
        self.forgotten += [value for _sequence, value in self.taken[-5:]]
        self.boot, self.sequence, self.taken, self.skipped = self.boot + 1, 0, [], []


class Sender:
    """One enrolled device: its keys and a stream for each kind of event."""

    def __init__(self, identity: SigningIdentity, audience: str) -> None:
        self.identity, self._audience = identity, audience
        self.streams = {kind: _Stream() for kind in TOPIC_OF}

    def event(self, kind: PayloadKind, boot: int, sequence: int, rng: random.Random, **more: Any) -> bytes:
        """Sign one event; `more` overrides fields."""
        bodies: Mapping[PayloadKind, Mapping[str, Any]] = {
            PayloadKind.TELEMETRY: {"codes": [147842, 150456], "values": [rng.uniform(60, 90), 97.5]},
            PayloadKind.ACCESS: {
                "subject": "nurse-1", "action": "login", "resource": "monitor", "purpose": "TREAT",
                "session": f"{rng.getrandbits(32):08x}", "outcome": "GRANTED",
            },
            PayloadKind.LIFECYCLE: {"kind": "CALIBRATION", "firmware": f"1.{rng.randrange(999)}"},
        }  # fmt: skip
        record = {
            "device_id": self.identity.did,
            "boot": boot,
            "sequence": sequence,
            "time": time.time_ns() // 1000,
            **bodies[kind],
            **more,
        }
        return self.identity.seal_event(kind, self._audience, record)


@dataclass(frozen=True, slots=True)
class _Draft:
    value: bytes | None
    verdict: str
    boot: int = 0
    sequence: int = 0
    key: bytes | None = None
    partition: int | None = None


Maker = Callable[["Workload", Sender, PayloadKind], _Draft | None]


class Workload:
    """Sends, and keeps the ledger of what was sent."""

    def __init__(
        self, producer: Producer, authority: Authority, log_name: str, partitions: int, rng: random.Random
    ) -> None:
        self._producer, self._authority, self._log_name = producer, authority, log_name
        self._partitions, self.rng = partitions, rng
        self._lock = threading.Lock()
        self._acknowledged: list[Sent] = []
        self._underway = 0
        self.unplaced: list[Sent] = []
        """What was acknowledged without saying where it stands, with offset -1: it was sent again after its
        broker had died, and the one that has it knows no more than that it does."""
        self.refused: list[str] = []
        """Why the broker would not have a record: answers that the client does not take for passing."""
        self.senders: list[Sender] = []
        self._stranger = create_identity("k1", seed=rng.randbytes(32))

    def enroll(self, count: int) -> None:
        """Register so many more devices; returns when the registry has them."""
        identities = [create_identity("k1", seed=self.rng.randbytes(32)) for _ in range(count)]
        self._authority.enroll_many([(i.did, NewKey("k1", i.public_key), {}) for i in identities])
        self.senders += [Sender(identity, self._log_name) for identity in identities]

    def acknowledged(self) -> list[Sent]:
        """Take what the broker has acknowledged since the last call."""
        self._producer.poll(0)
        with self._lock:
            taken, self._acknowledged = self._acknowledged, []
            return taken

    @property
    def underway(self) -> int:
        """Records sent and not acknowledged yet."""
        self._producer.poll(0)
        with self._lock:
            return self._underway

    def send(self, mix: Mapping[str, float]) -> None:
        """Send one record: of a kind of making drawn from `mix` (name of MAKERS: weight)."""
        made = self.rng.choices(list(mix), list(mix.values()))[0]
        sender = self.rng.choice(self.senders)
        kind = self.rng.choice((PayloadKind.TELEMETRY,) * 3 + (PayloadKind.ACCESS, PayloadKind.LIFECYCLE))
        draft = MAKERS[made](self, sender, kind) or _next(self, sender, kind)
        self._publish(sender, kind, draft)

    def _publish(self, sender: Sender, kind: PayloadKind, draft: _Draft) -> None:
        topic, key = TOPIC_OF[kind], draft.key
        key = sender.identity.did.encode() if key is None else key
        partition = draft.partition
        if partition is None:
            partition = partition_of(key, self._partitions)
        did = sender.identity.did

        def delivered(error: KafkaError | None, message: Message) -> None:
            with self._lock:
                self._underway -= 1
                if error is not None:
                    self.refused.append(str(error))
                    return
                offset = message.offset()
                (self.unplaced if offset is None else self._acknowledged).append(
                    Sent(
                        topic, partition, -1 if offset is None else offset, key, draft.value, draft.verdict,
                        did, kind.value, draft.boot, draft.sequence,
                    )
                )  # fmt: skip

        with self._lock:
            self._underway += 1
        while True:
            try:
                self._producer.produce(
                    topic, key=key, value=draft.value, partition=partition, on_delivery=delivered
                )
                break
            except BufferError:
                self._producer.poll(0.1)
        self._producer.poll(0)


def _next(work: Workload, sender: Sender, kind: PayloadKind, skip: int = 0) -> _Draft:
    stream = sender.streams[kind]
    sequence = stream.sequence + 1 + skip
    value = sender.event(kind, stream.boot, sequence, work.rng)
    stream.skipped += range(stream.sequence + 1, sequence)
    stream.take(sequence, value)
    return _Draft(value, ACCEPTED, stream.boot, sequence)


def _gap(work: Workload, sender: Sender, kind: PayloadKind) -> _Draft:
    return _next(work, sender, kind, skip=work.rng.randint(1, 3))


def _late(work: Workload, sender: Sender, kind: PayloadKind) -> _Draft | None:
    stream = sender.streams[kind]
    if not stream.skipped:
        return None
    sequence = work.rng.choice(stream.skipped)
    return _Draft(sender.event(kind, stream.boot, sequence, work.rng), "late", stream.boot, sequence)


def _reboot(work: Workload, sender: Sender, kind: PayloadKind) -> _Draft:
    sender.streams[kind].reboot()
    return _next(work, sender, kind)


def _replay(work: Workload, sender: Sender, kind: PayloadKind) -> _Draft | None:
    stream = sender.streams[kind]
    if not stream.taken:
        return None
    # Mostly the newest: what a lost state forgets first.
    index = -1 - min(int(work.rng.expovariate(0.3)), len(stream.taken) - 1)
    sequence, value = stream.taken[index]
    return _Draft(value, "replay", stream.boot, sequence)


def _equivocation(work: Workload, sender: Sender, kind: PayloadKind) -> _Draft | None:
    stream = sender.streams[kind]
    if not stream.taken:
        return None
    sequence, _value = work.rng.choice(stream.taken)
    value = sender.event(kind, stream.boot, sequence, work.rng)
    return _Draft(value, "equivocation", stream.boot, sequence)


def _stale(work: Workload, sender: Sender, kind: PayloadKind) -> _Draft | None:
    stream = sender.streams[kind]
    return _Draft(work.rng.choice(stream.forgotten), "stale") if stream.forgotten else None


def _malformed(work: Workload, sender: Sender, kind: PayloadKind) -> _Draft:
    stream = sender.streams[kind]
    whole = sender.event(kind, stream.boot, stream.sequence + 1, work.rng)
    return _Draft(whole[: work.rng.randrange(10, len(whole))], "malformed")


def _empty(work: Workload, _sender: Sender, _kind: PayloadKind) -> _Draft:
    return _Draft(work.rng.choice((None, b"")), "empty")


def _unknown_schema(work: Workload, _sender: Sender, _kind: PayloadKind) -> _Draft:
    return _Draft(b"\xc3\x01" + work.rng.randbytes(40), "unknown_schema")


def _wrong_kind(work: Workload, sender: Sender, kind: PayloadKind) -> _Draft:
    other = PayloadKind.ACCESS if kind is PayloadKind.TELEMETRY else PayloadKind.TELEMETRY
    return _Draft(sender.event(other, 1, 1, work.rng), "wrong_kind")


def _invalid_value(work: Workload, sender: Sender, kind: PayloadKind) -> _Draft | None:
    if kind is not PayloadKind.TELEMETRY:
        return None
    stream = sender.streams[kind]
    bad = work.rng.choice((float("nan"), float("inf"), float("-inf")))
    value = sender.event(kind, stream.boot, stream.sequence + 1, work.rng, values=[bad, 1.0])
    return _Draft(value, "invalid_value")


def _wrong_partition(work: Workload, sender: Sender, kind: PayloadKind) -> _Draft:
    stream = sender.streams[kind]
    value = sender.event(kind, stream.boot, stream.sequence + 1, work.rng)
    key = sender.identity.did.encode()
    place = partition_of(key, work._partitions)
    if work._partitions > 1 and work.rng.random() < 0.5:
        return _Draft(value, "wrong_partition", partition=(place + 1) % work._partitions)
    return _Draft(value, "wrong_partition", key=b"somebody else")


def _unknown_device(work: Workload, _sender: Sender, kind: PayloadKind) -> _Draft:
    stranger = Sender(work._stranger, work._log_name)
    value = stranger.event(kind, 1, 1, work.rng)
    return _Draft(value, "unknown_device", key=work._stranger.did.encode())


def _bad_signature(work: Workload, sender: Sender, kind: PayloadKind) -> _Draft:
    """A forged event with a high sequence, which must not block what is genuine."""
    stream = sender.streams[kind]
    envelope = CODEC.decode(
        "signed_envelope", sender.event(kind, stream.boot + 5, stream.sequence + 1000, work.rng)
    )
    forged = Signature("k1", work.rng.randbytes(63) + b"\x00")
    return _Draft(SignedEnvelope(envelope["payload"], (forged,)).encode(), "bad_signature")


def _implausible_time(work: Workload, sender: Sender, kind: PayloadKind) -> _Draft:
    stream = sender.streams[kind]
    hours = work.rng.choice((2, 24 * 90, -24 * 90))
    time_us = time.time_ns() // 1000 + hours * 3_600_000_000
    value = sender.event(kind, stream.boot, stream.sequence + 1, work.rng, time=time_us)
    return _Draft(value, "implausible_time")


def _oversized(work: Workload, sender: Sender, _kind: PayloadKind) -> _Draft:
    size = work.rng.choice((MAX_ENVELOPE_BYTES + 1, 300_000, 1_000_000))
    return _Draft(blake3(sender.identity.seed).digest(length=size), "oversized")


MAKERS: dict[str, Maker] = {
    "next": _next,
    "gap": _gap,
    "late": _late,
    "reboot": _reboot,
    "replay": _replay,
    "equivocation": _equivocation,
    "stale": _stale,
    "malformed": _malformed,
    "empty": _empty,
    "unknown_schema": _unknown_schema,
    "wrong_kind": _wrong_kind,
    "invalid_value": _invalid_value,
    "wrong_partition": _wrong_partition,
    "unknown_device": _unknown_device,
    "bad_signature": _bad_signature,
    "implausible_time": _implausible_time,
    "oversized": _oversized,
}

USUAL: dict[str, float] = {
    **dict.fromkeys(MAKERS, 1.0),
    "next": 60.0,
    "replay": 8.0,
    "equivocation": 2.0,
    "oversized": 0.2,
}
MIXES: dict[str, dict[str, float]] = {
    "usual": USUAL,
    "flood_bad_signatures": {"bad_signature": 1.0},
    "flood_record_size_limit": {"oversized": 0.3, "next": 0.7},
    "flood_replays": {"next": 1.0, "replay": 5.0},
    "probe": {"replay": 1.0, "equivocation": 0.2},
}
"""What traffic can consist of. `probe` asks whether memory is whole."""
