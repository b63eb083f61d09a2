"""Access on a broker: asked at a device, decided in ingest, revoked while it lives, once each."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pipeline import topics
from pipeline.authority import NewKey
from pipeline.entries import EntryWriteError
from pipeline.identity import create_identity
from pipeline.policies import PolicyAuthority
from schemas.decisions import Decision, DecisionKind, DecisionReason, Effect, decode_decision
from schemas.envelope import PayloadKind, SignedEnvelope, decode_envelope
from schemas.signing import SigningIdentity
from tests.kit.deployment import Deployment, Device, wait_for
from tests.kit.ward import ACTIONS, HOSPITAL

ALWAYS = {"kind": "clinician", "wards": "ICU-2", "shift": "00:00-00:00"}
PUMP = {"kind": "infusion-pump", "ward": "ICU-2"}


@pytest.fixture(scope="module")
def policies(deployment: Deployment) -> Iterator[PolicyAuthority]:
    made = PolicyAuthority(deployment.settings)
    made.publish("hospital", HOSPITAL, ACTIONS)
    yield made
    made.close()


def person(deployment: Deployment, **attributes: str) -> SigningIdentity:
    identity = create_identity("k1")
    deployment.authority.refresh()
    key = NewKey("k1", identity.public_key, "APPROVAL")
    deployment.authority.enroll(identity.did, key, {**ALWAYS, **attributes})
    return identity


def asked(device: Device, who: SigningIdentity, action: str = "login", **changes: object) -> bytes:
    return device.access(subject=who.did, action=action, **{"session": "s1", **changes})


def with_approvals(value: bytes, audience: str, *persons: SigningIdentity) -> bytes:
    envelope = decode_envelope(value)
    further = tuple(
        replace(each, key_id=f"{each.did}#{each.key_id}").sign(PayloadKind.ACCESS, audience, envelope.payload)
        for each in persons
    )
    return SignedEnvelope(envelope.payload, envelope.signatures + further).encode()


def decisions(deployment: Deployment, device: Device) -> list[Decision]:
    found = [decode_decision(record.value or b"") for record in deployment.read(topics.DECISIONS)]
    return [each for each in found if each.device_id == device.did]


def decided(deployment: Deployment, device: Device, number: int) -> list[Decision]:
    """Wait until so many decisions on a device stand in the topic."""

    def enough() -> list[Decision] | None:
        found = decisions(deployment, device)
        return found if len(found) >= number else None

    return wait_for(enough, f"{number} decisions")


def test_a_request_is_decided_and_a_revocation_ends_it(
    deployment: Deployment, policies: PolicyAuthority
) -> None:
    nurse, pump = person(deployment), deployment.enroll(**PUMP)
    with deployment.ingesting():
        source = deployment.send(pump, asked(pump, nurse), topics.ACCESS_RAW)
        (permit,) = decided(deployment, pump, 1)
        assert (permit.effect, permit.reason) == (Effect.PERMIT, DecisionReason.POLICY)
        assert f"{permit.request.topic}/{permit.request.partition}/{permit.request.offset}" == source
        assert permit.policy_offset == policies.table.offset
        deployment.authority.refresh()
        deployment.authority.revoke(nurse.did, "k1")
        revoked = decided(deployment, pump, 2)[1]
        assert (revoked.kind, revoked.reason) == (DecisionKind.REVOCATION, DecisionReason.SUBJECT_ENDED)
        assert revoked.request == permit.request
        deployment.send(pump, asked(pump, nurse), topics.ACCESS_RAW)
        assert decided(deployment, pump, 3)[2].reason is DecisionReason.SUBJECT_ENDED
    headers = [
        dict(record.headers)
        for record in deployment.read(topics.DECISIONS)
        if decode_decision(record.value or b"").device_id == pump.did
    ]
    assert headers[0] == {
        "registry.offset": b"%d" % permit.registry_offset,
        "policy.offset": b"%d" % permit.policy_offset,
        "source": source.encode(),
    }


def test_two_persons_approve_by_further_signatures(deployment: Deployment, policies: PolicyAuthority) -> None:
    nurse, pump = person(deployment), deployment.enroll(**PUMP)
    charge, pharma = (person(deployment, roles=role) for role in ("charge_nurse", "pharmacist"))
    audience = deployment.settings.log_name
    with deployment.ingesting():
        for value in (
            asked(pump, nurse),
            with_approvals(asked(pump, nurse, "override"), audience, charge),
            with_approvals(asked(pump, nurse, "override"), audience, charge, pharma),
        ):
            deployment.send(pump, value, topics.ACCESS_RAW)
        found = decided(deployment, pump, 3)
    assert [each.reason for each in found] == [
        DecisionReason.POLICY,
        DecisionReason.APPROVALS_MISSING,
        DecisionReason.POLICY,
    ]
    assert set(found[2].approvals) == {charge.did, pharma.did}


def test_what_changes_while_no_worker_runs_ends_permits_when_one_returns(
    deployment: Deployment, policies: PolicyAuthority
) -> None:
    nurse, pump = person(deployment), deployment.enroll(**PUMP)
    with deployment.ingesting():
        deployment.send(pump, asked(pump, nurse), topics.ACCESS_RAW)
        decided(deployment, pump, 1)
    policies.publish(
        "hospital", '@id("unlock") permit (principal, action == Action::"unlock", resource);', ACTIONS
    )
    try:
        with deployment.ingesting():
            ended = decided(deployment, pump, 2)[1]
        assert (ended.kind, ended.reason) == (DecisionKind.REVOCATION, DecisionReason.NO_PERMIT)
        with deployment.ingesting():
            deployment.send(pump, asked(pump, nurse), topics.ACCESS_RAW)
            assert len(decided(deployment, pump, 3)) == 3  # the permit ended once
    finally:
        policies.publish("hospital", HOSPITAL, ACTIONS)


def test_a_document_that_does_not_compile_is_not_taken(policies: PolicyAuthority) -> None:
    before = policies.table.book
    with pytest.raises(EntryWriteError, match=r"not taken: broken: .*unexpected end of input"):
        policies.publish("broken", "permit (", "")
    assert policies.table.book == before
    with pytest.raises(EntryWriteError, match="not in force"):
        policies.withdraw("never-published")
