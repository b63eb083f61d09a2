"""Admit: each (device, event type, boot, sequence) once, in order; gaps and double-dealing are findings.

Runs after authentication only, on one raw topic-partition, in offset order.
"""

from collections.abc import Callable, Iterable

from processors.model import Outcome, Rejection, VerifiedEvent
from processors.state import DeviceState
from schemas.reasons import Reason
from schemas.records import EvidenceRef, Finding, FindingStatus, Severity


def admit(events: Iterable[VerifiedEvent | Rejection], state_of: Callable[[str], DeviceState]) -> Outcome:
    """Accept what is new and in order; pass rejections of earlier checks through in their place."""
    outcome = Outcome()
    heard, accepted = outcome.heard, outcome.accepted
    for item in events:
        if isinstance(item, Rejection):
            outcome.rejected.append(item)
            continue
        event, source = item.event, item.source
        state = heard.get(event.device_id) or state_of(event.device_id)
        if event.sequence != state.sequence + 1 or event.boot != state.boot:
            rejection = _check(item, state, outcome)
            if rejection is not None:
                outcome.rejected.append(rejection)
                continue
            _skip_to(item, state, outcome)
        state.sequence = event.sequence
        state.last_append_ms = max(state.last_append_ms, source.append_ms)
        state.remembered.add(event.sequence, source.offset, item.digest)
        heard[event.device_id] = state
        accepted.append(item)
    return outcome


def _check(item: VerifiedEvent, state: DeviceState, outcome: Outcome) -> Rejection | None:
    event = item.event
    if event.boot > state.boot or (event.boot == state.boot and event.sequence > state.sequence):
        return None
    if event.boot < state.boot:
        return _reject(item, Reason.STALE, f"boot {event.boot}, the device has reached {state.boot}")
    known = state.remembered.find(event.sequence)
    if known is None:
        if event.sequence < state.remembered.oldest:
            detail = f"sequence {event.sequence} is below the remembered ones"
            return _reject(item, Reason.STALE, detail)
        detail = f"sequence {event.sequence} was skipped; the device has reached {state.sequence}"
        return _reject(item, Reason.LATE, detail)
    offset, digest = known
    if digest == item.digest[:16]:
        detail = f"boot {event.boot} sequence {event.sequence} was accepted from offset {offset}"
        return _reject(item, Reason.REPLAY, detail)
    outcome.findings.append(_equivocation(item, offset, digest))
    detail = (
        f"boot {event.boot} sequence {event.sequence} was accepted from offset {offset}, with other content"
    )
    return _reject(item, Reason.EQUIVOCATION, detail)


def _skip_to(item: VerifiedEvent, state: DeviceState, outcome: Outcome) -> None:
    """Go to an event that is new, but not the next one; what was skipped is a finding."""
    event = item.event
    expected = state.sequence + 1 if event.boot == state.boot else 1
    if event.sequence != expected:
        outcome.findings.append(_gap(item, expected))
    if event.boot != state.boot:
        state.restart(event.boot)


def _reject(item: VerifiedEvent, reason: Reason, detail: str) -> Rejection:
    return Rejection(item.source, reason, detail, item.registry_offset, item.event.device_id)


def _equivocation(item: VerifiedEvent, offset: int, digest: bytes) -> Finding:
    event, source = item.event, item.source
    return Finding(
        rule="equivocation",
        severity=Severity.CRITICAL,
        device_id=event.device_id,
        time_us=source.append_us,
        explanation=(
            f"The device signed two different {event.kind.value} events as number {event.sequence} of boot "
            f"{event.boot}: its key or its firmware is not under one control."
        ),
        evidence=(
            source.reference(item.digest),
            EvidenceRef(source.topic, source.partition, offset, digest),
        ),
        parameters={"boot": str(event.boot), "sequence": str(event.sequence)},
    )


def _gap(item: VerifiedEvent, expected: int) -> Finding:
    event, missing = item.event, item.event.sequence - expected
    return Finding(
        rule="sequence_gap",
        severity=Severity.MEDIUM,
        device_id=event.device_id,
        time_us=item.source.append_us,
        explanation=(
            f"{missing} {event.kind.value} event(s) before number {event.sequence} of boot {event.boot} "
            "were never received: lost on the way, or withheld."
        ),
        evidence=(item.source.reference(item.digest),),
        score=float(missing),
        status=FindingStatus.OPENED,
        parameters={"boot": str(event.boot), "expected": str(expected), "received": str(event.sequence)},
    )
