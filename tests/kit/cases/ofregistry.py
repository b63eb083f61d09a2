"""Registry entries: what each may say, and the histories that they make."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from schemas.envelope import Signature, SignedEnvelope, decode_envelope
from tests.kit.cases.case import APPROVER, DEVICE, Case, case, event, log_with, signed_at
from tests.kit.cases.spelling import SMALL_ORDER, spelled_otherwise
from tests.kit.parties import (
    AUTHORITIES,
    NOW_MS,
    REGISTRY,
    RegistryTopic,
    approval_of,
    envelope_of,
    event_of,
    identity_of,
    new_key,
    payload_of,
    registry_payload,
    signed_entry,
)
from tests.kit.smalllog import SHARDS, TRUSTED, SmallLog


def registries() -> Iterator[Case]:
    """What a registry entry may say."""
    value = event_of("device")
    good = new_key("k1", "device")

    def told(name: str, expected: str, *entries: bytes, key: bytes | None = DEVICE.did.encode()) -> Case:
        chain = RegistryTopic()
        for each in entries:
            chain.put(key, each)
        log = log_with(chain, event(value, b"%d" % len(entries)))
        note = log.epoch.signed()
        registry = tuple(log.proven((REGISTRY, 0), number, note) for number in range(len(entries)))
        return case(name, replace(log.evidence(anchored=False), registry=registry), expected)

    register = registry_payload(DEVICE.did, "REGISTER", 1, key=good)
    digest = digest_of_entry(register)
    yield told("one registration", "", signed_entry(register))
    yield told("nobody registered", "signatures")
    yield told("two authorities", "", signed_entry(register, AUTHORITIES))
    yield told("one authority twice", "", signed_entry(register, AUTHORITIES[:1] * 2))
    yield told("no authority", "registry chain", signed_entry(register, ["device"]))
    yield told(
        "one of two is no authority", "registry chain", signed_entry(register, [AUTHORITIES[0], "device"])
    )
    yield told("for another log", "registry chain", signed_entry(register, audience="other.example"))
    forged = decode_envelope(signed_entry(register))
    bad = replace(forged.signatures[0], signature=bytes(64))
    yield told("bad signature", "registry chain", SignedEnvelope(register, (bad,)).encode())
    both = SignedEnvelope(register, (*forged.signatures, replace(bad, key_id=AUTHORITIES[1]))).encode()
    yield told("a good and a bad signature", "registry chain", both)
    yield told("a second registration", "registry chain", signed_entry(register), signed_entry(register))
    for name, entry in {
        "version 2 first": registry_payload(DEVICE.did, "REGISTER", 2, key=good),
        "version 0": registry_payload(DEVICE.did, "REGISTER", 0, key=good),
        "a previous digest": registry_payload(DEVICE.did, "REGISTER", 1, digest, key=good),
        "rotation first": registry_payload(DEVICE.did, "ROTATE", 1, key=good),
        "no key": registry_payload(DEVICE.did, "REGISTER", 1),
        "another device's key": registry_payload(DEVICE.did, "REGISTER", 1, key=new_key("k1", "other")),
        "an authority's key": registry_payload(DEVICE.did, "REGISTER", 1, key=new_key("k1", AUTHORITIES[0])),
        "the log's key": registry_payload(DEVICE.did, "REGISTER", 1, key=new_key("k1", "log")),
        "key id with #": registry_payload(DEVICE.did, "REGISTER", 1, key=new_key("k#1", "device")),
        "empty key id": registry_payload(DEVICE.did, "REGISTER", 1, key=new_key("", "device")),
        "another subject": registry_payload(APPROVER.did, "REGISTER", 1, key=new_key("k1", "approver")),
    }.items():
        yield told(name, "registry chain", signed_entry(entry))
    yield told("key is not the subject", "registry chain", signed_entry(register), key=b"device")
    yield told("null key", "registry chain", signed_entry(register), key=None)
    yield told("empty value", "registry chain", b"")
    for name, spelled in spelled_otherwise(register):
        yield told(f"entry with {name}", "registry chain", signed_entry(spelled))
    for raw in SMALL_ORDER:
        key = {**good, "public_key": raw}
        entry = registry_payload(DEVICE.did, "REGISTER", 1, key=key)
        yield told(f"key {raw.hex()[:8]}", "registry chain", signed_entry(entry))
    for name, did, step in (
        ("did:web", "did:web:ward.example:device", ""),
        ("no DID", "device-1", "registry chain"),
        ("DID with #", "did:web:a#b", "registry chain"),
        ("DID with a new line", "did:web:a\nb", ""),
        ("DID of 512", "did:web:" + "\U0001f600" * 504, ""),
        ("DID of 513", "did:web:" + "\U0001f600" * 505, "registry chain"),
    ):
        chain = RegistryTopic()
        chain.write(did, "REGISTER", key=good)
        found = event(envelope_of(payload_of(did), DEVICE), b"1", key=did.encode())
        yield case(name, log_with(chain, found).evidence(anchored=False), step)
    strict = replace(TRUSTED, authority_threshold=2)
    for count, step in ((1, "registry chain"), (2, "")):
        chain = RegistryTopic(strict)
        chain.put(DEVICE.did.encode(), signed_entry(register, AUTHORITIES[:count]))
        yield case(f"{count} of 2 authorities", signed_at(chain, value), step, strict)
    twice = RegistryTopic(strict)
    twice.put(DEVICE.did.encode(), signed_entry(register, AUTHORITIES[:1] * 2))
    yield case("one of 2 authorities twice", signed_at(twice, value), "registry chain", strict)


def chains() -> Iterator[Case]:
    """Keys in the course of time, and what a chosen chain may leave out."""
    new = identity_of("device, later", "k2")
    old_event, new_event = event_of("device"), envelope_of(payload_of(DEVICE.did), new)
    histories: dict[str, Callable[[RegistryTopic], object]] = {
        "rotated": lambda c: c.write(DEVICE.did, "ROTATE", key=new_key("k2", "device, later")),
        "revoked": lambda c: c.write(DEVICE.did, "REVOKE", revoked="k1", compromised_since=NOW_MS * 1000),
        "decommissioned": lambda c: c.write(DEVICE.did, "DECOMMISSION"),
        "given an approval key": lambda c: c.write(
            DEVICE.did, "ROTATE", key=new_key("a1", "device, later", "APPROVAL")
        ),
        "rotated to an old id": lambda c: c.write(DEVICE.did, "ROTATE", key=new_key("k1", "device, later")),
        "rotated to its own key": lambda c: c.write(DEVICE.did, "ROTATE", key=new_key("k2", "device")),
        "revoked under a wrong id": lambda c: c.write(DEVICE.did, "REVOKE", revoked="k9"),
        "revoked without an id": lambda c: c.write(DEVICE.did, "REVOKE"),
    }
    for name, write in histories.items():
        chain = RegistryTopic()
        chain.enroll("device")
        chain.enroll("bystander")
        write(chain)
        broken = "registry chain" if chain.table.ignored else None
        lasting = name == "given an approval key"
        yield case(
            f"{name}: old key", signed_at(chain, old_event), broken or ("" if lasting else "signatures")
        )
        late = "signatures" if chain.table.ignored else ""
        yield case(f"{name} after the event: old key", signed_at(chain, old_event, 1), late)
        fresh = broken or ("" if name == "rotated" else "signatures")
        yield case(f"{name}: new key", signed_at(chain, new_event), fresh)
        chain.write(DEVICE.did, "REVOKE", revoked="k1", compromised_since=1)
        yield case(f"{name}, then revoked: old key", signed_at(chain, old_event, 1), None)
    approved = payload_of(DEVICE.did)
    approvals: dict[str, tuple[str, tuple[Signature, ...]]] = {
        "an approval": ("", (approval_of("approver", approved),)),
        "an approval of another payload": ("signatures", (approval_of("approver", approved[:-1]),)),
        "an approval by a device key": ("signatures", (approval_of("bystander", approved),)),
        "an approval by an unknown key": ("signatures", (approval_of("nobody", approved),)),
        "an approval with a short name": (
            "signatures",
            (replace(approval_of("approver", approved), key_id="k1"),),
        ),
        "an approval without a key id": (
            "signatures",
            (replace(approval_of("approver", approved), key_id=APPROVER.did + "#"),),
        ),
        "two approvals by one": ("", (approval_of("approver", approved),) * 2),
    }
    for name, (step, extra) in approvals.items():
        chain = RegistryTopic()
        for who, purpose in (("bystander", "EVENT"), ("approver", "APPROVAL"), ("device", "EVENT")):
            chain.enroll(who, purpose)
        found = signed_at(chain, envelope_of(approved, DEVICE, *extra))
        yield case(name, found, step)
        yield case(f"{name}, chain reversed", replace(found, registry=found.registry[::-1]), None)
        yield case(f"{name}, chain cut", replace(found, registry=found.registry[1:]), None)
        whole = signed_at(chain, envelope_of(approved, DEVICE, approval_of("approver", approved)))
        yield case(f"{name}, with a stranger's chain", replace(found, registry=whole.registry), None)
    log = SmallLog(SHARDS)
    good = log.evidence()
    other = SmallLog([*SHARDS, ("device.findings", 0, 2)]).evidence()
    yield case("chain under another checkpoint", replace(good, registry=other.registry), "registry chain")
    rejected = log.evidence("device.rejected", 0, 0)
    yield case("chain of no registry records", replace(good, registry=(rejected,)), "registry chain")  # type: ignore[arg-type]
    twice = replace(good, registry=good.registry * 2)
    yield case("an entry twice", twice, "registry chain")
    withheld = replace(
        good.registry[0], record=replace(good.registry[0].record, value=None, withheld=bytes(32))
    )
    yield case("an entry with a withheld value", replace(good, registry=(withheld,)), "registry chain")
    chain = RegistryTopic()
    chain.enroll("device")
    for name, headers, step in (
        ("none", (), "registry chain"),
        ("twice", (("registry.offset", b"1"),) * 2, "registry chain"),
        ("null", (("registry.offset", None),), "registry chain"),
        ("leading zero", (("registry.offset", b"01"),), "registry chain"),
        ("negative", (("registry.offset", b"-1"),), "registry chain"),
        ("not ASCII", (("registry.offset", "１".encode()),), "registry chain"),
        ("new line", (("registry.offset", b"1\n"),), "registry chain"),
        ("0", (("registry.offset", b"0"),), "signatures"),
        ("2^63", (("registry.offset", b"9223372036854775808"),), ""),
        ("20 digits", (("registry.offset", b"10000000000000000000"),), "registry chain"),
        ("another name", (("registry.offset ", b"1"),), "registry chain"),
    ):
        made = event(event_of("device"), None, headers=headers)
        yield case(f"registry.offset: {name}", log_with(chain, made).evidence(anchored=False), step)


def digest_of_entry(payload: bytes) -> bytes:
    chain = RegistryTopic()
    chain.put(DEVICE.did.encode(), signed_entry(payload))
    subject = chain.table.subject(DEVICE.did)
    assert subject is not None
    return subject.entry_digest
