"""The access scene on a broker: the real gateway asks the real ingest, and another policy is noticed."""

import random
from contextlib import closing

from pipeline import topics
from pipeline.demo.access import AccessOutcome, AccessScene
from pipeline.demo.enrolment import Enrolled, enroll
from pipeline.demo.observed import Observed
from pipeline.policies import SHIPPED, PolicyAuthority, shipped
from schemas.decisions import DecisionReason, Effect, decode_decision
from tests.kit.deployment import Deployment, wait_for


def played(deployment: Deployment, enrolled: Enrolled) -> AccessOutcome:
    scene = AccessScene(deployment.settings, enrolled.cast)
    with deployment.ingesting():
        scene.start(0.0)
        wait_for(scene.finished, "the scene is over", 120)
    return scene.outcome(Observed())


def test_every_answer_is_the_policies_and_the_stolen_card_is_denied(deployment: Deployment) -> None:
    enrolled = enroll(deployment.settings, 3, 4.0, 1, random.Random(1))
    outcome = played(deployment, enrolled)
    assert outcome.problems() == ["access: no alert told of the broken glass"]  # nobody correlates here
    assert len(outcome.played) == 9
    assert outcome.revocation_ms is not None
    nora = enrolled.cast.persons["Nora"].did
    decisions = [decode_decision(r.value or b"") for r in deployment.read(topics.DECISIONS)]
    last = [d for d in decisions if d.subject == nora][-1]
    assert (last.effect, last.reason) == (Effect.DENY, DecisionReason.SUBJECT_ENDED)


def test_policies_that_ask_for_less_are_noticed(deployment: Deployment) -> None:
    enrolled = enroll(deployment.settings, 3, 4.0, 2, random.Random(2))
    lax = shipped(".cedar").replace('"2 of charge_nurse', '"1 of charge_nurse')
    with closing(PolicyAuthority(deployment.settings)) as policies:
        policies.publish(SHIPPED, lax, shipped(".cedarschema"))
    told = played(deployment, enrolled).problems()
    assert told[0] == (
        "access: Nora overrides a limit, one approval missing: "
        "expected denied: approvals_missing, seen permitted: policy"
    )
    assert len(told) == 2


def test_whoever_is_enrolled_is_on_shift_whatever_the_time(deployment: Deployment) -> None:
    enrolled = enroll(deployment.settings, 3, 4.0, 3, random.Random(3))
    registry = deployment.authority.refresh()
    persons = [registry.subject(each.did) for each in enrolled.cast.persons.values()]
    assert {p.attributes["shift"] for p in persons if p is not None} == {"00:00-00:00"}
    assert all(p is not None and p.may_approve for p in persons)
    stolen = registry.subject(enrolled.scene.stolen.device_id)
    assert stolen is not None
    assert not stolen.may_sign_events
