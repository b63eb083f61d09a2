"""Every path of a decision, and properties: no error, missing attribute or stale table ever permits."""

from types import SimpleNamespace
from typing import Any

import cedarpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processors.access.cedar import Document, PolicyBook, compile_book
from processors.access.decide import Verdict, View, decide
from processors.access.policies import PolicyTable
from schemas.decisions import DecisionReason
from schemas.records import Severity
from tests.kit.parties import TRUST, identity_of, new_key
from tests.kit.ward import ACTIONS, HOSPITAL, NOW_US, NURSE, OFF_SHIFT, PUMP, Ward

Reason = DecisionReason
HOUR_US = 3_600_000_000


@pytest.fixture
def ward() -> Ward:
    made = Ward()
    made.person("nurse")
    made.device("pump")
    return made


NURSE_DID, PUMP_DID = identity_of("nurse").did, identity_of("pump").did


def ask(ward: Ward, action: str = "login", now_us: int = NOW_US, **changes: Any) -> Verdict:
    return decide(ward.request(NURSE_DID, PUMP_DID, action, **changes), ward.view(), now_us)


def url(name: str, key_id: str = "k1") -> str:
    return f"{identity_of(name).did}#{key_id}"


def test_a_nurse_is_permitted_on_her_ward(ward: Ward) -> None:
    found = ask(ward)
    assert found.is_permit
    assert found.reason is Reason.POLICY
    assert found.policies == ("hospital/ward-care",)
    assert found.expires_us == NOW_US + 8 * HOUR_US
    assert found.alert is None
    assert found.attributes["resource.ward"] == "ICU-2"


@pytest.mark.parametrize(
    ("person", "device", "changes", "reason"),
    [
        ({"wards": "ER"}, {}, {}, Reason.NO_PERMIT),
        ({}, {"ward": "ER"}, {}, Reason.NO_PERMIT),
        ({}, {"ward": ""}, {}, Reason.NO_PERMIT),
        ({"shift": OFF_SHIFT}, {}, {}, Reason.NO_PERMIT),
        ({"shift": ""}, {}, {}, Reason.NO_PERMIT),
        ({"shift": "nights"}, {}, {}, Reason.BAD_ATTRIBUTE),
        ({"kind": "technician"}, {}, {}, Reason.NO_PERMIT),
        ({"kind": "visitor"}, {}, {}, Reason.UNKNOWN_KIND),
        ({"kind": ""}, {}, {}, Reason.UNKNOWN_KIND),
        ({}, {}, {"purpose": ""}, Reason.NO_PERMIT),
        ({}, {}, {"purpose": "HMARKT"}, Reason.FORBIDDEN),
        ({}, {}, {"purpose": "curiosity"}, Reason.INVALID_REQUEST),
        ({}, {}, {"action": "dance"}, Reason.INVALID_REQUEST),
        ({}, {}, {"action": "update"}, Reason.NO_PERMIT),
        ({}, {}, {"subject": "nurse-1"}, Reason.UNKNOWN_SUBJECT),
        ({}, {}, {"subject": PUMP_DID}, Reason.SUBJECT_ENDED),
        ({}, {}, {"device_key": "k9"}, Reason.DEVICE_ENDED),
        ({}, {}, {"device_id": "did:example:x"}, Reason.DEVICE_ENDED),
        ({}, {}, {"action": "override", "is_live": True}, Reason.APPROVALS_MISSING),
        ({}, {}, {"action": "override", "is_live": False}, Reason.NO_PERMIT),
    ],
)
def test_why_a_request_is_denied(
    person: dict[str, str], device: dict[str, str], changes: dict[str, Any], reason: Reason
) -> None:
    ward = Ward()
    ward.person("nurse", **person)
    ward.device("pump", **device)
    found = ask(ward, **{"action": "login", **changes})
    assert not found.is_permit
    assert found.reason is reason
    assert found.detail
    assert found.expires_us is None


def test_without_a_policy_nothing_is_permitted() -> None:
    ward = Ward(None)
    ward.person("nurse")
    ward.device("pump")
    assert ask(ward).reason is Reason.NO_POLICY
    ward.policies.publish()
    assert ask(ward).is_permit
    ward.policies.withdraw()
    assert ask(ward).reason is Reason.NO_POLICY


def test_who_lost_the_key_or_is_out_of_service_is_denied(ward: Ward) -> None:
    ward.revoke(NURSE_DID)
    assert ask(ward).reason is Reason.SUBJECT_ENDED
    ward.registry.write(NURSE_DID, "ROTATE", key=new_key("k2", "nurse-2", "APPROVAL"))
    assert ask(ward).is_permit
    ward.registry.write(NURSE_DID, "DECOMMISSION")
    assert ask(ward).reason is Reason.SUBJECT_ENDED


def test_a_device_whose_key_ended_is_denied(ward: Ward) -> None:
    ward.registry.write(PUMP_DID, "ROTATE", key=new_key("k2", "pump-2"))
    assert ask(ward).reason is Reason.DEVICE_ENDED
    assert ask(ward, device_key="k2").is_permit
    ward.registry.write(PUMP_DID, "DECOMMISSION")
    assert ask(ward, device_key="k2").reason is Reason.DEVICE_ENDED


def test_a_permit_ends_with_the_shift_that_gave_it() -> None:
    ward = Ward()
    ward.person("nurse", shift="19:00-23:00")
    ward.device("pump")
    found = ask(ward)
    # It is 22:13:20.
    assert found.expires_us == NOW_US + (46 * 60 + 40) * 1_000_000
    assert ask(ward, purpose="BTG").expires_us == NOW_US + HOUR_US // 2
    assert ask(ward, now_us=NOW_US + HOUR_US).reason is Reason.NO_PERMIT


def test_breaking_the_glass_is_allowed_and_loud(ward: Ward) -> None:
    ward.person("stranger", wards="ER", shift=OFF_SHIFT)
    request = ward.request(identity_of("stranger").did, PUMP_DID, purpose="BTG")
    found = decide(request, ward.view(), NOW_US)
    assert found.reason is Reason.BREAK_GLASS
    assert found.policies == ("hospital/break-glass",)
    assert found.alert is Severity.CRITICAL
    assert found.obligations == ("alert critical",)


def test_an_emergency_is_loud_also_where_the_policy_forgot_to_say_so() -> None:
    ward = Ward('@id("quiet") permit (principal, action, resource);')
    ward.person("nurse")
    ward.device("pump")
    assert ask(ward, purpose="BTG").alert is Severity.CRITICAL
    assert ask(ward).alert is None


def test_a_policy_may_ask_for_an_alert() -> None:
    ward = Ward(
        '@id("a") @alert("low") permit (principal, action, resource);'
        '@id("b") @alert("medium") permit (principal, action, resource);'
        '@id("c") @alert("high") forbid (principal, action == Action::"export", resource);'
    )
    ward.person("nurse")
    ward.device("pump")
    assert ask(ward).alert is Severity.MEDIUM
    denied = ask(ward, "export")
    assert (denied.reason, denied.alert) == (Reason.FORBIDDEN, Severity.HIGH)


# ---- approvals -------------------------------------------------------------------------------------------


def override(ward: Ward, *signers: str) -> Verdict:
    return ask(ward, "override", is_live=True, signers=signers)


def test_two_more_persons_of_the_named_roles_are_needed(ward: Ward) -> None:
    ward.person("charge", roles="nurse,charge_nurse")
    ward.person("pharma", roles="pharmacist", wards="ER")
    ward.person("other", roles="nurse")
    missing = override(ward, url("charge"))
    assert missing.reason is Reason.APPROVALS_MISSING
    assert missing.obligations == ("approvals 2 of charge_nurse,pharmacist,physician",)
    assert override(ward, url("charge"), url("other")).reason is Reason.APPROVALS_MISSING
    found = override(ward, url("other"), url("pharma"), url("charge"))
    assert found.is_permit
    assert found.approvals == tuple(sorted((identity_of("charge").did, identity_of("pharma").did)))
    assert found.expires_us == NOW_US + HOUR_US // 4


def test_one_person_counts_once_whatever_signs_for_him(ward: Ward) -> None:
    ward.person("charge", roles="charge_nurse,pharmacist,physician")
    assert override(ward, url("charge"), url("charge")).reason is Reason.APPROVALS_MISSING


def test_who_asks_never_approves_himself() -> None:
    ward = Ward()
    ward.person("nurse", roles="charge_nurse")
    ward.person("pharma", roles="pharmacist")
    ward.device("pump")
    assert override(ward, url("nurse"), url("pharma")).reason is Reason.APPROVALS_MISSING
    ward.person("charge", roles="charge_nurse")
    assert override(ward, url("nurse"), url("pharma"), url("charge")).is_permit


def test_only_valid_keys_of_persons_in_service_approve(ward: Ward) -> None:
    for name in ("charge", "pharma"):
        ward.person(name, roles="charge_nurse")
    pair = (url("charge"), url("pharma"))
    assert override(ward, *pair).is_permit
    assert not override(ward, url("charge"), url("pharma", "k9")).is_permit
    assert not override(ward, url("charge"), url("pump")).is_permit  # an event key, and of no person
    assert not override(ward, url("charge"), "did:example:none#k1").is_permit
    assert not override(ward, url("charge"), "nonsense").is_permit
    ward.revoke(identity_of("pharma").did)
    assert not override(ward, *pair).is_permit
    ward.person("third", roles="physician")
    assert override(ward, url("charge"), url("third")).is_permit
    ward.registry.write(identity_of("third").did, "DECOMMISSION")
    assert not override(ward, url("charge"), url("third")).is_permit


def test_of_several_permits_one_whose_conditions_are_met_is_enough() -> None:
    ward = Ward(
        '@id("a") @approvals("1 of x") @expires("8h") permit (principal, action, resource);'
        '@id("b") @expires("1h") permit (principal, action, resource);'
    )
    ward.person("nurse")
    ward.device("pump")
    found = ask(ward)
    assert (found.policies, found.obligations) == (("hospital/b",), ())
    assert found.expires_us == NOW_US + HOUR_US
    ward.person("x", roles="x")
    assert ask(ward, signers=(url("x"),)).policies == ("hospital/a", "hospital/b")


def test_policies_see_whether_who_asked_signed_himself() -> None:
    ward = Ward('@id("a") permit (principal, action, resource) when { context.subjectSigned };')
    ward.person("nurse")
    ward.device("pump")
    assert ask(ward).reason is Reason.NO_PERMIT
    assert ask(ward, signers=(url("nurse"),)).is_permit


def test_policies_see_tags() -> None:
    ward = Ward(
        '@id("a") permit (principal, action, resource)'
        ' when { resource.hasTag("site") && resource.getTag("site") == "north" };'
    )
    ward.person("nurse")
    ward.device("pump", site="north")
    assert ask(ward).is_permit


# ---- nothing fails open ----------------------------------------------------------------------------------

ALL = '@id("all") permit (principal, action, resource);'
FAILING = (
    "principal.nope == 1",
    'resource.kind == "pump"',
    "context.nothing",
    "9223372036854775807 + context.minute > 0",
    'resource.getTag("none") == "x"',
)


def with_book(ward: Ward, book: PolicyBook) -> View:
    table = PolicyTable(TRUST)
    table.book = book
    return View(ward.registry.table, table, registry_fresh=True, policies_fresh=True)


@given(st.lists(st.sampled_from(FAILING), min_size=1), st.sampled_from(("forbid", "permit")))
@settings(deadline=None, max_examples=40)
def test_a_policy_that_fails_denies_whatever_the_others_say(conditions: list[str], effect: str) -> None:
    """Cedar itself leaves it out and allows."""
    text = ALL + "".join(
        f'@id("f{i}") {effect} (principal, action, resource) when {{ {each} }};'
        for i, each in enumerate(conditions)
    )
    ward = Ward(None)
    ward.person("nurse")
    ward.device("pump", kind="")
    view = with_book(ward, compile_book([Document("d", text, ACTIONS, b"")], validate=False))
    found = decide(ward.request(NURSE_DID, PUMP_DID), view, NOW_US)
    assert found.reason is Reason.POLICY_ERROR


DECISIONS = st.sampled_from([*cedarpy.Decision, None, "Allow"])
IDS = st.lists(st.sampled_from(["d/all", "d/never", "d/gone", ""]), max_size=3)


class Broken(BaseException):
    """As the library raises a panic of its Rust code: no Exception."""


@given(DECISIONS, IDS, st.lists(st.text(max_size=5), max_size=2), st.booleans(), st.booleans())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_only_a_clean_allow_by_policies_in_force_permits(
    monkeypatch: pytest.MonkeyPatch,
    decision: object,
    reasons: list[str],
    errors: list[str],
    panics: bool,
    raises: bool,
) -> None:
    def answer(*_arguments: object) -> object:
        if panics:
            raise Broken
        if raises:
            raise ValueError("no")
        return SimpleNamespace(decision=decision, diagnostics=SimpleNamespace(errors=errors, reasons=reasons))

    text = ALL + '@id("never") forbid (principal, action, resource) when { context.emergency };'
    ward = Ward(None)
    ward.person("nurse")
    ward.device("pump")
    view = with_book(ward, compile_book([Document("d", text, ACTIONS, b"")]))
    monkeypatch.setattr(cedarpy, "is_authorized", answer)
    found = decide(ward.request(NURSE_DID, PUMP_DID), view, NOW_US)
    clean = decision is cedarpy.Decision.Allow and set(reasons) == {"d/all"} and not errors
    assert found.is_permit is (clean and not panics and not raises)


@given(st.booleans(), st.booleans(), st.sampled_from(["TREAT", "BTG", "HMARKT", ""]))
@settings(deadline=None, max_examples=20)
def test_a_stale_table_never_permits(registry_fresh: bool, policies_fresh: bool, purpose: str) -> None:
    ward = Ward()
    ward.person("nurse")
    ward.device("pump")
    view = ward.view(registry_fresh=registry_fresh, policies_fresh=policies_fresh)
    assert view.is_fresh is (registry_fresh and policies_fresh)
    found = decide(ward.request(NURSE_DID, PUMP_DID, purpose=purpose), view, NOW_US)
    if not registry_fresh:
        assert found.reason is Reason.STALE_REGISTRY
    elif not policies_fresh:
        assert found.reason is Reason.STALE_POLICY
    else:
        assert found.is_permit is (purpose in ("TREAT", "BTG"))


PEOPLE = [{**NURSE, **each} for each in ({}, {"kind": "technician"}, {"wards": "ER"}, {"shift": OFF_SHIFT})]


@given(
    st.sampled_from(PEOPLE),
    st.sets(st.sampled_from(sorted(NURSE))),
    st.sets(st.sampled_from(sorted(PUMP))),
    st.sampled_from(["login", "override", "update", "export", "dance"]),
    st.sampled_from(["TREAT", "HSYSADMIN", "HMARKT", "BTG", "x", ""]),
    st.booleans(),
    st.sets(st.sampled_from(["charge", "pharma"])),
)
@settings(deadline=None, max_examples=150)
def test_what_is_denied_is_not_permitted_for_want_of_an_attribute(
    person: dict[str, str],
    lost: set[str],
    lost_device: set[str],
    action: str,
    purpose: str,
    is_live: bool,
    approvers: set[str],
) -> None:
    """By the policies that ship: taking attributes away never turns a deny into a permit."""

    def verdict(person: dict[str, str], device: dict[str, str]) -> Verdict:
        ward = Ward()
        ward.person("charge", roles="charge_nurse")
        ward.person("pharma", roles="pharmacist")
        ward.person("nurse", **person)
        ward.device("pump", **device)
        signers = tuple(url(name) for name in sorted(approvers))
        return ask(ward, action, purpose=purpose, is_live=is_live, signers=signers)

    whole = verdict(person, {})
    less = verdict(
        {key: "" if key in lost else value for key, value in person.items()}, dict.fromkeys(lost_device, "")
    )
    assert whole.is_permit or not less.is_permit


def test_the_policies_that_ship_compile() -> None:
    book = compile_book([Document("hospital", HOSPITAL, ACTIONS, b"")])
    assert len(book.permits) == 5
