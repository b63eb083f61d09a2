"""When and where a person is active: outside of the shift, at two places at once, after a long time."""

from processors.access.profile.config import DormantLimits, ShiftLimits, TravelLimits
from processors.access.profile.memory import MAX_PLACES, Place, Profile
from processors.access.profile.seen import Seen, Sighting, raised, seconds
from schemas.records import SEVERITY_RANK, Severity

_MINUTE_US = 60_000_000


class OffShift:
    """Activity outside of every shift of the person, by more than the grace; emergencies too."""

    name, clears = "off_shift_access", True

    def __init__(self, limits: ShiftLimits) -> None:
        self._limits, self.quiet_us = limits, limits.quiet_us

    def look(self, profile: Profile, seen: Seen) -> Sighting | None:
        """A permit, an emergency, a long way from the shift, and many times: each makes it worse."""
        minutes = seen.minutes_off_shift
        if not seen.has_held or minutes is None or minutes * _MINUTE_US <= self._limits.grace_us:
            return None
        decision, off_us = seen.decision, minutes * _MINUTE_US
        episode = profile.episodes.get(self.name)
        number = episode.count + 1 if episode else 1
        steps = seen.is_permit + decision.emergency + (off_us >= self._limits.far_us)
        steps += number >= self._limits.repeated
        shifts = decision.attributes["principal.shifts"]
        how = ", in an emergency as stated" if decision.emergency else ""
        text = (
            f"asked for {decision.action} {seconds(off_us)} outside of the shift ({shifts} UTC){how}: "
            f"{decision.effect.value.lower()}"
        )
        return Sighting(
            raised(Severity.LOW, steps),
            round(off_us / self._limits.grace_us, 1),
            text,
            parameters={
                "grace_s": _text(self._limits.grace_us),
                "minutes_off": str(minutes),
                "shift": shifts,
            },
        )


class ImpossibleTravel:
    """Activity in two wards, or at two sites, within a time in which nobody gets from one to the other.

    The order of two decisions does not matter: requests come through several partitions, and one that waited
    carries its own time.
    """

    name, clears = "impossible_travel", True

    def __init__(self, limits: TravelLimits) -> None:
        self._limits, self.quiet_us = limits, limits.quiet_us

    def look(self, profile: Profile, seen: Seen) -> Sighting | None:
        """Judge each move once: who stays where he went has not travelled again."""
        here = seen.place
        if not seen.has_held or not (here.ward or here.site):
            return None
        others = [each for each in profile.places if not each.is_at(here)]
        before = [each for each in profile.places if each.is_at(here)]
        last = max(profile.places, key=lambda each: each.time_us, default=None)
        newest = max([*before, here], key=lambda each: each.time_us)
        profile.places = [*others, newest][-MAX_PLACES:]
        if last is None or last.is_at(here):
            return None
        return self._judge(profile, here, others)

    def _judge(self, profile: Profile, here: Place, others: list[Place]) -> Sighting | None:
        found = [
            (self._limit_us(each, here) / max(1, abs(each.time_us - here.time_us)), each) for each in others
        ]
        score, there = max(found, key=lambda each: (each[0], each[1].offset), default=(0.0, here))
        if score <= 1:
            return None
        limit_us, is_far = self._limit_us(there, here), _differ(there.site, here.site)
        episode = profile.episodes.get(self.name)
        is_repeated = episode is not None and episode.count + 1 >= self._limits.repeated
        apart_us = abs(there.time_us - here.time_us)
        places = (
            f"the sites {there.site} and {here.site}" if is_far else f"the wards {there.ward} and {here.ward}"
        )
        return Sighting(
            raised(Severity.MEDIUM, is_far + is_repeated),
            round(min(score, limit_us / 1_000_000), 1),
            f"was active at {places} within {apart_us / 1_000_000:.0f} s, which nobody walks",
            (there.offset,),
            {"limit_s": _text(limit_us), "apart_s": _text(apart_us)},
        )

    def _limit_us(self, there: Place, here: Place) -> int:
        """Return the time that the way takes at least; 0 where nothing says that they are two places."""
        if _differ(there.site, here.site):
            return self._limits.site_us
        return self._limits.ward_us if _differ(there.ward, here.ward) else 0


class Dormant:
    """A credential that holds again after a long time without use.

    Only uses are known, so a person who was registered long ago and never came is not dormant.
    """

    name, clears = "dormant_credential", False

    def __init__(self, limits: DormantLimits) -> None:
        self._limits, self.quiet_us = limits, limits.quiet_us

    def look(self, profile: Profile, seen: Seen) -> Sighting | None:
        """Tell of the return, and of what makes it worse within the same finding: a permit, an emergency."""
        if not seen.has_held:
            return None
        before_us = profile.active_us
        profile.active_us = seen.time_us if before_us is None else max(before_us, seen.time_us)
        episode = profile.episodes.get(self.name)
        if before_us is not None and seen.time_us - before_us >= self._limits.after_us:
            score = (seen.time_us - before_us) / self._limits.after_us
        elif episode is not None:
            score = episode.score
        else:
            return None
        severity = Severity.LOW
        if seen.is_permit:
            severity = raised(Severity.MEDIUM, seen.decision.emergency + (score >= 4))
        if episode is not None and SEVERITY_RANK[severity] <= SEVERITY_RANK[episode.severity]:
            return None
        away = seconds(round(score * self._limits.after_us))
        what = f"{seen.decision.action}, {seen.decision.effect.value.lower()}"
        return Sighting(
            severity,
            round(score, 2),
            f"is active again after {away} without any use of the credential: {what}",
            parameters={"after_s": _text(self._limits.after_us)},
        )


def _differ(one: str, other: str) -> bool:
    return bool(one and other) and one != other


def _text(us: int) -> str:
    return f"{us / 1_000_000:g}"
