"""What is held back: by a silence that authorities signed, or because another alert explains it.

Held back is not dropped: it stands in the log with OCSF's status *Suppressed* and what held it back, and is
counted with that alert or silence.
"""

from collections.abc import Iterable
from typing import NamedTuple

from processors.correlate.cases import Case, Cases
from processors.correlate.controls import Silence
from processors.correlate.groups import analytic_of, severity_of, subject_of
from processors.notices import Notice


class Inhibition(NamedTuple):
    """While an alert `source` is not over, `target` is held back where `equal` is the same."""

    source: str
    target: str
    equal: str
    """`device`, or `ward` for an incident of one."""


INHIBITIONS = (
    # What a device sends under used numbers follows from its signing twice; the finding keeps both records.
    Inhibition("equivocation", "rejected.replay", "device"),
    Inhibition("equivocation", "rejected.stale", "device"),
    # A ward whose devices fell silent together has lost its network: that numbers are missing afterwards too.
    Inhibition("silence", "sequence_gap", "ward"),
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
        for case in cases.of_device(rule.source, notice.device_id or ""):
            if not case.muted_by and (rule.equal == "device" or (case.is_incident and case.ward)):
                return case
        if rule.equal == "ward" and notice.ward:
            for case in cases.of_ward(rule.source, notice.ward):
                if case.is_incident and not case.muted_by:
                    return case
    return None
