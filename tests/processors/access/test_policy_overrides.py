"""The document of overrides among the policies: never Cedar, the same rules, and what it leaves alone."""

import pytest

from processors.access.policies import OVERRIDES
from processors.detect import DetectConfig, Overrides
from schemas.mdc import BY_NAME
from tests.kit.ward import ACTIONS, HOSPITAL, PolicyTopic, policy_payload, signed_policy

HR = BY_NAME["hr"].code
NURSERY = f"[ward.nursery.signal.{HR}]\nlow = 40.0\nhigh = 320.0\n"


def config_of(topic: PolicyTopic, ward: str) -> DetectConfig:
    assert topic.table.overrides is not None
    return topic.table.overrides.config_of("did:key:a", ward)


def high(topic: PolicyTopic, ward: str) -> float:
    """The upper bound of heart rates in a ward."""
    return config_of(topic, ward).signals[HR].high


def refused(topic: PolicyTopic, says: str) -> None:
    assert topic.table.ignored
    assert topic.table.ignored[-1].source.offset == topic.records[-1].offset, "the entry was taken"
    assert says in topic.table.ignored[-1].detail


def test_it_comes_into_force_is_replaced_and_withdrawn() -> None:
    topic = PolicyTopic()
    assert topic.table.overrides is None
    topic.publish(OVERRIDES, NURSERY, "")
    assert (high(topic, "nursery"), high(topic, "ICU-2")) == (320.0, 300.0)
    first = config_of(topic, "nursery")
    topic.publish(OVERRIDES, NURSERY + "[ward.icu.replay]\nwindow_h = 30", "")
    assert config_of(topic, "nursery") is first
    topic.withdraw(OVERRIDES)
    assert topic.table.overrides is None
    topic.publish(OVERRIDES, NURSERY.replace("320", "310"), "")
    assert high(topic, "nursery") == 310.0
    assert topic.table.published(OVERRIDES).version == 4  # type: ignore[union-attr]


def test_it_is_over_the_very_defaults_that_others_hold() -> None:
    topic = PolicyTopic()
    topic.publish(OVERRIDES, NURSERY, "")
    assert config_of(topic, "") is DetectConfig.default()


def test_permits_and_the_book_do_not_move_with_it() -> None:
    topic = PolicyTopic()
    topic.publish()
    book, changed_at = topic.table.book, topic.table.changed_at
    topic.publish(OVERRIDES, NURSERY, "")
    topic.withdraw(OVERRIDES)
    assert (topic.table.book, topic.table.changed_at, topic.table.offset) == (book, changed_at, 3)
    topic.publish(OVERRIDES, NURSERY, "")
    topic.withdraw()
    assert topic.table.book is None
    assert high(topic, "nursery") == 320.0


@pytest.mark.parametrize(
    ("text", "schema", "says"),
    [
        (HOSPITAL, "", "detectors.toml: the configuration is not TOML"),
        (NURSERY, ACTIONS, "detectors.toml: it has no Cedar schema"),
        ("", "", "detectors.toml: nothing is set"),
        ("[ward.a.signal.1]\nlow = 2\nhigh = 1", "", "ward.a: [signal.1] low 2.0 must be below high 1.0"),
        ("x = " + "[\n" * 10_000, "", "detectors.toml: the configuration is not TOML"),
        ("# " + "y" * 600, "", "detectors.toml: line 1 has 602 characters"),
        ("#\n" * 25_000, "", "detectors.toml: 50000 bytes, allowed are 49152"),
    ],
)
def test_a_document_at_fault_is_ignored_and_what_was_in_force_stays(
    text: str, schema: str, says: str
) -> None:
    topic = PolicyTopic()
    topic.publish(OVERRIDES, NURSERY, "")
    before: Overrides | None = topic.table.overrides
    digest = topic.table.published(OVERRIDES).entry_digest  # type: ignore[union-attr]
    payload = policy_payload(OVERRIDES, 2, digest, text, schema)
    topic.put(OVERRIDES.encode(), signed_policy(payload))
    refused(topic, says)
    assert topic.table.overrides is before
    # Its version was not used up.
    topic.publish(OVERRIDES, NURSERY.replace("320", "310"), "")
    assert high(topic, "nursery") == 310.0


def test_toml_under_another_name_is_never_read_as_overrides() -> None:
    topic = PolicyTopic()
    for name, says in (
        ("detectors", "detectors: "),
        ("other.toml", "is no name"),
        ("x/detectors.toml", "is no"),
    ):
        topic.put(name.encode(), signed_policy(policy_payload(name, 1, b"", NURSERY, "")))
        refused(topic, says)
    assert topic.table.overrides is None


def test_only_authorities_set_limits_and_in_order() -> None:
    topic = PolicyTopic()
    payload = policy_payload(OVERRIDES, 1, b"", NURSERY, "")
    topic.put(OVERRIDES.encode(), signed_policy(payload, ("stranger",)))
    refused(topic, "no authority")
    topic.put(b"detectors", signed_policy(payload))
    refused(topic, "not the subject")
    topic.publish(OVERRIDES, NURSERY, "")
    topic.withdraw(OVERRIDES)
    topic.put(OVERRIDES.encode(), signed_policy(payload))
    refused(topic, "version 1 of detectors.toml, expected 3")
    assert topic.table.overrides is None


def test_the_same_topic_comes_to_the_same_digests() -> None:
    topic, again = PolicyTopic(), PolicyTopic()
    topic.publish(OVERRIDES, NURSERY, "")
    topic.publish(OVERRIDES, NURSERY + '[device."did:key:a".replay]\nwindow_h = 30', "")
    for record in topic.records:
        again.table.apply(record)
    for ward in ("nursery", "", "ICU-2"):
        assert config_of(topic, ward).digest == config_of(again, ward).digest
