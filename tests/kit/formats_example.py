"""The worked example of docs/formats.md, made by the product's own code from three fixed seeds.

`blocks()` gives every labelled code block; `regenerate_formats` writes them into the document.
"""

import struct
from dataclasses import dataclass
from functools import cache
from typing import Any

from anchors.hedera.ids import EntityId
from anchors.hedera.running_hash import RUNNING_HASH_VERSION, ZERO_RUNNING_HASH, running_hash_v3
from pipeline.anchorrecords import ledger_message
from pipeline.shard import origin_of
from pipeline.shardlist import shard_list
from pipeline.topics import CHECKPOINTS, EVENTS, REGISTRY, TELEMETRY_RAW
from processors.merkle.hashing import leaf_hash, node_hash
from schemas.checkpoint import Checkpoint, SignedCheckpoint, log_key, sign_checkpoint
from schemas.codec import CODEC
from schemas.did import encode_did_key
from schemas.ed25519 import public_key
from schemas.envelope import PayloadKind, Signature, SignedEnvelope, pae, pae_prefix, payload_type
from schemas.evidence import AnchorReceipt, Evidence, EvidenceRecord, ProvenRecord, SegmentMessage
from schemas.note import Ed25519Signer, format_note
from schemas.partition import murmur2, partition_of
from schemas.records import encode_leaf, key_digest, record_digest, value_digest
from schemas.signing import SigningIdentity
from schemas.tile import Tile, encode_bundle
from schemas.tlogproof import TlogProof, format_tlog_proof
from schemas.trust import LedgerTrust, TrustRoot
from tests.kit.spelled import Block, Pieces, avro_block, expect_bytes, hex_block, text_block, u32

LOG_NAME = "ward.example"
LOG_SEED, AUTHORITY_SEED, DEVICE_SEED = (bytes([number]) * 32 for number in (1, 2, 3))
PARTITIONS = 8
TIME_US = 1_760_000_000_000_000
REGISTRY_OFFSET = 1
OFFSETS = (0, 1, 3)
"""Of the three records; offset 2 is the broker's mark of a committed transaction."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """One record of `device.events` in the example."""

    payload: bytes
    signature: Signature
    value: bytes
    headers: tuple[tuple[str, bytes | None], ...]
    offset: int
    timestamp_ms: int


DEVICE = SigningIdentity(encode_did_key(public_key(DEVICE_SEED)), "key-1", DEVICE_SEED)
AUTHORITY = SigningIdentity("did:example:authority", "authority-1", AUTHORITY_SEED)
KEY = DEVICE.did.encode()
PARTITION = partition_of(KEY, PARTITIONS)
ORIGIN = origin_of(LOG_NAME, (EVENTS, PARTITION))
REGISTRY_ORIGIN = origin_of(LOG_NAME, (REGISTRY, 0))
LEDGER = LedgerTrust("hedera:testnet", "0.0.1001", "0.0.1002")
CONSENSUS_NS = TIME_US * 1000 + 13_000_000_000
TRUST = TrustRoot(LOG_NAME, public_key(LOG_SEED), {AUTHORITY.key_id: AUTHORITY.public_key}, ledger=LEDGER)


def telemetry(sequence: int) -> dict[str, Any]:
    """The event number `sequence`: heart rate and oxygen saturation."""
    return {
        "device_id": DEVICE.did,
        "boot": 1,
        "sequence": sequence,
        "time": TIME_US + (sequence - 1) * 1_000_000,
        "codes": [147842, 150456],
        "values": [72.0 + sequence, 98.5],
    }


REGISTRATION: dict[str, Any] = {
    "subject": DEVICE.did,
    "version": 1,
    "previous_digest": b"",
    "action": "REGISTER",
    "time": TIME_US - 60_000_000,
    "key": {
        "key_id": DEVICE.key_id,
        "algorithm": "ED25519",
        "public_key": DEVICE.public_key,
        "purpose": "EVENT",
    },
    "revoked_key_id": None,
    "compromised_since": None,
    "attributes": {"kind": "monitor"},
}


@cache
def accepted() -> tuple[Accepted, ...]:
    """The three records of the shard."""
    found = []
    for number, offset in enumerate(OFFSETS):
        payload = CODEC.encode("telemetry", telemetry(number + 1))
        signature = DEVICE.sign(PayloadKind.TELEMETRY, LOG_NAME, payload)
        source = f"{TELEMETRY_RAW}/{PARTITION}/{number}".encode()
        found.append(
            Accepted(
                payload,
                signature,
                SignedEnvelope(payload, (signature,)).encode(),
                (("registry.offset", b"%d" % REGISTRY_OFFSET), ("source", source)),
                offset,
                TIME_US // 1000 + 250 + number * 1000,
            )
        )
    return tuple(found)


def leaf(record: Accepted) -> bytes:
    """The leaf of one of the three records."""
    digest = record_digest(KEY, record.headers, record.value)
    return encode_leaf(record.offset, record.timestamp_ms, digest)


@cache
def blocks() -> dict[str, Block]:
    """Every labelled block of the document."""
    return {**_identity(), **_event(), **_registry(), **_digests(), **_tree(), **_log()}


def _identity() -> dict[str, Block]:
    seeds = {"log": LOG_SEED, "authority": AUTHORITY_SEED, "device": DEVICE_SEED}
    return {
        "seeds": text_block(f"{name:<10} {seed.hex()}" for name, seed in seeds.items()),
        "public-keys": text_block(f"{name:<10} {public_key(seed).hex()}" for name, seed in seeds.items()),
        "device-id": text_block([DEVICE.did]),
    }


def _event() -> dict[str, Block]:
    first = accepted()[0]
    kind = payload_type(PayloadKind.TELEMETRY, LOG_NAME)
    envelope = {
        "payload": first.payload,
        "signatures": [
            {
                "key_id": first.signature.key_id,
                "algorithm": first.signature.algorithm,
                "signature": first.signature.signature,
            }
        ],
    }
    signed: Pieces = [
        (b"DSSEv1 ", "DSSEv1 SP"),
        (b"%d " % len(kind), f"length of the payload type, {len(kind)}, SP"),
        (f"{kind} ".encode(), "the payload type, SP"),
        (b"%d " % len(first.payload), f"length of the payload, {len(first.payload)}, SP"),
        (first.payload, "the payload"),
    ]
    expect_bytes(signed, pae(pae_prefix(PayloadKind.TELEMETRY, LOG_NAME), first.payload))
    return {
        "telemetry-payload": avro_block("telemetry", telemetry(1), first.payload),
        "telemetry-payload-type": text_block([kind]),
        "telemetry-pae": hex_block(signed),
        "telemetry-signature": hex_block([(first.signature.signature, "Ed25519 by the device's key")]),
        "telemetry-envelope": avro_block("signed_envelope", envelope, first.value),
        "raw-record": text_block(
            [
                f"topic      {TELEMETRY_RAW}",
                f"key        {DEVICE.did}",
                f"murmur2    {murmur2(KEY):08x}",
                f"partition  {PARTITION}",
                "headers    none",
                "value      telemetry-envelope",
            ]
        ),
        "accepted-record": text_block(
            [
                f"topic      {EVENTS}",
                f"partition  {PARTITION}",
                f"offset     {first.offset}",
                f"timestamp  {first.timestamp_ms}",
                f"key        {DEVICE.did}",
                *(f"header     {name} = {(value or b'').decode()}" for name, value in first.headers),
                "value      telemetry-envelope",
            ]
        ),
    }


def _registry() -> dict[str, Block]:
    payload = CODEC.encode("registry_entry", REGISTRATION)
    signature = AUTHORITY.sign(PayloadKind.REGISTRY_ENTRY, LOG_NAME, payload)
    return {
        "registry-payload": avro_block("registry_entry", REGISTRATION, payload),
        "registry-payload-type": text_block([payload_type(PayloadKind.REGISTRY_ENTRY, LOG_NAME)]),
        "registry-signature": hex_block([(signature.signature, "Ed25519 by the authority's key")]),
    }


def _digests() -> dict[str, Block]:
    first = accepted()[0]
    spelled: Pieces = [
        (u32(KEY), "length of the key"),
        (KEY, "the key"),
        (len(first.headers).to_bytes(4, "big"), "number of headers"),
    ]
    for name, value in first.headers:
        spelled += [
            (u32(name.encode()), "length of the header's name"),
            (name.encode(), name),
            (u32(value or b""), "length of the header's value"),
            (value or b"", (value or b"").decode()),
        ]
    digests = {
        "key-digest": key_digest(KEY, first.headers),
        "value-digest": value_digest(first.value),
        "record-digest": record_digest(KEY, first.headers, first.value),
    }
    record = {"offset": first.offset, "timestamp": first.timestamp_ms, "digest": digests["record-digest"]}
    return {
        "key-digest-input": hex_block(spelled),
        **{name: hex_block([(digest, name.replace("-", " "))]) for name, digest in digests.items()},
        "leaf": avro_block("leaf", record, leaf(first)),
        "leaf-hash": hex_block([(leaf_hash(leaf(first)), "SHA-256(00, leaf)")]),
    }


def _tree() -> dict[str, Block]:
    leaves = [leaf(record) for record in accepted()]
    hashes = [leaf_hash(each) for each in leaves]
    left = node_hash(hashes[0], hashes[1])
    bundle: Pieces = []
    for number, each in enumerate(leaves):
        bundle += [(struct.pack(">H", len(each)), f"length of leaf {number}"), (each, f"leaf {number}")]
    expect_bytes(bundle, encode_bundle(leaves))
    return {
        "tree": text_block(
            [
                *(f"leaf {number}     {each.hex()}" for number, each in enumerate(hashes)),
                f"node 0-1   {left.hex()}",
                f"root       {node_hash(left, hashes[2]).hex()}",
            ]
        ),
        "tile": hex_block([(each, f"leaf hash {number}") for number, each in enumerate(hashes)]),
        "tile-paths": text_block([Tile(0, 0, 3).path, Tile(-1, 0, 3).path, "checkpoint"]),
        "entry-bundle": hex_block(bundle),
    }


def _registration() -> EvidenceRecord:
    """The device's entry as a record of the registry."""
    payload = CODEC.encode("registry_entry", REGISTRATION)
    signature = AUTHORITY.sign(PayloadKind.REGISTRY_ENTRY, LOG_NAME, payload)
    value = SignedEnvelope(payload, (signature,)).encode()
    return EvidenceRecord(REGISTRY, 0, 0, TIME_US // 1000 - 60_000, KEY, (), value)


def _receipt(message: bytes) -> AnchorReceipt:
    """The receipt of the topic's first message."""
    running_hash = running_hash_v3(
        ZERO_RUNNING_HASH,
        payer=EntityId.parse(LEDGER.payer),
        topic=EntityId.parse(LEDGER.topic),
        consensus_time_ns=CONSENSUS_NS,
        sequence=1,
        message=message,
    )
    return AnchorReceipt(
        ledger=LEDGER.kind,
        topic=LEDGER.topic,
        sequence=1,
        consensus_timestamp_ns=CONSENSUS_NS,
        transaction_id="0.0.1002@1760000009.000000000",
        payer=LEDGER.payer,
        mirror="https://testnet.mirrornode.hedera.com",
        message=message,
        running_hash=running_hash,
        running_hash_version=RUNNING_HASH_VERSION,
        segment_start=None,
        segment=(SegmentMessage(1, CONSENSUS_NS, LEDGER.payer, message, running_hash),),
    )


def _log() -> dict[str, Block]:
    hashes = [leaf_hash(leaf(record)) for record in accepted()]
    root = node_hash(node_hash(hashes[0], hashes[1]), hashes[2])
    signer = Ed25519Signer.from_seed(ORIGIN, LOG_SEED)
    shard_note = sign_checkpoint(Checkpoint(ORIGIN, len(hashes), root), [signer])
    entry = _registration()
    entry_leaf = encode_leaf(entry.offset, entry.timestamp_ms, entry.digest)
    registry_signer = Ed25519Signer.from_seed(REGISTRY_ORIGIN, LOG_SEED)
    registry_note = sign_checkpoint(Checkpoint(REGISTRY_ORIGIN, 1, leaf_hash(entry_leaf)), [registry_signer])
    # A real list names every shard; three show the form.
    listed = shard_list(
        Ed25519Signer.from_seed(f"{LOG_NAME}/shards", LOG_SEED),
        {
            EVENTS: "AAAAAAAAAAAAAAAAAAAAAQ",
            CHECKPOINTS: "AAAAAAAAAAAAAAAAAAAAAg",
            REGISTRY: "AAAAAAAAAAAAAAAAAAAAAw",
        },
        {(EVENTS, PARTITION): ORIGIN, (CHECKPOINTS, 0): LOG_NAME, (REGISTRY, 0): REGISTRY_ORIGIN},
    )
    epoch_hashes = [leaf_hash(each) for each in (listed, format_note(registry_note), format_note(shard_note))]
    first_two = node_hash(epoch_hashes[0], epoch_hashes[1])
    epoch_signer = Ed25519Signer.from_seed(LOG_NAME, LOG_SEED)
    epoch = Checkpoint(LOG_NAME, len(epoch_hashes), node_hash(first_two, epoch_hashes[2]))
    epoch_note = sign_checkpoint(epoch, [epoch_signer])
    shard_proof = format_tlog_proof(TlogProof(0, (hashes[1], hashes[2]), shard_note))
    epoch_proof = format_tlog_proof(TlogProof(2, (first_two,), epoch_note))
    first = accepted()[0]
    anchor = ledger_message(SignedCheckpoint(epoch, epoch_note), None)
    registered = ProvenRecord(
        entry,
        entry_leaf,
        format_tlog_proof(TlogProof(0, (), registry_note)),
        format_tlog_proof(TlogProof(1, (epoch_hashes[0], epoch_hashes[2]), epoch_note)),
    )
    evidence = Evidence(
        EvidenceRecord(EVENTS, PARTITION, first.offset, first.timestamp_ms, KEY, first.headers, first.value),
        leaf(first),
        shard_proof,
        epoch_proof,
        (registered,),
        _receipt(anchor),
    )
    keys = [log_key(origin, TRUST.log_key) for origin in (ORIGIN, LOG_NAME, f"{LOG_NAME}/shards")]
    return {
        "verifier-keys": text_block(str(key) for key in keys),
        "shard-checkpoint": Block("text", format_note(shard_note).decode()),
        "shard-proof": Block("text", shard_proof.decode()),
        "shard-list": Block("text", listed.decode()),
        "registry-checkpoint": Block("text", format_note(registry_note).decode()),
        "epoch-checkpoint": Block("text", format_note(epoch_note).decode()),
        "epoch-proof": Block("text", epoch_proof.decode()),
        "anchor-message": Block("json", anchor.decode() + "\n"),
        "evidence": Block("json", evidence.to_json() + "\n"),
        "trust": Block("json", TRUST.to_json() + "\n"),
    }
