"""docs/formats.md: every byte of its example, by the product and by a few lines that know nothing of it.

The second way uses hash functions, Ed25519, struct and concatenation only, from the three seeds in the
document. Whoever changes a format changes the document, or fails here.
"""

import base64
import hashlib
import json
import re
import struct
from functools import cache

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchors.hedera.ids import EntityId
from anchors.hedera.running_hash import running_hash_v3
from pipeline import outputs, topics
from pipeline.verify import verify
from processors.model import RawRecord, Rejection, VerifiedEvent
from processors.registry import Registry
from schemas.codec import MARKER
from schemas.envelope import PayloadKind, Signature, SignedEnvelope, decode_envelope
from schemas.events import decode_event
from schemas.evidence import parse_evidence
from schemas.reasons import Reason
from schemas.trust import parse_trust
from tests.kit.formats_example import blocks
from tests.kit.formats_tables import reason_texts, tables
from tests.kit.regenerate_formats import DOCUMENT, documented_blocks, documented_tables, regenerated

TEXT = DOCUMENT.read_text(encoding="utf-8")
REGISTRY = "ward.example/identity.registry/0"
PROOF = "c2sp.org/tlog-proof@v1\nindex "
CONSENSUS_NS = 1_760_000_013_000_000_000
BLOCKS = documented_blocks(TEXT)


def text(label: str) -> str:
    return BLOCKS[label].text


def data(label: str) -> bytes:
    """The bytes of a hex block, without its remarks."""
    return bytes.fromhex("".join(line.split("#")[0] for line in text(label).splitlines()))


def named(label: str, name: str) -> str:
    """The value on the line of a block that begins with `name`."""
    return next(
        line.removeprefix(name).strip() for line in text(label).splitlines() if line.startswith(f"{name} ")
    )


# ---- the product's way ---------------------------------------------------------------------------------


def test_document_is_what_the_code_makes() -> None:
    assert regenerated(TEXT) == TEXT, "run `python -m tests.kit.regenerate_formats` and read the difference"


def test_document_shows_every_block_and_table_once() -> None:
    fences = re.findall(r"^```(\w+) (\S+)$", TEXT, re.MULTILINE)
    assert sorted(label for _language, label in fences) == sorted(blocks()) == sorted(BLOCKS)
    assert len(re.findall(r"^```", TEXT, re.MULTILINE)) == 2 * len(fences)
    assert documented_tables(TEXT) == tables()


def test_every_reason_has_a_row_with_its_meaning() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", tables()["reasons"], re.MULTILINE))
    assert rows == dict(reason_texts())
    assert list(rows) == [reason.value for reason in Reason]


def test_documented_evidence_holds_under_the_documented_trust() -> None:
    verdict = verify(parse_evidence(text("evidence").encode()), parse_trust(text("trust")))
    assert verdict.holds, verdict.broken


def test_documented_registration_is_taken() -> None:
    did = text("device-id").strip()
    signature = Signature("authority-1", data("registry-signature"))
    value = SignedEnvelope(data("registry-payload"), (signature,)).encode()
    registry = Registry(parse_trust(text("trust")))
    registry.apply(RawRecord(topics.REGISTRY, 0, 0, 0, did.encode(), value))
    subject = registry.subject(did)
    assert subject is not None, registry.ignored
    assert subject.keys["key-1"].public_key.hex() == named("public-keys", "device")
    assert f"registry.offset = {registry.offset}\n" in text("accepted-record")


def test_documented_headers_are_the_ones_that_ingest_writes() -> None:
    envelope = data("telemetry-envelope")
    partition = int(named("raw-record", "partition"))
    source = RawRecord(topics.TELEMETRY_RAW, partition, 0, 0, text("device-id").strip().encode(), envelope)
    event = decode_event(PayloadKind.TELEMETRY, decode_envelope(envelope).payload)
    written: list[dict[str, object]] = []

    def produce(topic: str, value: object, key: object, partition: int, headers: object = ()) -> None:
        written.append(
            {"topic": topic, "value": value, "key": key, "partition": partition, "headers": headers}
        )

    outputs.accept(produce, [VerifiedEvent(event, bytes(32), source, 1)])
    huge = RawRecord(topics.TELEMETRY_RAW, 0, 0, 0, b"k" * 300, bytes(300_000))
    outputs.reject(produce, Rejection(huge, Reason.OVERSIZED, "too large", 0, event.device_id))
    accepted, rejected = written
    assert accepted["value"] == envelope
    assert [line for line in text("accepted-record").splitlines() if line.startswith("header ")] == [
        f"header     {name} = {value.decode()}"
        for name, value in accepted["headers"]  # type: ignore[attr-defined]
    ]
    section = TEXT[TEXT.index("**`device.rejected`**") : TEXT.index("<!-- table: reasons -->")]
    documented = set(re.findall(r"`([a-z_]+[a-z_.0-9]*)`(?=[^\n|]*\|[^\n]*\|$)", section, re.MULTILINE))
    assert {name for name, _value in rejected["headers"]} <= documented  # type: ignore[attr-defined]


# ---- from the seeds alone ------------------------------------------------------------------------------

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def key_of(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(named("seeds", name)))


def public(name: str) -> bytes:
    return key_of(name).public_key().public_bytes_raw()


def number(value: int) -> bytes:
    """Avro: zigzag, then seven bits a byte, the lowest first."""
    value = (value << 1) ^ (value >> 63)
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def lengthy(raw: bytes) -> bytes:
    return number(len(raw)) + raw


def part(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw


def header(record: str) -> bytes:
    """Marker and fingerprint, from the schema's file by the specification's own algorithm."""
    file = DOCUMENT.parents[1] / "schemas" / "avro" / f"{record}.v1.avsc"
    canonical = json.dumps(canonical_form(json.loads(file.read_text())), separators=(",", ":"))
    crc = empty = 0xC15D213AA4D7A795
    for byte in canonical.encode():
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (empty & -(crc & 1))
    return b"\xc3\x01" + struct.pack("<Q", crc)


def canonical_form(schema: object) -> object:
    """Avro's parsing canonical form, as far as our schemas need it."""
    if isinstance(schema, list):
        return [canonical_form(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    form: dict[str, object] = {}
    for attribute in ("name", "type", "fields", "symbols", "items", "values", "size"):
        if attribute not in schema:
            continue
        found = schema[attribute]
        if attribute == "name":
            form["name"] = f"org.attestream.{found}"
        elif attribute == "fields":
            form["fields"] = [{"name": f["name"], "type": canonical_form(f["type"])} for f in found]
        else:
            form[attribute] = canonical_form(found)
    return form


@cache
def did() -> bytes:
    value = int.from_bytes(b"\xed\x01" + public("device"), "big")
    encoded = ""
    while value:
        value, digit = divmod(value, 58)
        encoded = ALPHABET[digit] + encoded
    return b"did:key:z" + encoded.encode()


def pae(kind: bytes, payload: bytes) -> bytes:
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def telemetry(sequence: int) -> bytes:
    time_us = 1_760_000_000_000_000 + (sequence - 1) * 1_000_000
    return (
        header("telemetry")
        + lengthy(did())
        + number(1)
        + number(sequence)
        + number(time_us)
        + (number(2) + number(147842) + number(150456) + b"\0")
        + (number(2) + struct.pack("<dd", 72.0 + sequence, 98.5) + b"\0")
    )


def envelope(sequence: int) -> bytes:
    payload = telemetry(sequence)
    kind = b"application/vnd.attestream.telemetry+avro; audience=ward.example"
    signature = key_of("device").sign(pae(kind, payload))
    one = lengthy(b"key-1") + number(0) + lengthy(signature)
    return header("signed_envelope") + lengthy(payload) + number(1) + one + b"\0"


def headers_of(index: int) -> list[tuple[bytes, bytes]]:
    source = f"device.telemetry.raw/{named('raw-record', 'partition')}/{index}"
    return [(b"registry.offset", b"1"), (b"source", source.encode())]


def key_digest_input(index: int) -> bytes:
    pairs = headers_of(index)
    return part(did()) + struct.pack(">I", len(pairs)) + b"".join(part(n) + part(v) for n, v in pairs)


def leaf(index: int) -> bytes:
    key_digest = blake3(key_digest_input(index)).digest()
    value_digest = blake3(part(envelope(index + 1))).digest()
    digest = blake3(key_digest + value_digest).digest()
    return header("leaf") + number((0, 1, 3)[index]) + number(1_760_000_000_250 + index * 1000) + digest


def sha256(raw: bytes) -> bytes:
    return hashlib.sha256(raw).digest()


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


@cache
def leaf_hashes() -> tuple[bytes, ...]:
    return tuple(sha256(b"\0" + leaf(index)) for index in range(3))


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right)


def signed_note(name: str, body: str) -> str:
    key_id = sha256(f"{name}\n".encode() + b"\x01" + public("log"))[:4]
    return f"{body}\n— {name} {b64(key_id + key_of('log').sign(body.encode()))}\n"


def registry_value() -> bytes:
    """The registration's signed envelope."""
    payload, signature = data("registry-payload"), data("registry-signature")
    signatures = number(1) + lengthy(b"authority-1") + number(0) + lengthy(signature) + b"\0"
    return header("signed_envelope") + lengthy(payload) + signatures


def registry_leaf() -> bytes:
    key_digest = blake3(part(did()) + bytes(4)).digest()
    digest = blake3(key_digest + blake3(part(registry_value())).digest()).digest()
    return header("leaf") + number(0) + number(1_759_999_940_000) + digest


def epoch_hashes() -> list[bytes]:
    blocks_of = ("shard-list", "registry-checkpoint", "shard-checkpoint")
    return [sha256(b"\0" + text(label).encode()) for label in blocks_of]


def murmur2(raw: bytes) -> int:
    """As the comments of Kafka's Utils.murmur2 describe it, byte by byte."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(raw)
    for start in range(0, len(raw) // 4 * 4, 4):
        k = struct.unpack_from("<I", raw, start)[0] * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    rest = raw[len(raw) // 4 * 4 :]
    if rest:
        h = (h ^ sum(byte << 8 * place for place, byte in enumerate(rest))) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


@pytest.mark.parametrize("name", ["log", "authority", "device"])
def test_public_keys_follow_from_the_seeds(name: str) -> None:
    assert public(name).hex() == named("public-keys", name)


def test_device_id_is_its_public_key() -> None:
    assert did() == text("device-id").strip().encode()


@pytest.mark.parametrize(
    "name", ["telemetry", "access", "lifecycle", "signed_envelope", "registry_entry", "leaf", "finding"]
)
def test_fingerprints_follow_from_the_schema_files(name: str) -> None:
    assert f"| `{name}` | 1 | `{header(name).hex()}` |" in tables()["schemas"]


def test_event_its_signed_bytes_and_its_envelope() -> None:
    kind = text("telemetry-payload-type").strip().encode()
    assert data("telemetry-payload") == telemetry(1)
    assert data("telemetry-pae") == pae(kind, telemetry(1))
    assert data("telemetry-signature") == key_of("device").sign(data("telemetry-pae"))
    assert data("telemetry-envelope") == envelope(1)


def test_place_of_the_raw_record() -> None:
    assert named("raw-record", "key").encode() == did()
    assert int(named("raw-record", "murmur2"), 16) == murmur2(did())
    assert int(named("raw-record", "partition")) == (murmur2(did()) & 0x7FFFFFFF) % 8


def test_registry_entry() -> None:
    key = (
        number(1)
        + lengthy(b"key-1")
        + number(0)
        + lengthy(public("device"))
        + number(0)  # branch 1 is the key: its id, ED25519, the key, EVENT
    )
    expected = (
        header("registry_entry")
        + lengthy(did())
        + number(1)
        + lengthy(b"")
        + number(0)  # version 1, no digest before it, REGISTER
        + number(1_759_999_940_000_000)
        + key
        + number(0)
        + number(0)  # nothing revoked, nothing compromised
        + (number(1) + lengthy(b"kind") + lengthy(b"monitor") + b"\0")
    )
    assert data("registry-payload") == expected
    message = pae(text("registry-payload-type").strip().encode(), expected)
    assert data("registry-signature") == key_of("authority").sign(message)


def test_record_digest_and_leaf() -> None:
    assert data("key-digest-input") == key_digest_input(0)
    assert data("key-digest") == blake3(key_digest_input(0)).digest()
    assert data("value-digest") == blake3(part(envelope(1))).digest()
    assert data("record-digest") == blake3(data("key-digest") + data("value-digest")).digest()
    assert data("leaf") == leaf(0)
    assert data("leaf-hash") == sha256(b"\0" + leaf(0))
    for line in (f"offset     {0}", f"timestamp  {1_760_000_000_250}", f"key        {did().decode()}"):
        assert line in text("accepted-record").splitlines()


def test_tree_and_tiles() -> None:
    hashes = leaf_hashes()
    assert [named("tree", f"leaf {index}") for index in range(3)] == [each.hex() for each in hashes]
    assert named("tree", "node 0-1") == node(*hashes[:2]).hex()
    assert named("tree", "root") == node(node(*hashes[:2]), hashes[2]).hex()
    assert data("tile") == b"".join(hashes)
    leaves = [leaf(index) for index in range(3)]
    assert data("entry-bundle") == b"".join(struct.pack(">H", len(each)) + each for each in leaves)
    assert text("tile-paths").split() == ["tile/0/000.p/3", "tile/entries/000.p/3", "checkpoint"]


def test_notes_of_the_log() -> None:
    hashes = leaf_hashes()
    root = node(node(*hashes[:2]), hashes[2])
    shard = f"ward.example/device.events/{named('raw-record', 'partition')}"
    checkpoint = signed_note(shard, f"{shard}\n3\n{b64(root)}\n")
    assert text("shard-checkpoint") == checkpoint
    listed = (
        f"ward.example/shards\n3\nward.example {'A' * 21}g\n{shard} {'A' * 21}Q\n{REGISTRY} {'A' * 21}w\n"
    )
    assert text("shard-list") == signed_note("ward.example/shards", listed)
    registry_root = b64(sha256(b"\0" + registry_leaf()))
    assert text("registry-checkpoint") == signed_note(REGISTRY, f"{REGISTRY}\n1\n{registry_root}\n")
    entries = epoch_hashes()
    root = node(node(*entries[:2]), entries[2])
    epoch = signed_note("ward.example", f"ward.example\n3\n{b64(root)}\n")
    assert text("epoch-checkpoint") == epoch
    assert text("shard-proof") == f"{PROOF}0\n{b64(hashes[1])}\n{b64(hashes[2])}\n\n{checkpoint}"
    assert text("epoch-proof") == f"{PROOF}2\n{b64(node(*entries[:2]))}\n\n{epoch}"
    names = (shard, "ward.example", "ward.example/shards")
    material = b"\x01" + public("log")
    assert text("verifier-keys").splitlines() == [
        f"{name}+{sha256(f'{name}{chr(10)}'.encode() + material)[:4].hex()}+{b64(material)}" for name in names
    ]


def test_anchor_message() -> None:
    root = text("epoch-checkpoint").splitlines()[2]
    unpadded = root.translate(str.maketrans("+/", "-_", "="))
    assert text("anchor-message") == (
        '{"p":"hcs-27","op":"register","metadata":{"type":"ans-checkpoint-v1",'
        '"stream":{"registry":"attestream","log_id":"ward.example"},'
        '"log":{"alg":"sha-256","leaf":"sha256(0x00||checkpoint)","merkle":"rfc9162"},'
        f'"root":{{"treeSize":"3","rootHashB64u":"{unpadded}"}}}}}}\n'
    )


def test_evidence_and_trust_files() -> None:
    message = text("anchor-message").strip().encode()
    # Its own test holds it to real messages of the public network.
    running_hash = b64(
        running_hash_v3(
            bytes(48),
            payer=EntityId(0, 0, 1002),
            topic=EntityId(0, 0, 1001),
            consensus_time_ns=CONSENSUS_NS,
            sequence=1,
            message=message,
        )
    )
    assert json.loads(text("evidence")) == {
        "format": "attestream-evidence/v1",
        "record": {
            "topic": "device.events",
            "partition": int(named("raw-record", "partition")),
            "offset": 0,
            "timestamp_ms": 1_760_000_000_250,
            "key": b64(did()),
            "headers": [[name.decode(), b64(value)] for name, value in headers_of(0)],
            "value": b64(envelope(1)),
        },
        "leaf": b64(leaf(0)),
        "shard_proof": text("shard-proof"),
        "epoch_proof": text("epoch-proof"),
        "registry": [
            {
                "record": {
                    "topic": "identity.registry",
                    "partition": 0,
                    "offset": 0,
                    "timestamp_ms": 1_759_999_940_000,
                    "key": b64(did()),
                    "headers": [],
                    "value": b64(registry_value()),
                },
                "leaf": b64(registry_leaf()),
                "shard_proof": f"{PROOF}0\n\n{text('registry-checkpoint')}",
                "epoch_proof": (
                    f"{PROOF}1\n{b64(epoch_hashes()[0])}\n{b64(epoch_hashes()[2])}\n\n"
                    f"{text('epoch-checkpoint')}"
                ),
            }
        ],
        "anchor": {
            "ledger": "hedera:testnet",
            "topic": "0.0.1001",
            "sequence": 1,
            "consensus_timestamp_ns": CONSENSUS_NS,
            "transaction_id": "0.0.1002@1760000009.000000000",
            "payer": "0.0.1002",
            "mirror": "https://testnet.mirrornode.hedera.com",
            "message": b64(message),
            "running_hash": running_hash,
            "running_hash_version": 3,
            "segment_start": None,
            "segment": [
                {
                    "sequence": 1,
                    "consensus_timestamp_ns": CONSENSUS_NS,
                    "payer": "0.0.1002",
                    "message": b64(message),
                    "running_hash": running_hash,
                }
            ],
        },
    }
    assert json.loads(text("trust")) == {
        "log_name": "ward.example",
        "log_key": b64(public("log")),
        "previous_log_keys": [],
        "authorities": {"authority-1": b64(public("authority"))},
        "authority_threshold": 1,
        "witnesses": {},
        "ledger": {"kind": "hedera:testnet", "topic": "0.0.1001", "payer": "0.0.1002", "checkpoints": []},
    }


def test_marker_is_the_one_of_the_specification() -> None:
    assert MARKER == b"\xc3\x01" == header("leaf")[:2]
