"""One decision as the detectors over a person's access see it, and what one of them makes of it.

Ward, site and shift are those that the decision itself carries: what the policies were told at that moment.
So a finding follows from the stream of decisions alone: the same after a restart, and for anybody who
recomputes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from processors.access.facts import DAY_MINUTES, BadAttributeError, minute_of, parse_shifts
from processors.access.profile.memory import Place, Profile, hashed, place_text
from processors.model import RawRecord
from schemas.decisions import Decision, DecisionReason, Effect
from schemas.records import SEVERITY_RANK, Severity

_RANKED = list(Severity)


@dataclass(frozen=True, slots=True)
class Seen:
    """A decision on a request, and the record that it stands in."""

    decision: Decision
    record: RawRecord

    @property
    def time_us(self) -> int:
        """Broker time of the request."""
        return self.decision.time_us

    @property
    def offset(self) -> int:
        """Of the decision."""
        return self.record.offset

    @property
    def device(self) -> bytes:
        """The device as `hashed`."""
        return hashed(self.decision.device_id)

    @property
    def has_held(self) -> bool:
        """Tell whether the device says that the credential held."""
        return self.decision.reason is not DecisionReason.FAILED_AT_DEVICE

    @property
    def is_permit(self) -> bool:
        """Tell whether it was permitted."""
        return self.decision.effect is Effect.PERMIT

    @property
    def place(self) -> Place:
        """Where the device stands."""
        told = self.decision.attributes
        ward, site = told.get("resource.ward", ""), told.get("resource.tag.site", "")
        return Place(self.time_us, self.offset, place_text(ward), place_text(site))

    @property
    def minutes_off_shift(self) -> int | None:
        """How far the request lies outside of the person's nearest shift; None where none is known."""
        try:
            shifts = parse_shifts(self.decision.attributes.get("principal.shifts", ""))
        except BadAttributeError:
            return None
        minute = minute_of(self.time_us)
        return min(
            (
                0
                if shift.minutes_left(minute)
                else min((minute - shift.end) % DAY_MINUTES, (shift.start - minute) % DAY_MINUTES)
                for shift in shifts
            ),
            default=None,
        )


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a rule sees in a decision, with the earlier decisions that show it by their offsets."""

    severity: Severity
    score: float
    """1.0 at the rule's threshold."""
    text: str
    """What the person did, as the rest of a sentence that begins with his name."""
    earlier: tuple[int, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)


class Rule(Protocol):
    """A detector over one person's decisions in their order."""

    name: str
    quiet_us: int
    """A finding is over when nothing more was sighted for so long."""
    clears: bool
    """Tell when it is over; what has happened once is not undone by time."""

    def look(self, profile: Profile, seen: Seen) -> Sighting | None:
        """Look at a decision and remember of it what later ones need."""


def raised(severity: Severity, steps: int) -> Severity:
    """Return a severity so many steps higher, at most HIGH: CRITICAL is for what is certain."""
    return _RANKED[min(SEVERITY_RANK[severity] + steps, SEVERITY_RANK[Severity.HIGH])]


def times(number: int, one: str) -> str:
    """Write a count with its noun."""
    return f"{number} {one}" if number == 1 else f"{number} {one}s"


def seconds(us: int) -> str:
    """Write a length of time as people do."""
    whole = us // 1_000_000
    for unit, size in (("day", 86_400), ("h", 3600), ("min", 60)):
        if whole >= 2 * size:
            number = whole // size
            return times(number, unit) if unit == "day" else f"{number} {unit}"
    return f"{whole} s"
