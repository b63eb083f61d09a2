"""Times and bounds of correlation, under the names that Alertmanager's users know."""

from dataclasses import dataclass, field
from functools import cache

from processors.detect import DetectConfig
from processors.detect.config import FleetLimits

MINUTE_MS = 60_000


@cache
def _shipped() -> FleetLimits:
    return DetectConfig.default().fleet


@dataclass(frozen=True, slots=True)
class CorrelateConfig:
    """Times in milliseconds of the caller's clock, unless said otherwise."""

    group_wait_ms: int = 100
    """So long a new group waits for more before it is told: what breaks out at once is one alert."""
    group_interval_ms: int = 10_000
    """So long it waits before what was added to it is told."""
    repeat_interval_ms: int = 240 * MINUTE_MS
    """What lasts and nobody has acknowledged is told again after so long."""
    resolve_after_ms: int = 5 * MINUTE_MS
    """What is no lasting state is over when nothing was heard of it for so long."""
    window_ms: int = 5 * MINUTE_MS
    """Of broker time: ids of alerts that stand for many records follow from it. Not above resolve_after."""
    incident_devices: int = 5
    """From so many devices of one ward, or against which one subject turns, it is one incident."""
    told_findings: int = 5
    """So many findings of a rule about one device are told each by itself, at one time."""
    max_told: int = 500
    """Records that one message tells of."""
    max_groups: int = 10_000
    """Beyond, notices of a rule share one group, whatever their device."""
    max_held: int = 20_000
    """Beyond so many notices that are not told yet every group is told."""
    max_cases: int = 10_000
    """Of alerts that are not over so many are remembered; the oldest are forgotten first."""
    max_members: int = 1_000
    """Findings whose state is remembered with one case."""
    max_known: int = 200_000
    """Places of records that were told before a restart, the newest."""
    fleet: FleetLimits = field(default_factory=_shipped)
    """How many devices of one build are too many, as `processors/detect/defaults.toml` has it."""
