"""An operator who holds every key and every disk, and a monitor that holds the trust file alone.

A broker of its own (its segment files are written to), real sealers and monitors in threads. Records go
straight to sealed topics: what seals them does not ask where they come from.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from anchors.hcs27 import AnchorMessage, TreeHead, build_anchor
from anchors.hedera.keys import create_operator_key, load_operator_key, public_key_bytes
from anchors.hedera.server import ServerHandle, serve
from pipeline import kafka, monitor, seal, topics
from pipeline.anchor import anchor
from pipeline.anchorrecords import LEAF, REGISTRY
from pipeline.ledgers import ledger_access
from pipeline.local.kafka import Broker
from pipeline.local.kafka import start as start_broker
from pipeline.local.process import stop as stop_broker
from pipeline.settings import Settings
from pipeline.shard import origin_of, store_of
from pipeline.stage import Health, Stop
from pipeline.tilestore import LocalTileStore, sync_stores
from pipeline.trust import load_trust, log_identity, operator_key_path, trust_path
from processors.merkle.reader import TiledTree
from processors.merkle.tree import TreeBuilder
from schemas.checkpoint import Checkpoint, sign_checkpoint
from schemas.note import Ed25519Signer, format_note
from schemas.records import decode_finding
from tests.kit.deployment import Deployment, in_thread, make_deployment, read_topic, wait_for

Place = tuple[str, int]
PUBLICATION_BOUND_S = 12.0
"""What the monitor promises: found so long after it was published."""
SEAL_DEADLINE_S = 60.0


@dataclass
class Cheater:
    """One log, its broker, and its ledger if `ledger_up` was called."""

    deployment: Deployment
    broker: Broker
    running: Any
    ledger: ServerHandle | None = None
    elapsed_s: dict[str, float] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return self.deployment.settings

    # ---- an honest day ---------------------------------------------------------------------------------

    def fill(self, place: Place, count: int, text: str = "") -> None:
        """Publish records, with 128 unpredictable bits each, as every sealed record has."""
        for number in range(count):
            value = f"{text or place[0]} {number} {os.urandom(16).hex()}".encode()
            self.deployment.producer.produce(place[0], key=b"device", value=value, partition=place[1])
        assert self.deployment.producer.flush(30) == 0

    @contextmanager
    def sealing(self) -> Iterator[Health]:
        with in_thread(seal.work, self.settings, "seal") as health:
            yield health

    @contextmanager
    def monitoring(self, **changes: Any) -> Iterator[Health]:
        with in_thread(monitor.work, self.settings.model_copy(update=changes), "monitor") as health:
            yield health

    @contextmanager
    def anchoring(self) -> Iterator[None]:
        def work(settings: Settings, slot: int, health: Health, stop: Stop) -> None:
            folder = settings.data_dir / "state" / "anchor" / str(slot)
            folder.mkdir(parents=True, exist_ok=True)
            anchor(settings, folder, ledger_access(settings), health, stop)

        with in_thread(work, self.settings, "anchor"):
            yield

    def ledger_up(self, *strangers: str) -> None:
        """Start a ledger; `strangers` are accounts that may pay too, and hold the submit key."""
        path = operator_key_path(self.settings)
        if not path.exists():
            create_operator_key(path)
        key = public_key_bytes(load_operator_key(path))
        folder = self.settings.data_dir
        self.ledger = serve(folder / "ledger.sqlite", operators=dict.fromkeys(("0.0.2", *strangers), key))
        ports = {"grpc_port": self.ledger.grpc_port, "rest_port": self.ledger.rest_port}
        (folder / "stack.json").write_text(json.dumps({"ledger": ports}))

    def kill_broker(self) -> None:
        """Kill -9, and start it again on the same files and ports."""
        self.running.kill()
        self.running.wait(20)
        self.start_broker()

    def start_broker(self) -> None:
        """Start a broker that was killed, and wait until it leads its partitions again."""
        self.running = start_broker(self.broker)
        client = kafka.admin(self.settings)

        def leads() -> bool:
            try:
                return bool(kafka.end_offsets(client, self.places()))
            except KafkaException:
                return False

        wait_for(leads, "the broker leads its partitions")
        # A producer that lived on would number its batches after some that the broker may have lost.
        self.deployment.begin_anew()

    def checkpoint(self, place: Place) -> Checkpoint | None:
        from schemas.trust import open_trusted_checkpoint

        data = self.store(place).read_checkpoint()
        if data is None:
            return None
        trust = load_trust(trust_path(self.settings))
        return open_trusted_checkpoint(data, origin_of(trust.log_name, place), trust).checkpoint

    def wait_sealed(self, place: Place, count: int) -> None:
        def sealed() -> bool:
            checkpoint = self.checkpoint(place)
            return checkpoint is not None and checkpoint.size >= count

        wait_for(sealed, f"{place} has {count} leaves", SEAL_DEADLINE_S)

    def wait_compared(self, health: Health) -> None:
        """Wait until the monitor has compared every published leaf."""

        def compared() -> bool:
            sizes = [c.size for p in self.places() if (c := self.checkpoint(p)) is not None]
            return f"{sum(sizes)} leaves hold" in detail_of(health)

        wait_for(compared, f"the monitor has caught up; {detail_of(health)}")

    def places(self) -> list[Place]:
        return [
            (spec.name, number)
            for spec in topics.TOPICS
            if spec.name in topics.SEALED_TOPICS
            for number in range(spec.partitions(self.settings))
        ]

    # ---- what only the operator can do -----------------------------------------------------------------

    def store(self, place: Place) -> LocalTileStore:
        return store_of(self.settings, place)

    def origin(self, place: Place) -> str:
        return origin_of(self.settings.log_name, place)

    def sign(self, place: Place, size: int, root: bytes) -> bytes:
        origin = self.origin(place)
        signer = Ed25519Signer.from_seed(origin, log_identity(self.settings).seed)
        return format_note(sign_checkpoint(Checkpoint(origin, size, root), [signer]))

    def tree(self, place: Place) -> TiledTree:
        checkpoint = self.checkpoint(place)
        assert checkpoint is not None
        return TiledTree(self.store(place), checkpoint.size, checkpoint.root)

    def publish(self, place: Place, builder: TreeBuilder, entries: Sequence[bytes]) -> bytes:
        """Append entries to a tree and publish it, whatever was published before."""
        tiles = [*builder.append(entries), *builder.edge()]
        for item in tiles:
            self.write(place, item.tile.path, item.data)
        note = self.sign(place, builder.size, builder.root())
        self.write(place, "checkpoint", note)
        return note

    def publish_honestly(self, place: Place, entries: Sequence[bytes]) -> None:
        """Append entries as a sealer would."""
        builder, store = self.tree(place).builder(), self.store(place)
        tiles = [*builder.append(entries), *builder.edge()]
        store.put_many((item.tile.path, item.data) for item in tiles)
        sync_stores([store])
        note = self.sign(place, builder.size, builder.root())
        store.compare_and_set_checkpoint(store.read_checkpoint(), note)

    def write(self, place: Place, path: str, data: bytes) -> None:
        """Write a published file whatever stands there; as a whole, as any web server's upload does."""
        target = self.store(place).root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.cheat")
        temporary.write_bytes(data)
        temporary.replace(target)

    def flip(self, place: Place, path: str, position: int = 0) -> None:
        data = bytearray((self.store(place).root / path).read_bytes())
        data[position] ^= 1
        self.write(place, path, bytes(data))

    def segment(self, place: Place) -> Path:
        """Return the broker's file with the partition's records."""
        return self.broker._storage / f"{place[0]}-{place[1]}" / f"{0:020d}.log"

    def rewrite_record(self, place: Place, value: bytes, instead: bytes) -> None:
        """Replace a record's value in the broker's file, with a CRC that fits."""
        assert len(value) == len(instead)
        path = self.segment(place)
        data = bytearray(path.read_bytes())
        at = data.index(value)
        start = 0
        while start + batch_bytes(data, start) <= at:
            start += batch_bytes(data, start)
        data[at : at + len(value)] = instead
        end = start + batch_bytes(data, start)
        data[start + 17 : start + 21] = crc32c(bytes(data[start + 21 : end])).to_bytes(4, "big")
        with path.open("r+b") as file:  # in place: the broker has it open
            file.seek(start)
            file.write(data[start:end])

    def cut_off_last_batch(self, place: Place) -> None:
        """Take the last batch from the file of a broker that is down, as one that lost it has it."""
        segment = self.segment(place)
        data = segment.read_bytes()
        starts = [0]
        while starts[-1] + batch_bytes(data, starts[-1]) < len(data):
            starts.append(starts[-1] + batch_bytes(data, starts[-1]))
        with segment.open("r+b") as file:
            file.truncate(starts[-1])

    def submit(self, tree_size: int, root: bytes, payer: str = "0.0.2") -> None:
        """Send an anchor that the anchor stage would not."""
        access = ledger_access(self.settings)
        access = replace(access, config=replace(access.config, operator_account=payer))
        message = AnchorMessage(
            registry=REGISTRY, log_id=self.settings.log_name, leaf=LEAF, root=TreeHead(tree_size, root)
        )
        ledger = access.open(load_trust(trust_path(self.settings)).ledger.topic)
        try:
            prepared = ledger.prepare(build_anchor(message), time.time_ns())
            outcome = ledger.submit(prepared)
            assert outcome.status.value == "accepted", outcome
        finally:
            ledger.close()

    # ---- what was found --------------------------------------------------------------------------------

    def findings(self) -> list[dict[str, Any]]:
        records = read_topic(self.settings, topics.INTEGRITY)
        return [decode_finding(record.value or b"") for record in records]

    def open_findings(self, origin: str | None = None) -> list[dict[str, Any]]:
        newest = {each["id"]: each for each in self.findings()}
        return [
            each
            for each in newest.values()
            if each["status"] == "OPENED" and origin in (None, each["device_id"])
        ]

    def expect(
        self,
        rule: str,
        origin: str,
        cheat: Callable[[], Any],
        bound_s: float = PUBLICATION_BOUND_S,
        *,
        also: frozenset[str] = frozenset(),
    ) -> dict[str, Any]:
        """Cheat, and wait for the finding; fails after the bound, and when the log is accused of more.

        `also` names what the same cheat shows as well, by whichever look comes first.
        """
        assert self.open_findings(origin) == []
        published_s = time.monotonic()
        cheat()

        def found() -> dict[str, Any] | None:
            return next((f for f in self.open_findings(origin) if f["rule"] == rule), None)

        finding = wait_for(found, f"{rule} about {origin}", bound_s)
        self.elapsed_s[rule] = time.monotonic() - published_s
        print(f"{rule}: found after {self.elapsed_s[rule]:.1f} s: {finding['explanation']}")
        assert finding["severity"] in ("CRITICAL", "HIGH")
        assert {f["rule"] for f in self.open_findings(origin)} - also == {rule}
        return finding

    def expect_cleared(self, rule: str, origin: str) -> None:
        """Wait until nothing of the rule is open about a log."""
        wait_for(
            lambda: all(f["rule"] != rule for f in self.open_findings(origin)), f"{rule} of {origin} heals"
        )


@contextmanager
def cheater(folder: Path, **settings: Any) -> Iterator[Cheater]:
    """A fresh log on a broker of its own; everything is ended with the block."""
    broker = Broker(folder / "broker")
    with ExitStack() as stack:
        stack.enter_context(broker.owned())
        broker.prepare()
        made: Cheater | None = None
        running = start_broker(broker)
        try:
            (folder / "data").mkdir()
            quick = {"checkpoint_interval_s": 0.2, "anchor_interval_s": 1.0, "partitions": 4}
            deployment = make_deployment(broker.bootstrap_servers, folder / "data", **{**quick, **settings})
            stack.callback(deployment.authority.close)
            made = Cheater(deployment, broker, running)
            yield made
        finally:
            if made is not None and made.ledger is not None:
                made.ledger.stop()
            stop_broker(made.running if made else running, 10)


def detail_of(health: Health) -> str:
    """What a stage's health file says."""
    return str(json.loads(health.path.read_text())["detail"]) if health.path.exists() else ""


def batch_bytes(data: bytes | bytearray, start: int) -> int:
    """Length of the record batch (Kafka's format 2) that begins there."""
    return 12 + int.from_bytes(data[start + 8 : start + 12], "big")


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), by the bit: the broker's own checksum of a batch."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
