"""Decide: one request against the tables as they stand. Whatever is missing, stale or in error is a deny.

The order of the checks is a rule. Freshness comes first: with a table that may be behind nothing else that is
read from it counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from processors.access.cedar import Answer, PolicyBook
from processors.access.conditions import Conditions, counted
from processors.access.facts import (
    EMERGENCY,
    Asked,
    BadAttributeError,
    Facts,
    facts_of,
    person_type,
    roles_of,
)
from processors.access.policies import PolicyTable
from processors.registry import Registry, Subject
from schemas.decisions import DecisionReason
from schemas.records import SEVERITY_RANK, EvidenceRef, Severity

_MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class View:
    """The tables, and whether each is fresh: complete as of a moment not long ago."""

    registry: Registry
    policies: PolicyTable
    registry_fresh: bool
    policies_fresh: bool

    @property
    def is_fresh(self) -> bool:
        """Tell whether both are."""
        return self.registry_fresh and self.policies_fresh


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks for what. Every signature has been verified when it arrived."""

    device_id: str
    device_key: str
    subject: str
    action: str
    target: str
    purpose: str
    session: str
    place: EvidenceRef
    signers: tuple[str, ...] = ()
    """DID URLs of the keys of further signatures."""
    is_live: bool = False
    """The subject holds a permit of this session already."""

    @property
    def is_emergency(self) -> bool:
        """Tell whether it states one."""
        return self.purpose == EMERGENCY


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome; a permit iff `reason` is POLICY or BREAK_GLASS."""

    reason: DecisionReason
    detail: str
    policies: tuple[str, ...] = ()
    obligations: tuple[str, ...] = ()
    approvals: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    expires_us: int | None = None
    alert: Severity | None = None
    """How loudly to tell of it."""

    @property
    def is_permit(self) -> bool:
        """Tell whether it permits."""
        return self.reason in (DecisionReason.POLICY, DecisionReason.BREAK_GLASS)


def decide(request: Request, view: View, now_us: int) -> Verdict:
    """Judge a request at a moment of the broker's clock."""
    try:
        device, person, book = _parties(request, view)
    except _EndedError as why:
        return why.verdict
    signers = _signers(request, view.registry)
    asked = Asked(
        request.action,
        request.target,
        request.purpose,
        request.session,
        is_live=request.is_live,
        subject_signed=request.subject in signers,
    )
    try:
        facts = facts_of(person, device, asked, now_us)
    except BadAttributeError as error:
        return Verdict(DecisionReason.BAD_ATTRIBUTE, f"{request.subject}: {error}")
    answer = book.ask(facts.request, facts.entities)
    if answer.error:
        invalid = DecisionReason.INVALID_REQUEST if answer.is_invalid else DecisionReason.POLICY_ERROR
        return Verdict(invalid, answer.error, attributes=facts.attributes)
    # Whoever asks never approves himself.
    roles = {did: roles_of(each) for did, each in signers.items() if did != request.subject}
    return _weigh(book, answer, roles, facts, now_us)


class _EndedError(Exception):
    """No policy needs to be asked."""

    def __init__(self, reason: DecisionReason, detail: str) -> None:
        super().__init__(detail)
        self.verdict = Verdict(reason, detail)


def _parties(request: Request, view: View) -> tuple[Subject, Subject, PolicyBook]:
    """Return device, person and policies; raises _EndedError where one of them is not good for anything."""
    registry, book = view.registry, view.policies.book
    if not view.registry_fresh:
        raise _EndedError(
            DecisionReason.STALE_REGISTRY, "the registry cannot be read up: it may have revoked"
        )
    if not view.policies_fresh:
        raise _EndedError(DecisionReason.STALE_POLICY, "the policies cannot be read up")
    if book is None:
        raise _EndedError(DecisionReason.NO_POLICY, "no policy document is in force")
    device = registry.subject(request.device_id)
    key = device.keys.get(request.device_key) if device else None
    if device is None or device.decommissioned_at is not None or key is None or key.revoked_at is not None:
        detail = f"{request.device_id} or its key {request.device_key!r} has ended"
        raise _EndedError(DecisionReason.DEVICE_ENDED, detail)
    person = registry.subject(request.subject)
    if person is None:
        raise _EndedError(DecisionReason.UNKNOWN_SUBJECT, f"{request.subject!r} is not registered")
    if not person.may_approve:
        detail = f"{request.subject} is out of service or has no valid key"
        raise _EndedError(DecisionReason.SUBJECT_ENDED, detail)
    if person_type(person) is None:
        kind = person.attributes.get("kind", "")
        raise _EndedError(DecisionReason.UNKNOWN_KIND, f"kind {kind!r} is neither clinician nor technician")
    return device, person, book


def _signers(request: Request, registry: Registry) -> dict[str, Subject]:
    """Return the persons whose further signatures are good now, each once however many keys signed."""
    found = {}
    for url in request.signers:
        did, _separator, key_id = url.rpartition("#")
        person = registry.subject(did)
        key = person.keys.get(key_id) if person else None
        if person is None or person.decommissioned_at is not None or key is None:
            continue
        if key.revoked_at is None and key.purpose == "APPROVAL":
            found[did] = person
    return found


def _weigh(
    book: PolicyBook, answer: Answer, roles: Mapping[str, frozenset[str]], facts: Facts, now_us: int
) -> Verdict:
    """Combine Cedar's answer with the conditions that it does not evaluate; `roles` of who approved."""
    told = facts.attributes
    if answer.forbids:
        alert = _loudest([book.conditions[each] for each in answer.forbids])
        detail = f"forbidden by {', '.join(answer.forbids)}"
        return Verdict(DecisionReason.FORBIDDEN, detail, answer.forbids, attributes=told, alert=alert)
    if not answer.permits:
        return Verdict(DecisionReason.NO_PERMIT, "no policy permits it", attributes=told)
    chosen = {each: counted(book.conditions[each].approvals, roles) for each in answer.permits}
    met = tuple(each for each, persons in chosen.items() if persons is not None)
    if not met:
        obligations = _obligations(book, answer.permits)
        detail = f"{', '.join(answer.permits)} would permit it with {'; or '.join(obligations)}"
        return Verdict(DecisionReason.APPROVALS_MISSING, detail, answer.permits, obligations, attributes=told)
    conditions = [book.conditions[each] for each in met]
    is_emergency = facts.is_emergency
    expires_us = now_us + max(each.expires_s for each in conditions) * 1_000_000
    if facts.shift_minutes_left is not None and not is_emergency:
        # A permit that a shift gave ends with it, at the full minute.
        shift_ends_us = (now_us // _MINUTE_US + facts.shift_minutes_left) * _MINUTE_US
        expires_us = min(expires_us, shift_ends_us)
    return Verdict(
        DecisionReason.BREAK_GLASS if is_emergency else DecisionReason.POLICY,
        f"permitted by {', '.join(met)}",
        met,
        _obligations(book, met),
        tuple(sorted({did for persons in chosen.values() for did in persons or ()})),
        told,
        expires_us,
        Severity.CRITICAL if is_emergency else _loudest(conditions),
    )


def _obligations(book: PolicyBook, ids: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for each in ids for text in book.conditions[each].obligations()))


def _loudest(conditions: Sequence[Conditions]) -> Severity | None:
    alerts = (each.alert for each in conditions if each.alert)
    return max(alerts, key=SEVERITY_RANK.__getitem__, default=None)
