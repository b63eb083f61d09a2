"""The judge of the access topic: each accepted request gets one decision, and each permit one end.

A permit is live until it expires, or until a change of the tables takes it away: both are decisions too.
Requests, changes and time come in the order in which the stage hands them over; nothing here reads a clock.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol, cast

from processors.access.decide import Request, Verdict, View, decide
from processors.access.memory import MAX_PERMITS, AccessMemories, AccessMemory, LivePermit
from processors.authenticate import Authenticate
from processors.detect import AccessDetectors
from processors.judge import Judge, States
from processors.model import Batch, Outcome, VerifiedEvent
from schemas.decisions import Decision, DecisionKind, DecisionReason, Effect
from schemas.records import EvidenceRef, Finding, Severity

ONCE_US = 60_000_000
"""A permit without a session is not kept, so nothing takes it away; it holds no longer than this."""
_FAILED = frozenset({"DENIED", "FAILED"})


class LiveStates(States, Protocol):
    """Device states of one partition of the access topic."""

    partition: tuple[str, int]
    next_expiry_us: dict[str, int]
    """Of each device with a live permit, when the first of them ends."""


class Guard(Judge):
    """Judges the access topic; `view` tells how the tables stand at the moment."""

    def __init__(
        self,
        authenticate: Authenticate,
        detectors: AccessDetectors,
        view: Callable[[], View],
        catch_up: Callable[[], bool],
        freshen: Callable[[], None],
    ) -> None:
        """`freshen` reads up what is stale, as far as that is possible now."""
        super().__init__(authenticate, AccessMemories(detectors), view().registry, catch_up)
        self._view, self._freshen = view, freshen

    def process_all(self, batches: Sequence[tuple[Batch, States]]) -> list[Outcome]:
        """Judge batches, each in offset order, and decide what was accepted; touched states are marked."""
        outcomes = super().process_all(batches)
        if any(outcome.accepted for outcome in outcomes) and not self._view().is_fresh:
            self._freshen()
        for outcome, (_, states) in zip(outcomes, batches, strict=True):
            desk = _Desk(cast("LiveStates", states), self._view(), outcome)
            for item in outcome.accepted:
                desk.answer(item)
        return outcomes

    def sweep(
        self, states: LiveStates, devices: Iterable[str], since: int, now_us: int, outcome: Outcome
    ) -> None:
        """Judge live permits of devices again, as the tables stand now, and end those that fail.

        `since` is the registry's offset from which on changes were not looked at; 0 judges all. The caller
        sees to it that the tables are fresh: a stale one says nothing new, and what was permitted before it
        went stale ends by its own time.
        """
        desk = _Desk(states, self._view(), outcome)
        for device_id in devices:
            desk.judge_again(device_id, since, now_us)

    def expire(self, states: LiveStates, now_us: int, outcome: Outcome) -> None:
        """End the permits whose time is over at a moment up to which everything has been judged."""
        desk = _Desk(states, self._view(), outcome)
        for device_id in [each for each, at in states.next_expiry_us.items() if at <= now_us]:
            desk.expire(device_id, now_us)


class _Desk:
    """One sitting: the states of a partition, the tables as they stand, and what comes of it."""

    def __init__(self, states: LiveStates, view: View, outcome: Outcome) -> None:
        self._states, self._view, self._outcome = states, view, outcome

    def answer(self, item: VerifiedEvent) -> None:
        """Decide on a request."""
        device_id, body, now_us = item.event.device_id, item.event.body, item.source.append_us
        if self._states.next_expiry_us.get(device_id, now_us + 1) <= now_us:
            self.expire(device_id, now_us)
        memory = self._memory(device_id)
        request = Request(
            device_id,
            item.signers[0],
            body["subject"],
            body["action"],
            body["resource"],
            body["purpose"],
            body["session"],
            item.source.reference(item.digest),
            item.signers[1:],
            is_live=any(
                each.session == body["session"] and each.subject == body["subject"] for each in memory.permits
            ),
        )
        if body["outcome"] in _FAILED:
            verdict = Verdict(DecisionReason.FAILED_AT_DEVICE, f"the device says {body['outcome']}")
        else:
            verdict = _taken(request, memory) or decide(request, self._view, now_us)
        if verdict.is_permit:
            verdict = _keep(request, verdict, memory, now_us)
            self._note(device_id, memory)
        self._write(DecisionKind.REQUEST, request, verdict, now_us)
        if verdict.alert is not None:
            self._outcome.findings.append(_alert(request, verdict, verdict.alert, now_us))

    def judge_again(self, device_id: str, since: int, now_us: int) -> None:
        """End the permits of a device that would not be given now."""
        for permit in list(self._memory(device_id).permits):
            if since and not self._is_concerned(permit, device_id, since):
                continue
            verdict = decide(self._again(permit, device_id), self._view, now_us)
            if not verdict.is_permit:
                self._end(permit, device_id, DecisionKind.REVOCATION, verdict, now_us)

    def expire(self, device_id: str, now_us: int) -> None:
        """End the permits of a device whose time is over."""
        memory = self._memory(device_id)
        over = Verdict(DecisionReason.EXPIRED, "the permit's time is over")
        for permit in [each for each in memory.permits if each.expires_us <= now_us]:
            self._end(permit, device_id, DecisionKind.EXPIRY, over, now_us)
        self._note(device_id, memory)

    def _memory(self, device_id: str) -> AccessMemory:
        return cast("AccessMemory", self._states.detectors_of(device_id))

    def _is_concerned(self, permit: LivePermit, device_id: str, since: int) -> bool:
        """Tell whether the registry has changed somebody on whom a permit rests."""
        for did in (device_id, permit.subject, *(url.rpartition("#")[0] for url in permit.approvals)):
            subject = self._view.registry.subject(did)
            if subject is None or subject.changed_at >= since:
                return True
        return False

    def _end(
        self, permit: LivePermit, device_id: str, kind: DecisionKind, verdict: Verdict, now_us: int
    ) -> None:
        memory = self._memory(device_id)
        memory.permits.remove(permit)
        self._note(device_id, memory)
        self._states.touch(device_id, self._states.state_of(device_id))
        self._write(kind, self._again(permit, device_id), verdict, now_us)

    def _note(self, device_id: str, memory: AccessMemory) -> None:
        if memory.permits:
            self._states.next_expiry_us[device_id] = memory.next_expiry_us
        else:
            self._states.next_expiry_us.pop(device_id, None)

    def _again(self, permit: LivePermit, device_id: str) -> Request:
        """Return the request that opened a permit; that its session is live is now a fact."""
        return Request(
            device_id,
            permit.device_key,
            permit.subject,
            permit.action,
            permit.resource,
            permit.purpose,
            permit.session,
            EvidenceRef(*self._states.partition, permit.offset, permit.digest),
            permit.approvals,
            is_live=True,
        )

    def _write(self, kind: DecisionKind, request: Request, verdict: Verdict, now_us: int) -> None:
        view, book = self._view, self._view.policies.book
        self._outcome.decisions.append(
            Decision(
                kind,
                Effect.PERMIT if verdict.is_permit else Effect.DENY,
                verdict.reason,
                verdict.detail,
                request.device_id,
                request.subject,
                request.action,
                request.target,
                request.purpose,
                request.session,
                request.is_emergency,
                now_us,
                request.place,
                view.registry.offset,
                view.policies.offset,
                verdict.expires_us,
                verdict.policies,
                book.digest if book else b"",
                verdict.attributes,
                verdict.obligations,
                verdict.approvals,
            )
        )


def _taken(request: Request, memory: AccessMemory) -> Verdict | None:
    """Deny what needs no policy: another's session, or more than is kept."""
    if not request.session:
        return None
    if any(each.session == request.session and each.subject != request.subject for each in memory.permits):
        return Verdict(DecisionReason.SESSION_OF_ANOTHER, "the session at this device is somebody else's")
    key = request.session, request.action, request.target
    if len(memory.permits) >= MAX_PERMITS and all(each.key != key for each in memory.permits):
        return Verdict(DecisionReason.TOO_MANY_PERMITS, f"{MAX_PERMITS} permits are live at this device")
    return None


def _keep(request: Request, verdict: Verdict, memory: AccessMemory, now_us: int) -> Verdict:
    """Remember a permit of a session; one without a session is good for this once."""
    expires_us = verdict.expires_us or now_us
    if not request.session:
        return replace(verdict, expires_us=min(expires_us, now_us + ONCE_US))
    permit = LivePermit(
        request.session,
        request.action,
        request.target,
        request.purpose,
        request.subject,
        request.device_key,
        request.signers,
        request.place.offset,
        request.place.digest or b"",
        expires_us,
    )
    memory.permits = [each for each in memory.permits if each.key != permit.key]
    memory.permits.append(permit)
    return verdict


def _alert(request: Request, verdict: Verdict, severity: Severity, now_us: int) -> Finding:
    """Tell of what a policy, or an emergency, asks to be told of."""
    is_broken = verdict.reason is DecisionReason.BREAK_GLASS
    what = f"{request.action} by {request.subject}"
    return Finding(
        rule="break_glass" if is_broken else "policy_alert",
        severity=severity,
        device_id=request.device_id,
        time_us=now_us,
        explanation=f"The glass was broken: {what}." if is_broken else f"{what} was {verdict.detail}.",
        evidence=(request.place,),
        subject=request.subject,
        parameters={"policies": " ".join(verdict.policies), "purpose": request.purpose},
    )
