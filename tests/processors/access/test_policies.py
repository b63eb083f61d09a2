"""Policy documents as a table: what comes into force, what is ignored, and what stays."""

from dataclasses import replace

import pytest

from processors.access.cedar import Document, compile_book, digest_of
from processors.access.conditions import PolicyError
from processors.access.policies import PolicyTable
from schemas.envelope import PayloadKind, SignedEnvelope
from tests.kit.parties import AUTHORITIES, LOG, TRUST, identity_of, registry_payload, signed_entry
from tests.kit.ward import ACTIONS, HOSPITAL, PolicyTopic, policy_payload, signed_policy

PERMIT = '@id("{}") permit (principal, action == Action::"{}", resource);'
ONE_ACTION = 'action "{}" appliesTo {{ principal: [Clinician], resource: [Device], context: Access }};'


def document(policies: str, schema: str = ACTIONS) -> Document:
    return Document("d", policies, schema, b"")


def in_force(topic: PolicyTopic) -> set[str]:
    """Ids of the permits."""
    return set(topic.table.book.permits) if topic.table.book else set()


def refused(topic: PolicyTopic, says: str) -> None:
    """The last record must have been ignored, and must have moved the offset only."""
    assert topic.table.offset == len(topic.records)
    assert topic.table.ignored
    assert topic.table.ignored[-1].source.offset == topic.records[-1].offset, "the entry was taken"
    assert says in topic.table.ignored[-1].detail


def test_a_document_comes_into_force_is_replaced_and_withdrawn() -> None:
    topic = PolicyTopic()
    assert in_force(topic) == set()
    topic.publish()
    assert {"hospital/ward-care", "hospital/break-glass"} <= in_force(topic)
    first = topic.table.book
    topic.publish(policies=PERMIT.format("all", "login"))
    assert in_force(topic) == {"hospital/all"}
    assert topic.table.book != first
    topic.withdraw()
    assert in_force(topic) == set()
    assert topic.table.published("hospital").version == 3  # type: ignore[union-attr]
    topic.publish()
    assert topic.table.published("hospital").version == 4  # type: ignore[union-attr]
    assert topic.table.changed_at == 3


def test_documents_stand_side_by_side() -> None:
    topic = PolicyTopic()
    topic.publish("a", PERMIT.format("x", "one"), ONE_ACTION.format("one"))
    topic.publish("b", PERMIT.format("x", "two"), ONE_ACTION.format("two"))
    assert topic.table.book is not None
    assert topic.table.book.permits == {"a/x", "b/x"}
    documents = [each.document for each in topic.table.all_published() if each.document]
    assert topic.table.book.digest == digest_of(documents) == digest_of(documents[::-1])
    # Two documents cannot declare one action, nor can one speak of what no other declares any more.
    topic.put(
        b"c", signed_policy(policy_payload("c", 1, b"", PERMIT.format("x", "one"), ONE_ACTION.format("one")))
    )
    refused(topic, "c: schema:")
    topic.publish("c", PERMIT.format("y", "one"), "")
    last = topic.table.published("a")
    assert last is not None
    topic.put(b"a", signed_policy(policy_payload("a", 2, last.entry_digest, "", "", "WITHDRAW")))
    refused(topic, "c: ")
    assert topic.table.book.permits >= {"a/x", "b/x"}


def test_versions_follow_each_other() -> None:
    topic = PolicyTopic()
    topic.publish()
    digest = topic.table.published("hospital").entry_digest  # type: ignore[union-attr]
    for version, previous, says in (
        (1, b"", "expected 2"),
        (3, digest, "expected 2"),
        (2, b"", "not follow"),
    ):
        topic.put(b"hospital", signed_policy(policy_payload("hospital", version, previous, HOSPITAL)))
        refused(topic, says)
    topic.withdraw()
    # What was withdrawn does not come back by being said again.
    topic.put(b"hospital", topic.records[0].value)
    refused(topic, "version 1 of")
    assert topic.table.book is None


@pytest.mark.parametrize("name", ["", "Hospital", "a/b", "-a", "x" * 65, "did:key:z6Mk"])
def test_names_are_plain(name: str) -> None:
    topic = PolicyTopic()
    topic.put(name.encode(), signed_policy(policy_payload(name, 1, b"", HOSPITAL)))
    refused(topic, "is no name")


def test_only_what_is_in_force_is_withdrawn_and_without_a_text() -> None:
    topic = PolicyTopic()
    topic.put(b"a", signed_policy(policy_payload("a", 1, b"", "", "", "WITHDRAW")))
    refused(topic, "not in force")
    topic.publish("a")
    digest = topic.table.published("a").entry_digest  # type: ignore[union-attr]
    topic.put(b"a", signed_policy(policy_payload("a", 2, digest, HOSPITAL, "", "WITHDRAW")))
    refused(topic, "with policies")
    topic.withdraw("a")
    digest = topic.table.published("a").entry_digest  # type: ignore[union-attr]
    topic.put(b"a", signed_policy(policy_payload("a", 3, digest, "", "", "WITHDRAW")))
    refused(topic, "not in force")


def test_only_authorities_publish_and_only_policies() -> None:
    payload = policy_payload("hospital", 1, b"", HOSPITAL)
    stranger = replace(identity_of("stranger"), key_id="authority-1")
    other_kind = replace(identity_of("authority-1"), key_id="authority-1")
    for value, says in (
        (signed_policy(payload, ("stranger",)), "no authority"),
        (
            SignedEnvelope(payload, (stranger.sign(PayloadKind.POLICY_ENTRY, LOG, payload),)).encode(),
            "not verify",
        ),
        (
            SignedEnvelope(payload, (other_kind.sign(PayloadKind.ACCESS, LOG, payload),)).encode(),
            "not verify",
        ),
        (
            SignedEnvelope(payload, (other_kind.sign(PayloadKind.POLICY_ENTRY, "x", payload),)).encode(),
            "not verify",
        ),
        (signed_entry(registry_payload("hospital", "REGISTER", 1)), "expected a policy_entry"),
        (b"garbage", "marker"),
        (None, "marker"),
    ):
        topic = PolicyTopic()
        topic.put(b"hospital", value)
        refused(topic, says)
    topic = PolicyTopic()
    topic.put(b"other", signed_policy(payload))
    refused(topic, "not the subject")
    twice = PolicyTable(replace(TRUST, authority_threshold=2))
    twice.apply(topic.records[0])
    assert twice.book is None
    both = PolicyTopic(replace(TRUST, authority_threshold=2))
    both.put(b"hospital", signed_policy(payload, AUTHORITIES))
    assert both.table.book is not None


FORBID = '@id("a") forbid (principal, action, resource)'
ALL = "permit (principal, action, resource)"


@pytest.mark.parametrize(
    ("policies", "says"),
    [
        ("", "no policies"),
        ("permit (", "unexpected end of input"),
        (f"{ALL};", "@id"),
        (f'@id("a") {ALL}; {FORBID};', "two"),
        ('@id("a") permit (principal == ?principal, action, resource);', "templates"),
        (f'@id("a") @aproval("1 of x") {ALL};', "@aproval is not known"),
        (f'@expires("1h") {FORBID};', "a forbid has none"),
        (f'@id("a") @expires("1d") {ALL};', "d/a: @expires"),
        (PERMIT.format("a", "dance"), "dance"),
        (f'@id("a") {ALL} when {{ resource.kind == "pump" }};', "kind"),
        (f'{FORBID} when {{ context.purpose == Purpose::"TREAT" }};', "purpose"),
        (f'{FORBID} when {{ context has purpose && context.purpose == Purpose::"TRAET" }};', "TRAET"),
        ('@id("a") permit (principal is Docter, action, resource);', "Docter"),
    ],
)
def test_a_document_that_could_fail_when_it_is_asked_does_not_compile(policies: str, says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        compile_book([document(policies)])


def test_a_schema_that_is_none_or_says_something_twice_does_not_compile() -> None:
    for schema in (
        "entity",
        "entity Ward;",
        'action "a" appliesTo { principal: [Nobody], resource: [Device] };',
    ):
        with pytest.raises(PolicyError, match="d: schema:"):
            compile_book([document(HOSPITAL, schema)])
