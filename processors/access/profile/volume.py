"""How much a person does: denied at many doors, or taking out far more than usual."""

from processors.access.profile.config import ExportLimits, ProbingLimits
from processors.access.profile.memory import (
    MAX_DENIALS,
    MAX_EXPORTS,
    MAX_HABIT_DAYS,
    Denial,
    Export,
    Profile,
    hashed,
)
from processors.access.profile.seen import Seen, Sighting, raised, seconds, times
from schemas.records import Severity

DAY_US = 86_400_000_000
_SHOWN = 18
"""Earlier decisions that a finding cites."""


class Probing:
    """One person denied at many devices, or for many actions, within the window."""

    name, clears = "privilege_probing", True

    def __init__(self, limits: ProbingLimits) -> None:
        self._limits, self.quiet_us = limits, limits.quiet_us

    def look(self, profile: Profile, seen: Seen) -> Sighting | None:
        """Count what is different: somebody who tries the same door again and again feels for no other."""
        decision = seen.decision
        if decision.reason.value not in self._limits.reasons:
            return None
        profile.denials.append(Denial(seen.time_us, seen.offset, seen.device, hashed(decision.action)))
        since_us = max(profile.newest_us, seen.time_us) - self._limits.window_us
        kept = [each for each in profile.denials if each.time_us >= since_us][-MAX_DENIALS:]
        profile.denials = kept
        devices = len({each.device for each in kept})
        actions = len({each.action for each in kept})
        score = max(devices / self._limits.device_limit, actions / self._limits.action_limit)
        if score < 1:
            return None
        text = (
            f"was denied {times(len(kept), 'request')} for {times(actions, 'action')} at "
            f"{times(devices, 'device')} within {seconds(self._limits.window_us)}"
        )
        return Sighting(
            raised(Severity.MEDIUM, score >= 2),
            round(score, 1),
            text,
            tuple(each.offset for each in kept[:-1])[-_SHOWN:],
            {
                "device_limit": str(self._limits.device_limit),
                "action_limit": str(self._limits.action_limit),
                "window_s": f"{self._limits.window_us / 1_000_000:g}",
                "devices": str(devices),
                "actions": str(actions),
            },
        )


class MassExport:
    """One person taking out data far more than anybody should, or than he himself does on other days."""

    name, clears = "mass_export", True

    def __init__(self, limits: ExportLimits) -> None:
        self._limits, self.quiet_us = limits, limits.quiet_us

    def look(self, profile: Profile, seen: Seen) -> Sighting | None:
        """Count permits within the window, and learn from each day how many are usual."""
        if not seen.is_permit or seen.decision.action not in self._limits.actions:
            return None
        profile.exports.append(Export(seen.time_us, seen.offset, seen.device))
        since_us = max(profile.newest_us, seen.time_us) - self._limits.window_us
        kept = [each for each in profile.exports if each.time_us >= since_us][-MAX_EXPORTS:]
        profile.exports = kept
        number, today = len(kept), seen.time_us // DAY_US
        usual = self._usual(profile, today)
        self._learn(profile, today, number)
        score = number / self._limits.limit
        if usual is not None and number >= self._limits.habit_floor:
            score = max(score, number / (usual * self._limits.multiple))
        if score < 1:
            return None
        return self._sighting(profile, score, usual)

    def _sighting(self, profile: Profile, score: float, usual: float | None) -> Sighting:
        kept, episode = profile.exports, profile.episodes.get(self.name)
        devices, total = len({each.device for each in kept}), episode.count + 1 if episode else 1
        at_least = "at least " if len(kept) == MAX_EXPORTS else ""
        habit = "" if usual is None else f"; {usual:.1f} are usual on other days"
        text = (
            f"got {at_least}{times(len(kept), 'permit')} to export from {times(devices, 'device')} within "
            f"{seconds(self._limits.window_us)}{habit}"
        )
        # Ten times what was too much, as far as it is remembered or since the finding was opened.
        steps = (score >= 2) + (total >= 10 * self._limits.limit)
        return Sighting(
            raised(Severity.MEDIUM, steps),
            round(score, 1),
            text,
            tuple(each.offset for each in kept[:-1])[-_SHOWN:],
            {
                "limit": str(self._limits.limit),
                "multiple": f"{self._limits.multiple:g}",
                "window_s": f"{self._limits.window_us / 1_000_000:g}",
                "exports": str(len(kept)),
                "devices": str(devices),
            },
        )

    def _usual(self, profile: Profile, today: int) -> float | None:
        """Return the mean of the earlier days' most within a window; None where too few are known."""
        peaks = [peak for day, peak in profile.peaks.items() if day < today]
        return sum(peaks) / len(peaks) if len(peaks) >= self._limits.habit_days else None

    def _learn(self, profile: Profile, today: int, number: int) -> None:
        """Remember today's most, no more than the limit: what was too much once shall not become usual."""
        peaks = {**profile.peaks, today: max(profile.peaks.get(today, 0), min(number, self._limits.limit))}
        profile.peaks = dict(sorted(peaks.items())[-MAX_HABIT_DAYS - 1 :])
