"""Attacks on the registry, by name: what somebody who can write to its topic can try, and a rogue authority.

The topic's order is the only truth: whoever writes there can add, not change. What is ignored is reported.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import registry_report
from pipeline.devices import PartitionStates
from pipeline.registry_report import MAX_AT_ONCE, REPORTER
from pipeline.statestore import StateStore
from processors import chain
from processors.judge import NoDetectors
from processors.model import VerifiedEvent
from schemas.envelope import PayloadKind, SignedEnvelope
from schemas.records import Finding
from tests.kit.parties import (
    AUTHORITIES,
    LOG,
    TRUST,
    RegistryTopic,
    event_of,
    identity_of,
    key_of,
    new_key,
    registry_payload,
    sent,
    signed_entry,
    telemetry_judge,
)

VICTIM, MALLORY = identity_of("victim"), identity_of("mallory")


def is_let_in(topic: RegistryTopic, name: str) -> bool:
    (verdict,) = telemetry_judge().process([sent(name, event_of(name))], topic.table)
    return isinstance(verdict, VerifiedEvent)


class Reporter:
    """The worker that reports ignored entries, with its state on disk."""

    def __init__(self, path: Path, topic: RegistryTopic) -> None:
        self.path, self.topic = path, topic
        self.store = StateStore(path)
        self.states = PartitionStates(REPORTER, self.store, NoDetectors())

    def tick(self, *, commits: bool = True) -> list[Finding]:
        found = registry_report.findings(self.topic.table, self.states)
        if commits:
            self.store.write([(REPORTER, key, value) for key, value in self.states.changes()], {})
        return found

    def restart(self, topic: RegistryTopic | None = None) -> None:
        self.store.close()
        self.__init__(self.path, topic or self.topic)  # type: ignore[misc]


@pytest.fixture
def topic() -> RegistryTopic:
    made = RegistryTopic()
    made.enroll("victim")
    return made


@pytest.fixture
def reporter(tmp_path: Path, topic: RegistryTopic) -> Iterator[Reporter]:
    made = Reporter(tmp_path / "rocksdb", topic)
    yield made
    made.store.close()


# ---- outsiders -------------------------------------------------------------------------------------------


def test_replayed_registration_after_revocation(topic: RegistryTopic, reporter: Reporter) -> None:
    registration = topic.records[0].value
    topic.write(VICTIM.did, "REVOKE", revoked="k1")
    topic.put(VICTIM.did.encode(), registration)
    assert not is_let_in(topic, "victim")
    (finding,) = reporter.tick()
    assert (finding.rule, finding.device_id) == ("registry_rejected", VICTIM.did)
    assert [(each.topic, each.offset) for each in finding.evidence] == [("identity.registry", 2)]


def test_entry_signed_by_nobody_of_trust(topic: RegistryTopic) -> None:
    payload = registry_payload(MALLORY.did, "REGISTER", 1, key=new_key("k1", "mallory"))
    for signers in (("mallory",), (MALLORY.did,), ("",), ("authority-1 ",), ("Authority-1",)):
        topic.put(MALLORY.did.encode(), signed_entry(payload, signers))
    for name in AUTHORITIES:
        forged = replace(MALLORY, key_id=name).sign(PayloadKind.REGISTRY_ENTRY, LOG, payload)
        topic.put(MALLORY.did.encode(), SignedEnvelope(payload, (forged,)).encode())
    assert not is_let_in(topic, "mallory")
    assert len(topic.table.ignored) == 7


def test_entry_of_another_deployment(topic: RegistryTopic) -> None:
    """The same authority serves two wards; a device of one is not a device of the other."""
    payload = registry_payload(MALLORY.did, "REGISTER", 1, key=new_key("k1", "mallory"))
    topic.put(MALLORY.did.encode(), signed_entry(payload, audience="other-ward.example"))
    assert not is_let_in(topic, "mallory")


def test_device_event_as_an_entry_and_entry_in_a_device_signature(topic: RegistryTopic) -> None:
    topic.put(VICTIM.did.encode(), event_of("victim"))
    payload = registry_payload(MALLORY.did, "REGISTER", 1, key=new_key("k1", "mallory"))
    as_event = replace(identity_of("authority-1"), key_id="authority-1").sign(
        PayloadKind.TELEMETRY, LOG, payload
    )
    topic.put(MALLORY.did.encode(), SignedEnvelope(payload, (as_event,)).encode())
    assert len(topic.table.ignored) == 2
    assert not is_let_in(topic, "mallory")


def test_genuine_entry_under_another_kafka_key(topic: RegistryTopic) -> None:
    payload = registry_payload(MALLORY.did, "REGISTER", 1, key=new_key("k1", "mallory"))
    topic.put(VICTIM.did.encode(), signed_entry(payload))
    assert not is_let_in(topic, "mallory")


def test_flood_of_garbage_neither_fills_memory_nor_hides_an_attack(
    topic: RegistryTopic, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "MAX_IGNORED", 100)
    registration = topic.records[0].value
    topic.write(VICTIM.did, "REVOKE", revoked="k1")
    for _ in range(1000):
        topic.put(b"x" * 1000, b"noise" * 10_000)
    topic.put(VICTIM.did.encode(), registration)
    assert len(topic.table.ignored) == 100
    assert (
        sum(len(each.source.value or b"") + len(each.source.key or b"") for each in topic.table.ignored) == 0
    )
    found = reporter.tick()
    assert VICTIM.did in {each.device_id for each in found}
    assert "offsets 0 and 902 were ignored, more than can be reported" in found[0].explanation
    assert [each.offset for each in found[0].evidence] == [902]
    assert len(found) == 101
    assert reporter.tick() == []
    reporter.restart()
    assert reporter.tick() == []


@given(
    st.lists(
        st.sampled_from(["bad", "bad", "good", "tick", "tick", "abort", "restart", "reread"]), max_size=40
    )
)
@settings(max_examples=40)
def test_each_ignored_entry_is_reported_once_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    topic = RegistryTopic()
    reporter = Reporter(tmp_path_factory.mktemp("reporter") / "rocksdb", topic)
    expected, reported, number = [], [], 0
    try:
        for step in [*steps, "tick"]:
            if step == "bad":
                expected.append(topic.put(b"key", b"noise").offset)
            elif step == "good":
                topic.enroll(f"device {number}")
                number += 1
            elif step == "tick":
                reported += [each.evidence[0].offset for each in reporter.tick()]
            elif step == "abort":  # the transaction failed: nothing was reported
                reporter.tick(commits=False)
                reporter.restart()
            elif step == "restart":
                reporter.restart()
            else:  # another worker takes over and reads the registry from its start
                again = RegistryTopic()
                for record in topic.records:
                    again.put(record.key, record.value)
                topic = again
                reporter.restart(topic)
        assert reported == expected
    finally:
        reporter.store.close()


def test_many_ignored_entries_are_reported_in_portions(topic: RegistryTopic, reporter: Reporter) -> None:
    for _ in range(MAX_AT_ONCE + 7):
        topic.put(None, None)
    assert [len(reporter.tick()) for _ in range(3)] == [MAX_AT_ONCE, 7, 0]


# ---- authorities -----------------------------------------------------------------------------------------


def test_two_authorities_race(topic: RegistryTopic) -> None:
    """One revokes, the other rotates on the same basis: whichever comes second must look again."""
    subject = topic.table.subject(VICTIM.did)
    assert subject is not None
    basis = subject.entry_digest
    revoke = signed_entry(registry_payload(VICTIM.did, "REVOKE", 2, basis, revoked="k1"), AUTHORITIES[1:])
    rotate = signed_entry(
        registry_payload(VICTIM.did, "ROTATE", 2, basis, key=new_key("k2", "p0")), AUTHORITIES[:1]
    )
    topic.put(VICTIM.did.encode(), revoke)
    topic.put(VICTIM.did.encode(), rotate)
    assert not is_let_in(topic, "victim")
    assert len(topic.table.ignored) == 1


def test_one_rogue_authority_where_two_must_sign() -> None:
    topic = RegistryTopic(replace(TRUST, authority_threshold=2))
    topic.write(VICTIM.did, "REGISTER", key=new_key("k1", "victim"), signers=AUTHORITIES)
    assert is_let_in(topic, "victim")
    topic.write(VICTIM.did, "DECOMMISSION", signers=AUTHORITIES[:1])
    topic.write(VICTIM.did, "DECOMMISSION", signers=(AUTHORITIES[0],) * 3)
    topic.write(MALLORY.did, "REGISTER", key=new_key("k1", "mallory"), signers=AUTHORITIES[:1])
    assert is_let_in(topic, "victim")
    assert not is_let_in(topic, "mallory")


def test_victims_key_registered_under_another_name(topic: RegistryTopic) -> None:
    """Else a captured event of the victim could be passed off as another device's key holder's."""
    for purpose in ("EVENT", "APPROVAL"):
        topic.write(MALLORY.did, "REGISTER", key=new_key("k1", "victim", purpose))
        topic.write("did:web:mallory.example", "REGISTER", key=new_key("k1", "victim", purpose))
    assert len(topic.table) == 1


def test_log_or_authority_key_as_a_device_key(topic: RegistryTopic) -> None:
    for name in ("log", *AUTHORITIES):
        topic.write(identity_of(name).did, "REGISTER", key=new_key("k1", name))
        topic.write("did:web:mallory.example", "REGISTER", key=new_key("k1", name))
        topic.write(VICTIM.did, "ROTATE", key=new_key("k2", name))
    assert len(topic.table.ignored) == 9
    assert is_let_in(topic, "victim")


def test_someone_elses_did_with_my_key(topic: RegistryTopic) -> None:
    topic.write(identity_of("newcomer").did, "REGISTER", key=new_key("k1", "mallory"))
    assert len(topic.table) == 1


def test_a_key_under_which_one_signature_fits_every_message(topic: RegistryTopic) -> None:
    weak = {**new_key("k1", "mallory"), "public_key": b"\x01" + bytes(31)}
    topic.write("did:web:mallory.example", "REGISTER", key=weak)
    topic.write(VICTIM.did, "ROTATE", key={**weak, "key_id": "k2"})
    assert len(topic.table) == 1
    assert is_let_in(topic, "victim")


def test_a_revoked_key_is_not_brought_back_by_any_entry(topic: RegistryTopic) -> None:
    topic.write(VICTIM.did, "REVOKE", revoked="k1", compromised_since=1)
    topic.write(VICTIM.did, "ROTATE", key=new_key("k2", "victim"))
    topic.write(VICTIM.did, "ROTATE", key=new_key("k1", "p0"))
    topic.write(VICTIM.did, "REGISTER", key=new_key("k1", "victim"))
    topic.write(VICTIM.did, "REVOKE", revoked="k1")
    assert not is_let_in(topic, "victim")
    subject = topic.table.subject(VICTIM.did)
    assert subject is not None
    assert subject.keys["k1"].compromised_since_us == 1
    assert subject.keys["k1"].public_key == key_of("victim")
