"""A log made by hand, without stages or broker: what was sent, what every topic holds, what is published.

The parts are the product's own, called one after another, so that an honest scene is what honest stages
leave. A test then changes one thing and asks the oracle of the fault machine.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline import anchorrecords, outputs
from pipeline.anchorrecords import Anchored, AnchorPlace
from pipeline.shard import leaf_of, origin_of
from pipeline.shardlist import shard_list, shard_list_name
from pipeline.tilestore import CHECKPOINT, LocalTileStore
from processors.admit import admit
from processors.detect.silence import SilenceRule
from processors.merkle.tree import TreeBuilder
from processors.model import RawRecord
from processors.state import DeviceState
from schemas.checkpoint import Checkpoint, SignedCheckpoint, sign_checkpoint
from schemas.note import Ed25519Signer, format_note
from schemas.records import EvidenceRef, Headers
from tests.faults.machine.ledger import ACCEPTED, Sent, Violation
from tests.faults.machine.oracle.court import Court, sealed_partitions
from tests.faults.machine.oracle.formats import Record
from tests.kit.parties import (
    LOG,
    NOW_MS,
    PARTITIONS,
    RegistryTopic,
    event_of,
    identity_of,
    key_of,
    record_of,
    seed_of,
    telemetry_judge,
)

Partition = tuple[str, int]
EVENTS, REJECTED, FINDINGS, CHECKPOINTS, ANCHORS = (
    "device.events",
    "device.rejected",
    "device.findings",
    "log.checkpoints",
    "log.anchors",
)
EPOCH: Partition = (CHECKPOINTS, 0)
DEVICES = ("device", "pump")
PLACE = AnchorPlace("hedera:attestream-local", "0.0.1001", "0.0.2", "http://127.0.0.1:5551")


def note_of(origin: str, entries: Sequence[bytes], key: str = "log", size: int | None = None) -> bytes:
    """A checkpoint over entries; `size` states another one than theirs."""
    return format_note(signed_over(origin, entries, key, size).note)


def signed_over(
    origin: str, entries: Sequence[bytes], key: str = "log", size: int | None = None
) -> SignedCheckpoint:
    builder = TreeBuilder()
    builder.append(entries)
    checkpoint = Checkpoint(origin, len(entries) if size is None else size, builder.root())
    note = sign_checkpoint(checkpoint, [Ed25519Signer.from_seed(origin, seed_of(key))])
    return SignedCheckpoint(checkpoint, note)


class Scene:
    """An honest history of two devices: every topic, every record sent, and the log over them."""

    def __init__(self) -> None:
        self.topics: dict[Partition, list[RawRecord]] = {p: [] for p in sealed_partitions(PARTITIONS)}
        self.topics[ANCHORS, 0] = []
        self.sent: list[Sent] = []
        self.raw: dict[int, list[RawRecord]] = {n: [] for n in range(PARTITIONS)}
        self._states = {identity_of(name).did: DeviceState(None) for name in DEVICES}
        self._quiet_ms = self._silent_since_ms = 0
        self._registry = RegistryTopic()
        for name in DEVICES:
            self._registry.enroll(name)
        for each in self._registry.records:
            self._append(each.topic, 0, each.key, each.value, each.append_ms)

    # ---- what happens ----------------------------------------------------------------------------------

    def tell(self) -> None:
        """The whole history: accepted, a gap, a late one, a replay, a double-dealing, nonsense, a silence."""
        for name in DEVICES:
            for sequence in (1, 2, 4):
                self.send(name, event_of(name, sequence=sequence), ACCEPTED, sequence)
            self.send(name, event_of(name, sequence=2), "replay", 2)
            self.send(name, event_of(name, sequence=3), "late", 3)
            self.send(name, event_of(name, sequence=2, values=[1.0, 2.0]), "equivocation", 2)
            self.send(name, b"nonsense", "malformed")
            self.send(name, None, "empty")
            self.send(name, bytes(300_000), "oversized")
            self.send(name, event_of(name, sequence=5), ACCEPTED, 5)
        self.fall_silent(DEVICES[0])
        self.send(DEVICES[0], event_of(DEVICES[0], boot=2, sequence=1), ACCEPTED, 1, boot=2)
        self.come_back(DEVICES[0])

    def send(self, name: str, value: bytes | None, verdict: str, sequence: int = 0, boot: int = 1) -> Sent:
        """Send a record, and let it be judged by the product's own rules."""
        did = identity_of(name).did
        record = record_of(did.encode(), value)
        row = self.raw[record.partition]
        record = replace(record, offset=len(row), append_ms=self._now_ms())
        row.append(record)
        booked = Sent(
            record.topic, record.partition, record.offset, record.key, value, verdict,
            did, "telemetry", boot, sequence,
        )  # fmt: skip
        self.sent.append(booked)
        outcome = admit(telemetry_judge().process([record], self._registry.table), self._states.__getitem__)
        outputs.accept(self._produce, outcome.accepted)
        for rejected in outcome.rejected:
            assert rejected.reason.value == verdict
            outputs.reject(self._produce, rejected)
        for finding in outcome.findings:
            outputs.report(self._produce, record.partition, finding)
        assert bool(outcome.accepted) == (verdict == ACCEPTED)
        return booked

    def fall_silent(self, name: str, quiet_ms: int = 2500) -> None:
        """The clock's finding about a device that does not speak for some time."""
        last = self._last_of(name)
        now_us = (last.append_ms + quiet_ms) * 1000
        rule, did = SilenceRule(1.5), identity_of(name).did
        finding = rule.overdue(
            did, last.append_ms, EvidenceRef(last.topic, last.partition, last.offset), now_us
        )
        assert finding is not None
        outputs.report(self._produce, last.partition, finding)
        self._quiet_ms += quiet_ms
        self._silent_since_ms = last.append_ms

    def come_back(self, name: str) -> None:
        """The finding that ends the silence with the device's newest event."""
        back = self._last_of(name)
        finding = SilenceRule(1.5).returned(
            identity_of(name).did, self._silent_since_ms, None, back.reference(), back.append_ms
        )
        outputs.report(self._produce, back.partition, finding)

    def _last_of(self, name: str) -> RawRecord:
        did = identity_of(name).did.encode()
        accepted = {s.source for s in self.sent if s.verdict == ACCEPTED and s.key == did}
        rows = [r for row in self.raw.values() for r in row]
        return [r for r in rows if f"{r.topic}/{r.partition}/{r.offset}" in accepted][-1]

    def _now_ms(self) -> int:
        return NOW_MS + 10 * len(self.sent) + self._quiet_ms

    def _produce(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int, headers: Headers = ()
    ) -> None:
        self._append(topic, partition, key, value, self._now_ms(), tuple(headers))

    def _append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        time_ms: int,
        headers: Headers = (),
    ) -> None:
        row = self.topics[topic, partition]
        # Every third offset is a transaction's marker, but nobody writes transactions to the epoch log.
        offset = len(row) if (topic, partition) in (EPOCH, (ANCHORS, 0)) else len(row) * 3 // 2
        row.append(RawRecord(topic, partition, offset, time_ms, key, value, headers))

    # ---- the log over it -------------------------------------------------------------------------------

    def entries(self, partition: Partition) -> list[bytes]:
        return [leaf_of(record) for record in self.topics[partition]]

    def origin(self, partition: Partition) -> str:
        return origin_of(LOG, partition)

    def record_in_epoch_log(self, origin: str, note: bytes) -> None:
        self._append(CHECKPOINTS, 0, origin.encode(), note, self._now_ms())

    def seal(self, log_dir: Path) -> None:
        """Publish every shard twice, half grown and whole; list and record them; anchor the epoch log."""
        shards = [p for p in self.topics if p not in (EPOCH, (ANCHORS, 0))]
        origins = {p: self.origin(p) for p in (*shards, EPOCH)}
        name = shard_list_name(LOG)
        ids = {topic: f"id of {topic}".replace(" ", "_") for topic, _number in origins}
        listed = shard_list(Ed25519Signer.from_seed(name, seed_of("log")), ids, origins)
        self.record_in_epoch_log("shards", listed)
        for partition in shards:
            entries = self.entries(partition)
            for size in {(len(entries) + 1) // 2, len(entries)} - {0}:
                self.publish(log_dir, partition, entries[:size])
                self.record_in_epoch_log(origins[partition], note_of(origins[partition], entries[:size]))
        entries = self.entries(EPOCH)
        self.publish(log_dir, EPOCH, entries)
        self.anchor(signed_over(LOG, entries), sequence=1)

    def publish(self, log_dir: Path, partition: Partition, entries: Sequence[bytes]) -> None:
        """Tiles, then the checkpoint, as a sealer does."""
        store = LocalTileStore(log_dir / partition[0] / str(partition[1]))
        builder = TreeBuilder()
        tiles = [*builder.append(entries), *builder.edge()]
        # What is not published may be anything: so a test can publish what a sealer would refuse to.
        (store.root / CHECKPOINT).unlink(missing_ok=True)
        for tile in tiles:
            store.put(tile.tile.path, tile.data)
        (store.root / CHECKPOINT).write_bytes(note_of(self.origin(partition), entries))

    def anchor(self, signed: SignedCheckpoint, sequence: int) -> None:
        """SUBMITTED and CONFIRMED of a checkpoint of the epoch log."""
        checkpoint = signed.checkpoint
        anchored = Anchored(checkpoint.size, checkpoint.root, sequence, 1_000 + sequence, bytes(48), "0.0.2")
        said = (
            anchorrecords.submitted(signed, PLACE, "0.0.2@1.1", 1),
            anchorrecords.confirmed(signed, PLACE, "0.0.2@1.1", 2, anchored),
        )
        for each in said:
            self._append(ANCHORS, 0, each.key, each.value, self._now_ms())

    # ---- before the court ------------------------------------------------------------------------------

    def records(self) -> Iterable[Record]:
        rows = [*self.raw.values(), *self.topics.values()]
        for record in (record for row in rows for record in row):
            yield Record(
                record.topic, record.partition, record.offset, record.append_ms,
                record.key, tuple(record.headers), record.value,
            )  # fmt: skip

    def judged(self, log_dir: Path | None = None) -> list[Violation]:
        """What the oracle says of it all."""
        court = Court(LOG, key_of("log"), PARTITIONS)
        court.sent(self.sent)
        if log_dir is not None:
            court.published(log_dir)
        court.shards.begin_pass()
        for record in self.records():
            court.take(record)
        court.end_pass()
        court.shards.begin_pass()
        court.end_pass()
        return court.verdict()
