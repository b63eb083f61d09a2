"""Puts the judges of the three raw topics together from settings."""

from pipeline.registry import RegistryFollower
from pipeline.settings import Settings
from pipeline.topics import RAW_TOPICS
from processors.authenticate import Authenticate, TimeLimits
from processors.detect import AccessDetectors, DetectConfig, SilenceRule, TelemetryDetectors
from processors.judge import Detectors, Judge, NoDetectors
from schemas.envelope import PayloadKind

CATCH_UP_S = 2.0
"""A key that we do not know is worth so long a look at the registry, once a batch."""


def judges(settings: Settings, follower: RegistryFollower) -> dict[str, Judge]:
    """Make one judge per raw topic."""
    config = DetectConfig.default()
    detectors: dict[PayloadKind, Detectors] = {
        PayloadKind.TELEMETRY: TelemetryDetectors(config),
        PayloadKind.ACCESS: AccessDetectors(config),
        PayloadKind.LIFECYCLE: NoDetectors(),
    }
    limits = TimeLimits(round(settings.max_ahead_s * 1e6), round(settings.max_behind_s * 1e6))

    return {
        topic: Judge(
            Authenticate(kind, settings.log_name, settings.partitions, limits),
            detectors[kind],
            follower.table,
            lambda: follower.try_catch_up(CATCH_UP_S),
            SilenceRule(settings.silence_after_s) if kind is PayloadKind.TELEMETRY else None,
        )
        for topic, kind in RAW_TOPICS.items()
    }
