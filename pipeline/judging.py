"""Puts the judges of the topics that ingest reads together from settings."""

from pipeline.policies import PolicyFollower
from pipeline.registry import RegistryFollower
from pipeline.settings import Settings
from pipeline.topics import ACCESS_RAW, LIFECYCLE_RAW, TELEMETRY_RAW
from processors.access.decide import View
from processors.access.guard import Guard
from processors.authenticate import Authenticate, TimeLimits
from processors.detect import AccessDetectors, ConfigOf, DetectConfig, SilenceRule, TelemetryDetectors
from processors.judge import Judge, NoDetectors
from processors.registry import Registry
from schemas.envelope import PayloadKind
from schemas.noise import NoiseBlock

CATCH_UP_S = 2.0
"""A key that we do not know is worth so long a look at the registry, once a batch."""


def judges(
    settings: Settings, registry: RegistryFollower, policies: PolicyFollower, guard: Guard
) -> dict[str, Judge]:
    """Make one judge per raw topic; the guard is that of access."""
    noise: list[NoiseBlock] | None = [] if settings.same_noise else None
    return {
        TELEMETRY_RAW: Judge(
            _authenticate(settings, PayloadKind.TELEMETRY),
            TelemetryDetectors(
                DetectConfig.default(), lambda: overriding(registry.table, policies), noise=noise
            ),
            registry.table,
            lambda: registry.try_catch_up(CATCH_UP_S),
            SilenceRule(settings.silence_after_s),
            noise=noise,
        ),
        ACCESS_RAW: guard,
        LIFECYCLE_RAW: Judge(
            _authenticate(settings, PayloadKind.LIFECYCLE),
            NoDetectors(),
            registry.table,
            lambda: registry.try_catch_up(CATCH_UP_S),
        ),
    }


def overriding(registry: Registry, policies: PolicyFollower) -> ConfigOf | None:
    """Return what gives a device's configuration as the tables stand; None where all have the defaults.

    Before the policies have been read up for the first time what came of them is any state of the past,
    so until then all have the defaults, as their findings say. Later the last known view holds.
    """
    overrides = policies.table.overrides
    if overrides is None or not policies.was_read_up:
        return None

    def config_of(device_id: str) -> DetectConfig:
        subject = registry.subject(device_id)
        return overrides.config_of(device_id, subject.attributes.get("ward", "") if subject else "")

    return config_of


def guard_of(settings: Settings, registry: RegistryFollower, policies: PolicyFollower) -> Guard:
    """Make the judge of access."""

    def view() -> View:
        return View(registry.table, policies.table, registry.is_fresh(), policies.is_fresh())

    def freshen() -> None:
        for follower in (registry, policies):
            if not follower.is_fresh():
                follower.try_catch_up(CATCH_UP_S)

    return Guard(
        _authenticate(settings, PayloadKind.ACCESS),
        AccessDetectors(DetectConfig.default()),
        view,
        lambda: registry.try_catch_up(CATCH_UP_S),
        freshen,
    )


def _authenticate(settings: Settings, kind: PayloadKind) -> Authenticate:
    limits = TimeLimits(round(settings.max_ahead_s * 1e6), round(settings.max_behind_s * 1e6))
    return Authenticate(kind, settings.log_name, settings.partitions, limits)
