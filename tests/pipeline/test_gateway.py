"""A gateway asks and waits: what it takes for a permit, and that everything else is a denial."""

import asyncio
from dataclasses import replace

import pytest

from pipeline.gateway import Answer, Board, Gateway
from pipeline.policies import PolicyAuthority
from schemas.decisions import Decision, DecisionKind, DecisionReason, Effect
from schemas.errors import FormatError
from schemas.records import EvidenceRef
from tests.kit.deployment import Deployment
from tests.kit.ward import ACTIONS, HOSPITAL
from tests.pipeline.test_access import PUMP, asked, person, with_approvals
from tests.schemas.test_decisions import DECISION

HOUR_US = 3_600_000_000
PERMIT = replace(DECISION, expires_us=DECISION.time_us + HOUR_US)
END = replace(PERMIT, kind=DecisionKind.REVOCATION, effect=Effect.DENY, reason=DecisionReason.SUBJECT_ENDED)
DIGEST = PERMIT.request.digest or b""


def at(decision: Decision, offset: int, digest: bytes) -> Decision:
    return replace(decision, request=EvidenceRef("device.access.raw", 3, offset, digest))


def test_a_decision_goes_to_whoever_asked_for_it() -> None:
    async def body() -> None:
        board = Board(asyncio.get_running_loop())
        mine, theirs = board.ask(DIGEST), board.ask(b"other")
        assert board.ask(DIGEST) is None
        board.take(END)  # ends what is not there
        board.take(PERMIT)
        board.take(PERMIT)
        assert mine is not None
        assert await mine == PERMIT
        assert theirs is not None
        assert not theirs.done()
        ended = board.ended(PERMIT)
        assert not ended.done()
        board.take(at(END, 99, b""))
        assert not ended.done()
        board.take(END)
        assert await ended == END
        assert await board.ended(PERMIT) is None

    asyncio.run(body())


def test_out_of_sight_nothing_is_permitted() -> None:
    async def body() -> None:
        board = Board(asyncio.get_running_loop())
        live, waiting = board.ask(DIGEST), board.ask(b"other")
        board.take(PERMIT)
        ended = board.ended(PERMIT)
        board.lose_sight()
        assert live is not None
        assert waiting is not None
        assert await waiting is None
        assert await ended is None

    asyncio.run(body())


def test_a_permit_ends_by_its_own_time_though_nobody_says_so() -> None:
    async def body() -> None:
        board = Board(asyncio.get_running_loop())
        board.ask(DIGEST)
        board.take(replace(PERMIT, expires_us=PERMIT.time_us))
        assert await board.ended(PERMIT) is None

    asyncio.run(body())


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.gateway.MAX_WAITING", 2)

    async def body() -> None:
        board = Board(asyncio.get_running_loop())
        assert board.ask(DIGEST) is not None
        board.take(PERMIT)  # lives, and counts
        assert board.ask(b"1") is not None
        assert board.ask(b"2") is None
        board.forget(b"1")
        assert board.ask(b"2") is not None

    asyncio.run(body())


def test_a_gateway_asks_awaits_and_hears_of_the_end(deployment: Deployment) -> None:
    policies = PolicyAuthority(deployment.settings)
    policies.publish("hospital", HOSPITAL, ACTIONS)
    policies.close()
    nurse, pump = person(deployment), deployment.enroll(**PUMP)
    charge, pharma = (person(deployment, roles=role) for role in ("charge_nurse", "physician"))

    async def body() -> tuple[list[Answer], Decision | None]:
        async with Gateway(deployment.settings, timeout_s=30.0) as gateway:
            with pytest.raises(FormatError):
                await gateway.ask(b"no envelope")
            login = await gateway.ask(asked(pump, nurse))
            several = await asyncio.gather(
                gateway.ask(asked(pump, nurse, "unlock")),
                gateway.ask(asked(pump, nurse, "update")),
                gateway.ask(
                    with_approvals(
                        asked(pump, nurse, "override"), deployment.settings.log_name, charge, pharma
                    )
                ),
            )
            assert await gateway.ended(several[1]) is None  # was never permitted
            ended = asyncio.ensure_future(gateway.ended(login))
            await asyncio.to_thread(deployment.authority.refresh)
            await asyncio.to_thread(deployment.authority.revoke, nurse.did, "k1")
            return [login, *several], await asyncio.wait_for(ended, 30)

    with deployment.ingesting():
        answers, ended = asyncio.run(body())
    assert [each.permitted for each in answers] == [True, True, False, True]
    assert answers[2].why == "no policy permits it"
    assert ended is not None
    assert (ended.kind, ended.reason) == (DecisionKind.REVOCATION, DecisionReason.SUBJECT_ENDED)


def test_no_decision_in_time_is_a_denial(deployment: Deployment) -> None:
    nurse, pump = person(deployment), deployment.enroll(**PUMP)

    async def body() -> Answer:
        async with Gateway(deployment.settings, timeout_s=0.2) as gateway:
            return await gateway.ask(asked(pump, nurse))

    assert asyncio.run(body()) == Answer(permitted=False, why="no decision within 0.2 s")
