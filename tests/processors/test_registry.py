"""The registry as a table: which entries count, whose keys are good at which offset, what garbage can do."""

from dataclasses import dataclass, field, replace

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import crypto_core_ed25519_add

from processors import chain, registry
from processors.chain import MAX_SHOWN_TEXT
from processors.model import RawRecord
from processors.registry import Registry
from schemas.codec import CODEC
from schemas.envelope import PayloadKind, SignedEnvelope
from schemas.trust import TrustRoot
from tests.kit.parties import (
    AUTHORITIES,
    LOG,
    NOW_MS,
    REGISTRY,
    TRUST,
    RegistryTopic,
    identity_of,
    key_of,
    new_key,
    registry_payload,
    signed_entry,
)

DEVICE = identity_of("d0").did
WEB = "did:web:pump.example"


def why(topic: RegistryTopic) -> str:
    """Why the last record was ignored; it must have been, and must have moved the offset only."""
    last = topic.records[-1]
    assert topic.table.offset == last.offset + 1
    assert topic.table.ignored, "the entry was taken"
    assert topic.table.ignored[-1].source.offset == last.offset, "the entry was taken"
    return topic.table.ignored[-1].detail


def valid_keys(table: Registry) -> set[tuple[str, str, str]]:
    """Every (subject, key id, purpose) that is good now."""
    return {
        (subject.did, key.key_id, key.purpose)
        for subject in table.subjects()
        if subject.decommissioned_at is None
        for key in subject.keys.values()
        if key.revoked_at is None
    }


# ---- versions --------------------------------------------------------------------------------------------


def test_a_subject_is_registered_once_and_versions_follow_each_other() -> None:
    topic = RegistryTopic()
    topic.enroll("d0")
    digest = topic.table.subject(DEVICE).entry_digest  # type: ignore[union-attr]
    for version, previous, expected in (
        (1, b"", "version 1 of"),
        (3, digest, "expected 2"),
        (0, digest, "expected 2"),
        (-1, digest, "expected 2"),
        (2**62, digest, "expected 2"),
        (2, b"", "does not follow"),
        (2, bytes(32), "does not follow"),
        (2, digest[:31], "does not follow"),
        (2, digest + b"\0", "does not follow"),
    ):
        payload = registry_payload(DEVICE, "ROTATE", version, previous, key=new_key("k2", "p0"))
        topic.put(DEVICE.encode(), signed_entry(payload))
        assert expected in why(topic)
    assert valid_keys(topic.table) == {(DEVICE, "k1", "EVENT")}
    topic.write(DEVICE, "ROTATE", key=new_key("k2", "p0"))
    assert valid_keys(topic.table) == {(DEVICE, "k2", "EVENT")}


def test_the_previous_digest_is_that_of_the_last_entry_that_counted() -> None:
    topic = RegistryTopic()
    value = topic.write(DEVICE, "REGISTER", key=new_key("k1", "d0"))
    payload = CODEC.decode("signed_envelope", value)["payload"]
    topic.put(DEVICE.encode(), signed_entry(registry_payload(DEVICE, "DECOMMISSION", 7)))
    assert topic.table.subject(DEVICE).entry_digest == blake3(payload).digest()  # type: ignore[union-attr]


@pytest.mark.parametrize("action", ["ROTATE", "REVOKE", "DECOMMISSION"])
def test_nothing_happens_to_a_subject_before_its_registration(action: str) -> None:
    topic = RegistryTopic()
    topic.write(DEVICE, action, key=new_key("k1", "d0"), revoked="k1")
    assert "unknown" in why(topic)
    assert topic.table.subjects() == []


def test_a_replayed_registration_does_not_bring_a_revoked_key_back() -> None:
    topic = RegistryTopic()
    registration = topic.write(DEVICE, "REGISTER", key=new_key("k1", "d0"))
    topic.write(DEVICE, "REVOKE", revoked="k1")
    topic.put(DEVICE.encode(), registration)
    assert "version 1 of" in why(topic)
    # Nor does a registration made anew, by an authority that does not know of the first.
    topic.put(DEVICE.encode(), signed_entry(registry_payload(DEVICE, "REGISTER", 3, key=new_key("k1", "d0"))))
    assert "does not follow" in why(topic)
    topic.write(DEVICE, "REGISTER", key=new_key("k9", "d0"))
    assert "is registered" in why(topic)
    assert valid_keys(topic.table) == set()


def test_of_two_authorities_that_race_the_first_in_the_topic_counts() -> None:
    topic = RegistryTopic()
    topic.enroll("d0")
    digest = topic.table.subject(DEVICE).entry_digest  # type: ignore[union-attr]
    mine = registry_payload(DEVICE, "ROTATE", 2, digest, key=new_key("k2", "p0"))
    theirs = registry_payload(DEVICE, "REVOKE", 2, digest, revoked="k1")
    topic.put(DEVICE.encode(), signed_entry(theirs, AUTHORITIES[1:]))
    topic.put(DEVICE.encode(), signed_entry(mine, AUTHORITIES[:1]))
    assert "expected 3" in why(topic)
    assert valid_keys(topic.table) == set()


def test_subjects_that_are_alike_share_their_attributes_and_part_when_one_changes() -> None:
    topic, ward = RegistryTopic(), {"kind": "monitor", "ward": "ICU-2"}
    first, second = (identity_of(name).did for name in ("d0", "d1"))
    topic.write(first, "REGISTER", key=new_key("k1", "d0"), attributes=ward)
    topic.write(second, "REGISTER", key=new_key("k1", "d1"), attributes=dict(ward))
    one, other = topic.table.subjects()
    assert one.attributes is other.attributes
    topic.write(first, "ROTATE", key=new_key("k2", "p0"), attributes={**ward, "ward": "ICU-3"})
    topic.write(second, "ROTATE", key=new_key("k2", "p1"))
    assert (one.attributes, other.attributes) == ({**ward, "ward": "ICU-3"}, ward)


def test_however_many_sets_of_attributes_come_few_are_held_on_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MOST_ALIKE", 2)
    topic = RegistryTopic()
    for number in range(6):
        name = f"d{number}"
        topic.write(
            identity_of(name).did, "REGISTER", key=new_key("k1", name), attributes={"bed": str(number)}
        )
    assert [each.attributes for each in topic.table.subjects()] == [{"bed": str(n)} for n in range(6)]
    assert len(topic.table._attributes) <= 2


# ---- who may sign ----------------------------------------------------------------------------------------


def register() -> bytes:
    return registry_payload(DEVICE, "REGISTER", 1, key=new_key("k1", "d0"))


def test_only_authorities_of_the_trust_root_count() -> None:
    topic = RegistryTopic()
    for signers, expected in (
        (("stranger",), "'stranger', which is no authority"),
        (("authority-1", "stranger"), "'stranger', which is no authority"),
    ):
        topic.put(DEVICE.encode(), signed_entry(register(), signers))
        assert expected in why(topic)
    genuine = signed_entry(register())
    signatures = CODEC.decode("signed_envelope", genuine)["signatures"]
    forged = replace(identity_of("stranger"), key_id="authority-1").sign(
        PayloadKind.REGISTRY_ENTRY, LOG, register()
    )
    topic.put(DEVICE.encode(), SignedEnvelope(register(), (forged,)).encode())
    assert "does not verify" in why(topic)
    assert len(signatures) == 1
    topic.put(DEVICE.encode(), genuine)
    assert len(topic.table) == 1


def test_every_signature_must_verify_also_beyond_the_threshold() -> None:
    topic = RegistryTopic()
    good = replace(identity_of("authority-1"), key_id="authority-1")
    bad = replace(identity_of("stranger"), key_id="authority-2")
    for pair in ((good, bad), (bad, good)):
        signatures = tuple(each.sign(PayloadKind.REGISTRY_ENTRY, LOG, register()) for each in pair)
        topic.put(DEVICE.encode(), SignedEnvelope(register(), signatures).encode())
        assert "'authority-2' does not verify" in why(topic)
    topic.put(DEVICE.encode(), signed_entry(register(), AUTHORITIES))
    assert len(topic.table) == 1


def test_a_threshold_counts_authorities_not_signatures_or_names() -> None:
    topic = RegistryTopic(replace(TRUST, authority_threshold=2))
    for signers in (AUTHORITIES[:1], (AUTHORITIES[0], AUTHORITIES[0])):
        topic.put(DEVICE.encode(), signed_entry(register(), signers))
        assert why(topic) == "1 authorities signed, 2 must"
    topic.put(DEVICE.encode(), signed_entry(register(), AUTHORITIES))
    assert len(topic.table) == 1

    key = key_of("authority-1")
    one_key = RegistryTopic(TrustRoot(LOG, key_of("log"), {"authority-1": key, "alias": key}, 2))
    signatures = tuple(
        replace(identity_of("authority-1"), key_id=name).sign(PayloadKind.REGISTRY_ENTRY, LOG, register())
        for name in ("authority-1", "alias")
    )
    one_key.put(DEVICE.encode(), SignedEnvelope(register(), signatures).encode())
    assert why(one_key) == "1 authorities signed, 2 must"


@pytest.mark.parametrize(
    ("kind", "audience"),
    [(PayloadKind.REGISTRY_ENTRY, "other.example"), (PayloadKind.TELEMETRY, LOG), (PayloadKind.ACCESS, LOG)],
)
def test_an_authoritys_signature_for_another_log_or_kind_is_none(kind: PayloadKind, audience: str) -> None:
    topic = RegistryTopic()
    signature = replace(identity_of("authority-1"), key_id="authority-1").sign(kind, audience, register())
    topic.put(DEVICE.encode(), SignedEnvelope(register(), (signature,)).encode())
    assert "does not verify" in why(topic)


def test_a_kafka_key_other_than_the_subject_is_refused() -> None:
    topic = RegistryTopic()
    for key in (None, b"", b"did:key:other", DEVICE.encode() + b"\0"):
        topic.put(key, signed_entry(register()))
        assert why(topic) == "the Kafka key is not the subject"


# ---- keys ------------------------------------------------------------------------------------------------

SMALL_ORDER_Y = (
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
)
NON_CANONICAL = (
    "0100000000000000000000000000000000000000000000000000000000000080",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
)
BAD_KEYS = {
    **{f"small order {y[:8]}{y[-2:]}": bytes.fromhex(y) for y in SMALL_ORDER_Y},
    **{f"not canonical {y[:8]}{y[-2:]}": bytes.fromhex(y) for y in NON_CANONICAL},
    "torsion component": crypto_core_ed25519_add(key_of("p0"), bytes.fromhex(SMALL_ORDER_Y[6])),
    "not on the curve": b"\x02" + bytes(31),
    "empty": b"",
    "31 bytes": key_of("p0")[:31],
    "33 bytes": key_of("p0") + b"\0",
}


@pytest.mark.parametrize("raw", BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_a_key_that_must_not_be_trusted_is_refused_at_registration_and_rotation(raw: bytes) -> None:
    topic = RegistryTopic()
    bad = {**new_key("k1", "d0"), "public_key": raw}
    topic.write(WEB, "REGISTER", key=bad)
    assert "Ed25519 public key" in why(topic)
    topic.enroll("d0")
    topic.write(DEVICE, "ROTATE", key={**bad, "key_id": "k2"})
    assert "Ed25519 public key" in why(topic)
    assert valid_keys(topic.table) == {(DEVICE, "k1", "EVENT")}


def test_one_key_has_one_owner_and_one_purpose() -> None:
    topic = RegistryTopic()
    topic.enroll("d0")
    topic.enroll("d1")
    other = identity_of("d1").did
    topic.write(other, "ROTATE", key=new_key("k2", "p0"))
    topic.write(DEVICE, "REVOKE", revoked="k1")
    for did, action, key in (
        (other, "ROTATE", new_key("k3", "d0")),  # another device's, though revoked
        (other, "ROTATE", new_key("k3", "d1")),  # its own old one
        (other, "ROTATE", new_key("k3", "p0", "APPROVAL")),  # its own present one, for another purpose
        (DEVICE, "ROTATE", new_key("k3", "d0")),  # its own revoked one
        (DEVICE, "ROTATE", new_key("k3", "authority-1")),
        (DEVICE, "ROTATE", new_key("k3", "authority-2", "APPROVAL")),
        (DEVICE, "ROTATE", new_key("k3", "log")),
        (WEB, "REGISTER", new_key("k1", "d0")),
        (WEB, "REGISTER", new_key("k1", "authority-1")),
        (WEB, "REGISTER", new_key("k1", "log")),
        (identity_of("log").did, "REGISTER", new_key("k1", "log")),
        (identity_of("authority-1").did, "REGISTER", new_key("k1", "authority-1")),
    ):
        topic.write(did, action, key=key)
        assert "already belongs to" in why(topic)
    assert valid_keys(topic.table) == {(other, "k2", "EVENT")}


@pytest.mark.parametrize("key_id", ["", "#", "k#1", "k1", "k2"])
def test_a_key_id_is_a_name_of_its_own(key_id: str) -> None:
    topic = RegistryTopic()
    topic.enroll("d0")
    topic.write(DEVICE, "ROTATE", key=new_key("k2", "p0"))
    topic.write(DEVICE, "ROTATE", key=new_key(key_id, "p1"))
    assert "is empty, has a '#', or was used before" in why(topic)


@pytest.mark.parametrize("action", ["REGISTER", "ROTATE"])
def test_an_entry_that_must_bring_a_key_does(action: str) -> None:
    topic = RegistryTopic()
    if action == "ROTATE":
        topic.enroll("d0")
    topic.write(DEVICE, action)
    assert "without a key" in why(topic)


def test_a_did_key_is_registered_with_the_key_that_it_names_and_may_rotate_to_another() -> None:
    topic = RegistryTopic()
    topic.write(DEVICE, "REGISTER", key=new_key("k1", "p0"))
    assert "is not the one that its DID names" in why(topic)
    for did in ("did:key:", "did:key:zabc", "did:key:z6Mk" + "1" * 44, DEVICE[:-1] + "0", DEVICE + "1"):
        topic.write(did, "REGISTER", key=new_key("k1", "d0"))
        assert why(topic)
    topic.enroll("d0")
    topic.write(DEVICE, "ROTATE", key=new_key("k2", "p0"))
    topic.write(WEB, "REGISTER", key=new_key("k1", "p1"))
    assert valid_keys(topic.table) == {(DEVICE, "k2", "EVENT"), (WEB, "k1", "EVENT")}


@pytest.mark.parametrize("subject", ["", "pump", "DID:web:x", "did:web:x#k1", "did:web:" + "x" * 600])
def test_a_subject_is_a_did_that_an_event_can_name(subject: str) -> None:
    topic = RegistryTopic()
    topic.write(subject, "REGISTER", key=new_key("k1", "p0"))
    assert "is not a DID" in why(topic)


# ---- the life of a subject -------------------------------------------------------------------------------


def test_rotation_ends_the_old_key_of_the_same_purpose_only() -> None:
    topic = RegistryTopic()
    topic.enroll("d0")
    topic.write(DEVICE, "ROTATE", key=new_key("a1", "p0", "APPROVAL"))
    assert valid_keys(topic.table) == {(DEVICE, "k1", "EVENT"), (DEVICE, "a1", "APPROVAL")}
    topic.write(DEVICE, "ROTATE", key=new_key("k2", "p1"))
    assert valid_keys(topic.table) == {(DEVICE, "k2", "EVENT"), (DEVICE, "a1", "APPROVAL")}
    assert topic.table.subject(DEVICE).keys["k1"].revoked_at == 2  # type: ignore[union-attr]


def test_revocation_names_a_key_that_is_there_and_ends_it_where_it_first_ended() -> None:
    topic = RegistryTopic()
    topic.enroll("d0")
    for revoked in (None, "", "k2", f"{DEVICE}#k1"):
        topic.write(DEVICE, "REVOKE", revoked=revoked)
        assert "never had" in why(topic)
    topic.write(DEVICE, "REVOKE", revoked="k1")
    ended_at = topic.table.offset - 1
    topic.write(DEVICE, "REVOKE", revoked="k1")
    assert topic.table.subject(DEVICE).keys["k1"].revoked_at == ended_at  # type: ignore[union-attr]


def test_doubt_about_a_key_may_grow_and_is_never_lifted() -> None:
    topic = RegistryTopic()
    topic.enroll("d0")
    key = topic.table.subject(DEVICE).keys["k1"]  # type: ignore[union-attr]
    for mark, expected in ((None, None), (500, 500), (None, 500), (900, 500), (100, 100)):
        topic.write(DEVICE, "REVOKE", revoked="k1", compromised_since=mark)
        assert key.compromised_since_us == expected


def test_a_decommissioned_subject_stays_so() -> None:
    topic = RegistryTopic()
    topic.enroll("d0")
    topic.write(DEVICE, "DECOMMISSION")
    assert not topic.table.subject(DEVICE).may_sign_events  # type: ignore[union-attr]
    for action in ("ROTATE", "REVOKE", "DECOMMISSION"):
        topic.write(DEVICE, action, key=new_key("k2", "p0"), revoked="k1")
        assert "was decommissioned" in why(topic)
    topic.write(DEVICE, "REGISTER", key=new_key("k2", "p0"))
    assert "is registered" in why(topic)
    assert valid_keys(topic.table) == set()


def test_a_refused_entry_leaves_no_trace_in_the_table() -> None:
    topic = RegistryTopic()
    topic.enroll("d0")
    before = repr(topic.table.subjects())
    topic.write(DEVICE, "ROTATE", key=new_key("k1", "p0"))
    topic.write(DEVICE, "ROTATE", key=new_key("k2", "authority-1"))
    topic.write(DEVICE, "REVOKE", revoked="k2")
    topic.write(WEB, "REGISTER", key=new_key("k#", "p0"))
    assert repr(topic.table.subjects()) == before
    topic.write(WEB, "REGISTER", key=new_key("k1", "p0"))  # the key was not taken by the refused entries
    assert (WEB, "k1", "EVENT") in valid_keys(topic.table)


# ---- garbage ---------------------------------------------------------------------------------------------


@given(st.none() | st.binary(max_size=60), st.none() | st.binary(max_size=200))
def test_noise_moves_only_the_offset(key: bytes | None, value: bytes | None) -> None:
    topic = RegistryTopic()
    topic.enroll("d0")
    topic.put(key, value)
    assert why(topic)
    assert valid_keys(topic.table) == {(DEVICE, "k1", "EVENT")}


@given(st.data())
@settings(max_examples=200)
def test_a_changed_byte_of_a_genuine_entry_moves_only_the_offset(data: st.DataObject) -> None:
    topic = RegistryTopic()
    value = bytearray(signed_entry(register()))
    at = data.draw(st.integers(0, len(value) - 1))
    value[at] ^= data.draw(st.integers(1, 255))
    topic.put(DEVICE.encode(), bytes(value))
    envelope = CODEC.decode("signed_envelope", signed_entry(register()))
    try:
        same = CODEC.decode("signed_envelope", bytes(value)) == envelope
    except ValueError:
        same = False
    if not same:  # two encodings of one envelope are one envelope
        assert why(topic)
        assert topic.table.subjects() == []


def test_ignored_entries_are_bounded_in_number_and_hold_no_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "MAX_IGNORED", 10)
    topic = RegistryTopic()
    for number in range(25):
        record = RawRecord(REGISTRY, 0, number, NOW_MS, bytes(1000), bytes(1_000_000), (("h", bytes(1000)),))
        topic.table.apply(record)
    long = "did:web:" + "x" * 20_000
    topic.table.apply(
        RawRecord(REGISTRY, 0, 25, NOW_MS, long.encode(), signed_entry(registry_payload(long, "REVOKE", 1)))
    )
    ignored = topic.table.ignored
    assert [each.source.offset for each in ignored] == list(range(16, 26))
    assert topic.table.forgotten_before == 16
    assert topic.table.offset == 26
    for each in ignored:
        assert (each.source.key, each.source.value, each.source.headers) == (None, None, ())
        assert max(len(each.detail), len(each.subject)) <= MAX_SHOWN_TEXT


def test_what_follows_a_flood_is_still_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "MAX_IGNORED", 5)
    topic = RegistryTopic()
    registration = topic.write(DEVICE, "REGISTER", key=new_key("k1", "d0"))
    topic.write(DEVICE, "REVOKE", revoked="k1")
    for _ in range(20):
        topic.put(None, b"noise")
    topic.put(DEVICE.encode(), registration)
    assert "version 1 of" in why(topic)
    assert topic.table.ignored[-1].subject == DEVICE


# ---- a key is good at an offset --------------------------------------------------------------------------


@dataclass
class Plan:
    """One step of a history, as drawn; what it comes to depends on the steps before it."""

    subject: str
    action: str
    key_id: str
    key: str
    purpose: str
    version_off: int
    right_previous: bool
    signer: str
    kafka_key: bool
    replay: int | None


PLANS = st.builds(
    Plan,
    subject=st.sampled_from(["d0", "d1", "w0"]),
    action=st.sampled_from(["REGISTER", "ROTATE", "ROTATE", "REVOKE", "REVOKE", "DECOMMISSION"]),
    key_id=st.sampled_from(["k1", "k1", "k2", "k3", "k4", "k#"]),
    key=st.sampled_from(["d0", "d1", "p0", "p1", "p2", "p3", "log", "authority-1"]),
    purpose=st.sampled_from(["EVENT", "EVENT", "APPROVAL"]),
    version_off=st.sampled_from([0] * 9 + [-1, 1]),
    right_previous=st.sampled_from([True] * 9 + [False]),
    signer=st.sampled_from(["authority-1"] * 5 + ["authority-2", "stranger"]),
    kafka_key=st.sampled_from([True] * 9 + [False]),
    replay=st.sampled_from([None] * 6 + [0, 1, 2, 5]),
)


@dataclass
class Known:
    version: int = 0
    digest: bytes = b""
    decommissioned: bool = False
    keys: dict[str, tuple[str, bool]] = field(default_factory=dict)  # key id -> (purpose, good)


class Reference:
    """The rules again, as plainly as they can be said, on drawn steps instead of bytes."""

    def __init__(self) -> None:
        self.known: dict[str, Known] = {}
        self.taken_keys = {"log", "authority-1", "authority-2"}

    def step(self, plan: Plan, version: int, previous: bytes, digest: bytes) -> None:
        did = did_of(plan.subject)
        known = self.known.get(did, Known())
        if not plan.kafka_key or plan.signer == "stranger":
            return
        if version != known.version + 1 or previous != known.digest or known.decommissioned:
            return
        if (plan.action == "REGISTER") != (known.version == 0):
            return
        if plan.action in ("REGISTER", "ROTATE"):
            named = plan.subject in ("w0", plan.key) or plan.action == "ROTATE"
            if plan.key in self.taken_keys or plan.key_id in known.keys or "#" in plan.key_id or not named:
                return
            for key_id, (purpose, _) in known.keys.items():
                if purpose == plan.purpose:
                    known.keys[key_id] = (purpose, False)
            known.keys[plan.key_id] = (plan.purpose, True)
            self.taken_keys.add(plan.key)
        elif plan.action == "REVOKE":
            if plan.key_id not in known.keys:
                return
            known.keys[plan.key_id] = (known.keys[plan.key_id][0], False)
        else:
            known.decommissioned = True
        known.version, known.digest = version, digest
        self.known[did] = known

    def valid(self) -> set[tuple[str, str, str]]:
        return {
            (did, key_id, purpose)
            for did, known in self.known.items()
            if not known.decommissioned
            for key_id, (purpose, good) in known.keys.items()
            if good
        }


def did_of(subject: str) -> str:
    return WEB if subject == "w0" else identity_of(subject).did


def play(plans: list[Plan]) -> tuple[RegistryTopic, list[set[tuple[str, str, str]]]]:
    """Write a history; return the topic, and what the reference holds for good after each entry."""
    topic, reference = RegistryTopic(), Reference()
    written: list[tuple[Plan, int, bytes, bytes]] = []
    expected = [reference.valid()]
    for plan in plans:
        if plan.replay is not None and plan.replay < len(written):
            step = written[plan.replay]
        else:
            known = reference.known.get(did_of(plan.subject), Known())
            version = known.version + 1 + plan.version_off
            previous = known.digest if plan.right_previous else bytes(32)
            brings_key = plan.action in ("REGISTER", "ROTATE")
            payload = registry_payload(
                did_of(plan.subject),
                plan.action,
                version,
                previous,
                key=new_key(plan.key_id, plan.key, plan.purpose) if brings_key else None,
                revoked=plan.key_id if plan.action == "REVOKE" else None,
            )
            step = (plan, version, previous, payload)
        written.append(step)
        original, version, previous, payload = step
        key = did_of(original.subject).encode() if original.kafka_key else b"somebody"
        topic.put(key, signed_entry(payload, (original.signer,)))
        reference.step(original, version, previous, blake3(payload).digest())
        expected.append(reference.valid())
    return topic, expected


@given(st.lists(PLANS, min_size=4, max_size=14))
@settings(max_examples=120)
def test_a_key_is_good_at_an_offset_iff_the_entries_below_it_say_so(plans: list[Plan]) -> None:
    topic, expected = play(plans)
    for offset in range(len(topic.records) + 1):
        table = topic.upto(offset)
        assert table.offset == offset
        assert valid_keys(table) == expected[offset], offset
        # The same can be read off the final table: it remembers where each key began and ended.
        history = {
            (subject.did, key.key_id, key.purpose)
            for subject in topic.table.subjects()
            for key in subject.keys.values()
            if key.registered_at < offset
            and not (key.revoked_at is not None and key.revoked_at < offset)
            and not (subject.decommissioned_at is not None and subject.decommissioned_at < offset)
        }
        assert history == expected[offset], offset


@given(st.lists(PLANS, min_size=4, max_size=10), st.data())
@settings(max_examples=60)
def test_garbage_between_entries_changes_no_key(plans: list[Plan], data: st.DataObject) -> None:
    topic, expected = play(plans)
    noisy = RegistryTopic()
    for record in topic.records:
        for noise in data.draw(st.lists(st.binary(max_size=40), max_size=2)):
            noisy.put(record.key, noise)
        noisy.put(record.key, record.value)
    assert valid_keys(noisy.table) == expected[-1]
    assert noisy.table.offset == len(noisy.records)


def test_the_histories_above_do_register_rotate_and_revoke() -> None:
    """A property over histories in which nothing ever happens would prove nothing."""
    base = Plan(
        "d0",
        "REGISTER",
        "k1",
        "d0",
        "EVENT",
        0,
        right_previous=True,
        signer="authority-1",
        kafka_key=True,
        replay=None,
    )
    _, expected = play(
        [
            base,
            replace(base, action="ROTATE", key_id="k2", key="p0"),
            replace(base, action="REVOKE", key_id="k2"),
            replace(base, subject="w0", key="p1"),
            replace(base, replay=0),
        ]
    )
    assert [len(each) for each in expected] == [0, 1, 1, 0, 1, 1]
