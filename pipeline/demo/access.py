"""The access scene: what a ward's gateway is answered, by the real ingest, while the monitors stream.

A nurse at work, two persons' approval, a broken glass, a stolen card. Each step is a signed event of a pump
that a `Gateway` publishes; what is permitted or denied, and why, must be as the policies have it.
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from confluent_kafka import KafkaException

from loadtests.fleet import KEY_ID, Monitor
from pipeline.authority import Authority
from pipeline.demo.enrolment import Cast
from pipeline.demo.observed import Observed
from pipeline.demo.questions import AFTERWARDS, BROKEN_GLASS, LOGIN, STEPS, Step
from pipeline.gateway import Answer, Gateway
from pipeline.settings import PipelineError, Settings
from schemas.decisions import DecisionReason, Effect
from schemas.envelope import PayloadKind, SignedEnvelope, decode_envelope

ANSWER_S = 10.0
AGAIN_S = 0.5
DEADLINE_S = 180.0
"""Of the whole scene: beyond it what is missing is a problem."""
CANNOT_READ = frozenset({DecisionReason.STALE_REGISTRY, DecisionReason.STALE_POLICY})
"""No answer to the question: a table could not be read just then, so it is asked once more."""
BREAK_GLASS = "break_glass"
STOLEN = "the stolen card is revoked: the live permit ends"


@dataclass(frozen=True, slots=True)
class Played:
    """A step as it went."""

    title: str
    expected: str
    seen: str
    latency_ms: float

    @property
    def as_expected(self) -> bool:
        """Whether the answer was the policies'."""
        return self.seen == self.expected


@dataclass(frozen=True, slots=True)
class AccessOutcome:
    """What the scene showed, and all decisions on requests that the topic holds."""

    played: Sequence[Played]
    permitted: int
    denied: int
    revocation_ms: float | None
    """From before the revocation was signed until a gateway saw that it holds; None: it did not."""
    alerted_ms: float | None
    """From the permit that broke the glass until its alert could be read; None: there was none."""
    failure: str = ""
    """Why the scene ended before its end."""

    def problems(self) -> list[str]:
        """Say what did not go as it must, one sentence each."""
        told = [
            f"access: {step.title}: expected {step.expected}, seen {step.seen}"
            for step in self.played
            if not step.as_expected
        ]
        if self.alerted_ms is None:
            told.append("access: no alert told of the broken glass")
        if self.failure:
            told.append(f"access: the scene ended early: {self.failure}")
        elif self.revocation_ms is None:
            told.append("access: the revoked key was not denied")
        return told

    def to_json(self) -> dict[str, Any]:
        """The report's member `access`."""
        return {
            "permitted": self.permitted,
            "denied": self.denied,
            "revocation_ms": self.revocation_ms,
            "break_glass_alerted": self.alerted_ms is not None,
        }


class AccessScene:
    """Plays in a thread of its own, from `start` to `finished`."""

    def __init__(self, settings: Settings, cast: Cast) -> None:
        self._settings, self._cast = settings, cast
        self._thread = threading.Thread(target=self._run, name="access scene", daemon=True)
        self._stop = threading.Event()
        self._after_s = self._until_s = self._signed_s = 0.0
        self.played: list[Played] = []
        """Steps so far; replaced, never changed."""
        self.revocation_ms: float | None = None
        """From before the revocation was signed until a gateway saw that it holds."""
        self.broke_glass_s: float | None = None
        """When the permit that broke the glass was seen (monotonic seconds)."""
        self.failure = ""
        """Why it ended before its end."""

    @property
    def pump_ids(self) -> tuple[str, ...]:
        """The pumps, the one first at which the glass is broken."""
        return tuple(pump.device_id for pump in self._cast.pumps)

    @property
    def deadline_s(self) -> float:
        """How many seconds it may still take."""
        return max(0.0, self._until_s - time.monotonic()) + ANSWER_S

    def start(self, after_s: float) -> None:
        """Begin to play after so many seconds."""
        self._until_s = time.monotonic() + after_s + DEADLINE_S
        self._after_s = after_s
        self._thread.start()

    def stop(self) -> None:
        """Play no further step."""
        self._stop.set()

    def finished(self) -> bool:
        """Tell whether it is over, well or not."""
        return self._until_s > 0 and not self._thread.is_alive()

    def missing(self) -> str:
        """Say what it is still at; empty when it is over."""
        return "" if self.finished() else f"step {len(self.played) + 1} of {len(STEPS) + 2}"

    def now(self) -> str:
        """Say in a few words how far it is."""
        if self.revocation_ms is not None:
            return f"stolen card denied after {self.revocation_ms:,.0f} ms"
        return self.played[-1].title if self.played else ""

    def alerts_due(self) -> list[tuple[str, str]]:
        """List rule and device of what must be in `alerts`."""
        return [] if self.broke_glass_s is None else [(BREAK_GLASS, self.pump_ids[0])]

    def outcome(self, observed: Observed) -> AccessOutcome:
        """What came of it, with what the topics say."""
        with observed.lock:
            permitted, denied = observed.decided.permitted, observed.decided.denied.total()
            alerted_s = observed.told.first_s.get((BREAK_GLASS, self.pump_ids[0]))
        alerted_ms = None
        if alerted_s is not None and self.broke_glass_s is not None:
            alerted_ms = round(max(0.0, alerted_s - self.broke_glass_s) * 1000, 1)
        return AccessOutcome(self.played, permitted, denied, self.revocation_ms, alerted_ms, self.failure)

    # ---- the thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._play())
        except (PipelineError, KafkaException, TimeoutError) as error:
            self.failure = str(error) or "it took too long"

    async def _play(self) -> None:
        await asyncio.sleep(self._after_s)
        async with Gateway(self._settings, ANSWER_S) as gateway:
            login = await self._step(gateway, LOGIN)
            for step in STEPS[1:]:
                await self._step(gateway, step)
                if step is BROKEN_GLASS and self.played[-1].as_expected:
                    self.broke_glass_s = time.monotonic()
            await self._revoke(gateway, login)
            await self._step(gateway, AFTERWARDS)

    async def _step(self, gateway: Gateway, step: Step) -> Answer:
        began_s = time.monotonic()
        answer = await self._ask(gateway, step)
        self._note(step.title, _told(step.effect, step.reason), _seen(answer), began_s, time.monotonic())
        return answer

    async def _ask(self, gateway: Gateway, step: Step) -> Answer:
        """Ask until a policy has answered, or the scene's time is over."""
        while True:
            answer = await gateway.ask(self._envelope(step))
            if answer.decision is not None and answer.decision.reason not in CANNOT_READ:
                return answer
            self._check_time(answer.why)
            await asyncio.sleep(AGAIN_S)

    def _envelope(self, step: Step) -> bytes:
        pump: Monitor = self._cast.far_pump if step.is_far else self._cast.pump
        sent = pump.access(
            time.time_ns() // 1000,
            subject=self._cast.persons[step.subject].did,
            outcome="GRANTED",
            action=step.action,
            purpose=step.purpose,
            session=f"session of {step.subject}",
        )
        envelope = decode_envelope(sent.value)
        approvals = [
            replace(person, key_id=f"{person.did}#{person.key_id}").sign(
                PayloadKind.ACCESS, self._settings.log_name, envelope.payload
            )
            for person in (self._cast.persons[name] for name in step.approvals)
        ]
        return SignedEnvelope(envelope.payload, (*envelope.signatures, *approvals)).encode()

    async def _revoke(self, gateway: Gateway, login: Answer) -> None:
        """Revoke Nora's key; what is measured ends with her live permit, or with the first denial."""
        began_s = time.monotonic()
        revoking = asyncio.ensure_future(asyncio.to_thread(self._until_revoked))
        try:
            decision = await asyncio.wait_for(gateway.ended(login), self._until_s - began_s)
        except TimeoutError:
            decision = None
        if decision is None:  # Kafka was away, so that the end may have passed unseen: a denial shows it too
            decision = (await self._until_denied(gateway)).decision
        revoked_s = time.monotonic()
        await revoking
        if decision is not None and decision.reason is DecisionReason.SUBJECT_ENDED:
            self.revocation_ms = round((revoked_s - self._signed_s) * 1000, 1)
        seen = "nothing" if decision is None else _told(decision.effect, decision.reason)
        self._note(STOLEN, _told(AFTERWARDS.effect, AFTERWARDS.reason), seen, self._signed_s, revoked_s)

    async def _until_denied(self, gateway: Gateway) -> Answer:
        while (answer := await self._ask(gateway, LOGIN)).permitted:
            self._check_time("still permitted")
            await asyncio.sleep(AGAIN_S)
        return answer

    def _until_revoked(self) -> None:
        """Revoke the key as an authority does, again where Kafka was away."""
        did = self._cast.persons["Nora"].did
        while True:
            try:
                with closing(Authority(self._settings)) as authority:
                    known = authority.registry.subject(did)
                    if known is not None and known.may_approve:
                        self._signed_s = self._signed_s or time.monotonic()
                        authority.revoke(did, KEY_ID)
                    return
            except (PipelineError, KafkaException) as error:
                self._check_time(str(error))
                time.sleep(AGAIN_S)

    def _check_time(self, why: str) -> None:
        if self._stop.is_set() or time.monotonic() > self._until_s:
            raise TimeoutError(why)

    def _note(self, title: str, expected: str, seen: str, began_s: float, ended_s: float) -> None:
        self.played = [*self.played, Played(title, expected, seen, round((ended_s - began_s) * 1000, 1))]


def _seen(answer: Answer) -> str:
    if answer.decision is None:
        return answer.why
    return _told(answer.decision.effect, answer.decision.reason)


def _told(effect: Effect, reason: DecisionReason) -> str:
    return f"{'permitted' if effect is Effect.PERMIT else 'denied'}: {reason.value}"
