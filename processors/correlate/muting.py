"""What is held back: by a silence that authorities signed, or because another alert explains it.

Held back is not dropped: it stands in the log with OCSF's status *Suppressed* and what held it back, and is
counted with that alert or silence.
"""

from collections.abc import Iterable
from typing import NamedTuple

from processors.correlate.cases import FLEET_DRIFT, Case, Cases
from processors.correlate.controls import Silence
from processors.correlate.fleet import WATCHED, key_of
from processors.correlate.groups import analytic_of, severity_of, subject_of
from processors.notices import Notice
from schemas.records import SEVERITY_RANK


class Inhibition(NamedTuple):
    """While an alert `source` is not over, `target` is held back where `equal` is the same."""

    source: str
    target: str
    equal: str
    """`device`; `ward` for an incident of one; `build` for a device that the alert about its build names."""


INHIBITIONS = (
    # What a device sends under used numbers follows from its signing twice; the finding keeps both records.
    Inhibition("equivocation", "rejected.replay", "device"),
    Inhibition("equivocation", "rejected.stale", "device"),
    # A ward whose devices fell silent together has lost its network: that numbers are missing afterwards too.
    Inhibition("silence", "sequence_gap", "ward"),
    # The alert about a build names each device and lists what is held back; of the same rule and signal only.
    *(Inhibition(FLEET_DRIFT, rule, "build") for rule in sorted(WATCHED)),
)
"""Alerts about the log itself, and access, are never held back by another alert."""
_OF_TARGET = {
    target: tuple(each for each in INHIBITIONS if each.target == target)
    for target in {each.target for each in INHIBITIONS}
}
SOURCES_OF = {target: frozenset(each.source for each in found) for target, found in _OF_TARGET.items()}


def silence_of(notice: Notice, silences: Iterable[Silence]) -> str:
    """Return the id of the first silence that fits a notice; empty where none does."""
    for silence in silences:
        if silence.fits(
            analytic_of(notice),
            severity_of(notice),
            notice.device_id or "",
            notice.ward,
            subject_of(notice) or "",
        ):
            return silence.uid
    return ""


def inhibitor_of(notice: Notice, cases: Cases) -> Case | None:
    """Return the case because of which a notice is held back."""
    for rule in _OF_TARGET.get(analytic_of(notice), ()):
        if rule.equal == "build":
            fleet = _fleet_of(notice, cases)
            if fleet is not None:
                return fleet
            continue
        for case in cases.of_device(rule.source, notice.device_id or ""):
            if not case.muted_by and (rule.equal == "device" or (case.is_incident and case.ward)):
                return case
        if rule.equal == "ward" and notice.ward:
            for case in cases.of_ward(rule.source, notice.ward):
                if case.is_incident and not case.muted_by:
                    return case
    return None


def _fleet_of(notice: Notice, cases: Cases) -> Case | None:
    key = key_of(notice)
    case = cases.get(key.uid) if key is not None else None
    if case is None or case.muted_by or notice.device_id not in case.devices:
        return None
    # What is worse than the alert about the build is not explained by it.
    return case if SEVERITY_RANK[severity_of(notice)] <= SEVERITY_RANK[case.severity] else None
