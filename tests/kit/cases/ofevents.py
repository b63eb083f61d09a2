"""Records, and what a device may sign."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

from schemas.envelope import PayloadKind, Signature, SignedEnvelope, pae, pae_prefix
from tests.kit.cases.case import DEVICE, Case, case, event, log_with, signed_at
from tests.kit.cases.spelling import ORDER, SMALL_ORDER, spelled_otherwise, torsioned
from tests.kit.parties import (
    LOG,
    RegistryTopic,
    envelope_of,
    event_of,
    new_key,
    payload_of,
    registry_payload,
    signed_entry,
)
from tests.kit.smalllog import SHARDS, SmallLog


def plain() -> Iterator[Case]:
    log = SmallLog(SHARDS)
    for topic, partition, count in SHARDS:
        for index in range(count):
            yield case(f"{topic}/{partition} leaf {index}", log.evidence(topic, partition, index), "")
    for index in range(3):
        yield case(f"registry leaf {index}", log.evidence("identity.registry", 0, index), "")
    yield case("no receipt", log.evidence(anchored=False), "")
    yield case("withheld value", log.evidence().redacted(), "")
    yield case("withheld value of a rejection", log.evidence("device.rejected", 0, 0).redacted(), "")
    held = replace(log.evidence().redacted(), registry=log.evidence().registry)
    yield case("a registry chain that nothing needs", held, "registry chain")
    other = SmallLog(SHARDS, name="other.example")
    yield case("another log's", other.evidence(), "shard checkpoint")
    forged = SmallLog(SHARDS, key="another key")
    yield case("signed by another key", forged.evidence(), "shard checkpoint")
    single = SmallLog([("device.events", 0, 1)])
    yield case("a tree of one leaf", single.evidence(), "")
    late = replace(log.evidence(), leaf=log.evidence(index=1).leaf)
    yield case("another record's leaf", late, "record")
    early = log_with(RegistryTopic(), *(replace(event(b"x", b"0"), offset=0) for _ in range(2)))
    yield case("more leaves than offsets", early.evidence(index=1, anchored=False), "leaf in shard")


def events() -> Iterator[Case]:
    """What a device may sign."""
    chain = RegistryTopic()
    chain.enroll("device")
    for kind in (PayloadKind.TELEMETRY, PayloadKind.ACCESS, PayloadKind.LIFECYCLE):
        payload = payload_of(DEVICE.did, kind)
        yield case(f"{kind}", signed_at(chain, envelope_of(payload, DEVICE, kind=kind)), "")
        other = PayloadKind.ACCESS if kind is PayloadKind.TELEMETRY else PayloadKind.TELEMETRY
        yield case(
            f"{kind} as {other}", signed_at(chain, envelope_of(payload, DEVICE, kind=other)), "signatures"
        )
        elsewhere = envelope_of(payload, DEVICE, kind=kind, audience="other.example")
        yield case(f"{kind} for another log", signed_at(chain, elsewhere), "signatures")
    telemetry: dict[str, dict[str, object]] = {
        "boot 0": {"boot": 0},
        "boot 2^62": {"boot": 2**62},
        "boot 2^62 + 1": {"boot": 2**62 + 1},
        "negative sequence": {"sequence": -1},
        "any time": {"time": -(2**63)},
        "no readings": {"codes": [], "values": []},
        "more codes than values": {"codes": [1, 2], "values": [1.0]},
        "256 readings": {"codes": [1] * 256, "values": [1.0] * 256},
        "257 readings": {"codes": [1] * 257, "values": [1.0] * 257},
        "greatest code": {"codes": [2**31 - 1], "values": [1.0]},
        "negative code": {"codes": [-1], "values": [1.0]},
        "not a number": {"codes": [1], "values": [float("nan")]},
        "infinite": {"codes": [1], "values": [float("-inf")]},
        "readings whose sum overflows": {"codes": [1, 2], "values": [1.7e308, 1.7e308]},
        "negative zero": {"codes": [1], "values": [-0.0]},
    }
    for name, changes in telemetry.items():
        sound = name in ("boot 2^62", "any time", "no readings", "256 readings", "greatest code")
        sound = sound or name in ("readings whose sum overflows", "negative zero")
        yield case(name, signed_at(chain, event_of("device", **changes)), "" if sound else "signatures")
    for size, step in ((512, ""), (513, "signatures")):
        long = payload_of(DEVICE.did, PayloadKind.ACCESS, purpose="\U0001f600" * size)
        yield case(
            f"text of {size}", signed_at(chain, envelope_of(long, DEVICE, kind=PayloadKind.ACCESS)), step
        )
    registered = signed_entry(registry_payload(DEVICE.did, "REGISTER", 1, key=new_key("k1", "device")))
    for name, value in {
        "null": None,
        "empty": b"",
        "random bytes": hashlib.sha256(b"random").digest(),
        "a registry entry": registered,
        "no signature": SignedEnvelope(payload_of(DEVICE.did), ()).encode(),
        "17 signatures": SignedEnvelope(payload_of(DEVICE.did), (Signature("k1", bytes(64)),) * 17).encode(),
        "a byte behind": event_of("device") + b"\0",
        "short of a byte": event_of("device")[:-1],
        "above the limit": SignedEnvelope(bytes(65_536), (Signature("k1", bytes(64)),)).encode(),
        "another device's": event_of("approver"),
    }.items():
        yield case(f"value: {name}", signed_at(chain, value), "signatures")
    for name, spelled in spelled_otherwise(event_of("device")):
        yield case(f"envelope with {name}", signed_at(chain, spelled), "signatures")
    for name, spelled in spelled_otherwise(payload_of(DEVICE.did)):
        yield case(f"payload with {name}", signed_at(chain, envelope_of(spelled, DEVICE)), "signatures")


def signatures() -> Iterator[Case]:
    """Ed25519 where verifiers of the world disagree."""
    chain = RegistryTopic()
    chain.enroll("device")
    payload = payload_of(DEVICE.did)
    message = pae(pae_prefix(PayloadKind.TELEMETRY, LOG), payload)

    def told(name: str, signature: bytes, step: str) -> Case:
        envelope = SignedEnvelope(payload, (Signature("k1", signature),)).encode()
        return case(name, signed_at(chain, envelope), step)

    genuine = DEVICE.sign(PayloadKind.TELEMETRY, LOG, payload).signature
    yield told("genuine", genuine, "")
    for torsion in SMALL_ORDER[:4]:
        yield told(f"torsion {torsion.hex()[:8]}", torsioned("device", message, torsion), "")
    for point in SMALL_ORDER:
        yield told(f"small order R {point.hex()[:8]}", point + bytes(32), "signatures")
    greater = int.from_bytes(genuine[32:], "little") + ORDER
    yield told("s above the order", genuine[:32] + greater.to_bytes(32, "little"), "signatures")
    yield told("63 bytes", genuine[:-1], "signatures")
    yield told("65 bytes", genuine + b"\0", "signatures")
    yield told("empty", b"", "signatures")
