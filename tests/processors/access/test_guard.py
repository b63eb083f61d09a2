"""The judge of the access topic: one decision a request, one end a permit, and a memory that is bounded."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.access.guard import ONCE_US, Guard
from processors.access.memory import (
    MAX_PERMITS,
    AccessMemories,
    AccessMemory,
    LivePermit,
    next_expiry_us,
)
from processors.authenticate import Authenticate
from processors.detect import AccessDetectors, DetectConfig
from processors.detect.errors import StateError
from processors.model import Outcome, RawRecord
from processors.state import DeviceState, decode_state
from schemas.codec import CODEC
from schemas.decisions import Decision, DecisionKind, DecisionReason, Effect
from schemas.envelope import PayloadKind
from schemas.partition import partition_of
from schemas.records import Severity
from tests.kit.parties import (
    LIMITS,
    LOG,
    NOW_MS,
    PARTITIONS,
    approval_of,
    envelope_of,
    identity_of,
    new_key,
    payload_of,
)
from tests.kit.ward import ACCESS_RAW, Ward

NURSE, PUMP = identity_of("nurse").did, identity_of("pump").did
PLACE = (ACCESS_RAW, partition_of(PUMP.encode(), PARTITIONS))
MEMORIES = AccessMemories(AccessDetectors(DetectConfig.default()))
Kind, Reason = DecisionKind, DecisionReason
MINUTE_MS = 60_000


class Scene:
    """A ward with one pump whose events a guard judges, and the states as the stage keeps them."""

    def __init__(self) -> None:
        self.ward = Ward()
        self.ward.person("nurse")
        self.ward.device("pump")
        self.fresh, self.freshened = True, 0
        self.guard = Guard(
            Authenticate(PayloadKind.ACCESS, LOG, PARTITIONS, LIMITS),
            AccessDetectors(DetectConfig.default()),
            lambda: self.ward.view(registry_fresh=self.fresh),
            lambda: False,
            self.freshen,
        )
        self.partition = PLACE
        self.kept: dict[str, DeviceState] = {}
        self.written: dict[str, bytes] = {}
        self.touched: set[str] = set()
        self.last_append_ms: dict[str, int] = {}
        self.next_expiry_us: dict[str, int] = {}
        self.sequence = 0

    def freshen(self) -> None:
        self.freshened += 1

    def state_of(self, device_id: str) -> DeviceState:
        return self.kept.setdefault(device_id, DeviceState(MEMORIES.new()))

    def detectors_of(self, device_id: str) -> Any:
        return self.state_of(device_id).detectors

    def touch(self, device_id: str, state: DeviceState) -> None:
        assert self.state_of(device_id) is state
        self.touched.add(device_id)

    def restart(self) -> None:
        """Keep what was touched, and nothing else."""
        for device in self.touched:
            state = self.kept[device]
            self.written[device] = state.encode(MEMORIES.dump(state.detectors))
        self.kept, self.touched, self.next_expiry_us = {}, set(), {}
        for device, value in self.written.items():
            state, memory = decode_state(value)
            state.detectors = MEMORIES.load(memory)
            self.kept[device] = state
            if ends_us := next_expiry_us(memory):
                self.next_expiry_us[device] = ends_us

    def ask(self, *approvers: str, at_ms: int = NOW_MS, **changes: Any) -> Outcome:
        self.sequence += 1
        asked = {
            "subject": NURSE,
            "session": "s1",
            "sequence": self.sequence,
            "time": at_ms * 1000,
            **changes,
        }
        payload = payload_of(PUMP, PayloadKind.ACCESS, **asked)
        signatures = [approval_of(name, payload, PayloadKind.ACCESS) for name in approvers]
        value = envelope_of(payload, identity_of("pump"), *signatures, kind=PayloadKind.ACCESS)
        record = RawRecord(*PLACE, self.sequence - 1, at_ms, PUMP.encode(), value)
        outcome = self.guard.process([record], self)
        assert not outcome.rejected, outcome.rejected
        return outcome

    def decide(self, *approvers: str, **changes: Any) -> Decision:
        outcome = self.ask(*approvers, **changes)
        assert [each.kind for each in outcome.decisions] == [Kind.REQUEST]
        return outcome.decisions[0]

    def sweep(self, since: int = 0, at_ms: int = NOW_MS + 1) -> list[Decision]:
        outcome = Outcome()
        self.guard.sweep(self, list(self.next_expiry_us), since, at_ms * 1000, outcome)
        return outcome.decisions

    def expire(self, at_ms: int) -> list[Decision]:
        outcome = Outcome()
        self.guard.expire(self, at_ms * 1000, outcome)
        return outcome.decisions

    @property
    def permits(self) -> list[LivePermit]:
        memory: AccessMemory = self.detectors_of(PUMP)
        return memory.permits


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_each_accepted_request_gets_one_decision_that_says_what_decided(scene: Scene) -> None:
    found = scene.decide()
    assert (found.effect, found.reason) == (Effect.PERMIT, Reason.POLICY)
    assert (found.request.topic, found.request.partition, found.request.offset) == (*PLACE, 0)
    assert found.registry_offset == scene.ward.registry.table.offset
    assert found.policy_offset == scene.ward.policies.table.offset
    assert found.policy_digest == scene.ward.policies.table.book.digest  # type: ignore[union-attr]
    assert found.expires_us == scene.next_expiry_us[PUMP]
    assert found.attributes["context.session.live"] == "false"
    assert scene.decide(action="unlock").attributes["context.session.live"] == "true"
    denied = scene.decide(action="update")
    assert (denied.effect, denied.reason, denied.expires_us) == (Effect.DENY, Reason.NO_PERMIT, None)
    assert len(scene.permits) == 2


def test_rejected_events_are_not_decided_on(scene: Scene) -> None:
    record = RawRecord(*PLACE, 0, NOW_MS, PUMP.encode(), b"garbage")
    outcome = scene.guard.process([record], scene)
    assert (len(outcome.rejected), outcome.decisions) == (1, [])


@pytest.mark.parametrize("outcome", ["FAILED", "DENIED"])
def test_what_failed_at_the_device_is_not_permitted(scene: Scene, outcome: str) -> None:
    assert scene.decide(outcome=outcome).reason is Reason.FAILED_AT_DEVICE
    assert scene.permits == []


def test_a_stale_view_is_read_up_once_for_a_batch_and_denies_if_it_stays_so(scene: Scene) -> None:
    scene.fresh = False
    assert scene.decide().reason is Reason.STALE_REGISTRY
    assert scene.freshened == 1


def test_approvals_are_further_signatures_on_the_request(scene: Scene) -> None:
    scene.ward.person("charge", roles="charge_nurse")
    scene.ward.person("pharma", roles="pharmacist")
    scene.decide()
    assert scene.decide("charge", action="override").reason is Reason.APPROVALS_MISSING
    found = scene.decide("charge", "pharma", action="override")
    assert found.effect is Effect.PERMIT
    assert found.approvals == tuple(sorted(identity_of(name).did for name in ("charge", "pharma")))
    # It rests on them: one of them leaves, and it ends.
    since = scene.ward.registry.table.offset
    scene.ward.revoke(identity_of("pharma").did)
    (ended,) = scene.sweep(since)
    assert (ended.action, ended.reason) == ("override", Reason.APPROVALS_MISSING)
    assert [each.action for each in scene.permits] == ["login"]


def test_a_session_at_a_device_is_one_persons(scene: Scene) -> None:
    other = scene.ward.person("other")
    scene.decide()
    assert scene.decide(subject=other).reason is Reason.SESSION_OF_ANOTHER
    assert scene.decide(subject=other, session="s2").effect is Effect.PERMIT
    assert scene.decide(session="s2").reason is Reason.SESSION_OF_ANOTHER


def test_permits_of_a_device_are_bounded_and_renewed_in_place(scene: Scene) -> None:
    for number in range(MAX_PERMITS):
        assert scene.decide(session=f"s{number}").effect is Effect.PERMIT
    assert scene.decide(session="more").reason is Reason.TOO_MANY_PERMITS
    renewed = scene.decide(session="s0", at_ms=NOW_MS + MINUTE_MS)
    assert renewed.effect is Effect.PERMIT
    assert len(scene.permits) == MAX_PERMITS
    assert scene.permits[-1].expires_us == renewed.expires_us


def test_without_a_session_a_permit_is_for_this_once(scene: Scene) -> None:
    found = scene.decide(session="")
    assert found.expires_us == NOW_MS * 1000 + ONCE_US
    assert scene.permits == []
    assert scene.next_expiry_us == {}


def test_a_denial_ends_nothing_that_is_live(scene: Scene) -> None:
    scene.decide()
    assert scene.decide(purpose="HMARKT").reason is Reason.FORBIDDEN
    assert len(scene.permits) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda ward: ward.revoke(NURSE), Reason.SUBJECT_ENDED),
        (lambda ward: ward.registry.write(NURSE, "DECOMMISSION"), Reason.SUBJECT_ENDED),
        (lambda ward: ward.revoke(PUMP), Reason.DEVICE_ENDED),
        (lambda ward: ward.registry.write(PUMP, "DECOMMISSION"), Reason.DEVICE_ENDED),
        (
            lambda ward: ward.registry.write(
                NURSE,
                "ROTATE",
                key=new_key("k2", "nurse-2", "APPROVAL"),
                attributes={"kind": "clinician", "wards": "ER", "shift": "19:00-07:00"},
            ),
            Reason.NO_PERMIT,
        ),
    ],
)
def test_a_change_of_key_person_or_device_ends_permits(
    scene: Scene, change: Any, reason: DecisionReason
) -> None:
    asked = scene.decide()
    since = scene.ward.registry.table.offset
    assert scene.sweep(since) == []
    change(scene.ward)
    (ended,) = scene.sweep(since)
    assert (ended.kind, ended.effect, ended.reason) == (Kind.REVOCATION, Effect.DENY, reason)
    assert ended.request == asked.request
    assert ended.id != asked.id
    assert (ended.session, ended.subject) == ("s1", NURSE)
    assert ended.registry_offset == since + 1
    assert scene.permits == []
    assert scene.next_expiry_us == {}
    assert scene.sweep() == []


def test_changes_of_others_are_not_judged_again(scene: Scene) -> None:
    scene.decide()
    since = scene.ward.registry.table.offset
    scene.ward.policies.withdraw()  # would end it, were it looked at
    scene.ward.person("other")
    assert scene.sweep(since) == []
    (ended,) = scene.sweep(0)
    assert ended.reason is Reason.NO_POLICY
    assert ended.policy_offset == 2


def test_a_change_of_policy_ends_permits_that_it_does_not_give(scene: Scene) -> None:
    scene.decide()
    scene.decide(action="unlock")
    scene.ward.policies.publish(
        policies='@id("unlock") permit (principal, action == Action::"unlock", resource);'
    )
    (ended,) = scene.sweep()
    assert (ended.action, ended.reason) == ("login", Reason.NO_PERMIT)


def test_a_permit_expires_by_time_and_before_what_is_asked_after(scene: Scene) -> None:
    first = scene.decide(purpose="BTG")  # half an hour
    scene.decide(action="unlock")
    at_ms = NOW_MS + 30 * MINUTE_MS
    assert scene.expire(at_ms - 1) == []
    (over,) = scene.expire(at_ms)
    assert (over.kind, over.effect, over.reason) == (Kind.EXPIRY, Effect.DENY, Reason.EXPIRED)
    assert over.request == first.request
    assert over.emergency
    assert len(scene.permits) == 1
    scene.decide(purpose="BTG")
    late = scene.ask(purpose="BTG", at_ms=at_ms + 1)
    assert [each.kind for each in late.decisions] == [Kind.EXPIRY, Kind.REQUEST]


def test_breaking_the_glass_raises_a_critical_finding(scene: Scene) -> None:
    outcome = scene.ask(purpose="BTG")
    (finding,) = outcome.findings
    assert (finding.rule, finding.severity, finding.subject) == ("break_glass", Severity.CRITICAL, NURSE)
    assert finding.evidence[0].offset == 0
    assert outcome.decisions[0].emergency
    (told,) = scene.ask(purpose="HMARKT").findings
    assert (told.rule, told.severity) == ("policy_alert", Severity.HIGH)


def test_a_restart_keeps_what_is_live(scene: Scene) -> None:
    scene.decide()
    scene.decide(action="unlock")
    before = list(scene.permits)
    scene.restart()
    assert scene.permits == before
    assert scene.next_expiry_us == {PUMP: min(each.expires_us for each in before)}
    scene.ward.revoke(NURSE)
    assert len(scene.sweep()) == 2
    scene.restart()
    assert scene.permits == []
    assert scene.next_expiry_us == {}


def test_memories_of_before_there_were_permits_are_read() -> None:
    detectors = AccessDetectors(DetectConfig.default())
    old = detectors.dump(detectors.new())
    memory = MEMORIES.load(old)
    assert memory.permits == []
    assert MEMORIES.dump(memory) == old
    assert next_expiry_us(old) == 0
    with pytest.raises(StateError):
        MEMORIES.load(CODEC.header("access_memory") + b"\xff")


TEXT = st.text(max_size=8)
PERMIT = st.builds(
    LivePermit,
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    st.lists(TEXT, max_size=3).map(tuple),
    st.integers(0, 2**62),
    st.binary(max_size=32),
    st.integers(1, 2**62),
)


@given(st.lists(PERMIT, max_size=MAX_PERMITS))
@settings(deadline=None, max_examples=50)
def test_a_memory_is_read_back_as_it_was_written(permits: list[LivePermit]) -> None:
    memory = MEMORIES.new()
    memory.permits = permits
    data = MEMORIES.dump(memory)
    assert MEMORIES.load(data).permits == permits
    assert next_expiry_us(data) == memory.next_expiry_us


ACTIONS = st.sampled_from(
    ["ask", "again", "revoke", "withdraw", "publish", "stale", "fresh", "sweep", "expire"]
)


@given(st.lists(ACTIONS, max_size=12))
@settings(deadline=None, max_examples=40)
def test_every_permit_ends_at_most_once_and_none_is_live_without_its_decision(steps: list[str]) -> None:
    scene, now_ms = Scene(), NOW_MS
    written: list[Decision] = []
    revoked = False
    for step in steps:
        now_ms += MINUTE_MS
        match step:
            case "ask" | "again":
                found = scene.ask(session=step, at_ms=now_ms).decisions
                assert not (found[-1].effect is Effect.PERMIT and (revoked or not scene.fresh))
                written += found
            case "revoke" if not revoked:
                scene.ward.revoke(NURSE)
                revoked = True
            case "withdraw" if scene.ward.policies.table.book is not None:
                scene.ward.policies.withdraw()
            case "publish":
                scene.ward.policies.publish()
            case "stale" | "fresh":
                scene.fresh = step == "fresh"
            case "sweep" if scene.fresh:
                written += scene.sweep(at_ms=now_ms)
            case "expire":
                written += scene.expire(now_ms)
    given_by = {each.request.offset for each in written if each.effect is Effect.PERMIT}
    ended = [each.request.offset for each in written if each.kind is not Kind.REQUEST]
    assert len(ended) == len(set(ended))
    assert set(ended) <= given_by
    assert {each.offset for each in scene.permits} <= given_by - set(ended)
    assert len({each.id for each in written}) == len(written)
