"""What the detectors hold for normal: one TOML file, by MDC code, cited by its digest in every finding.

`defaults.toml` ships with the package and says where its numbers come from.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from processors.detect.devicecourse import CourseLimits
from processors.detect.errors import ConfigError
from processors.detect.limits import SignalLimits, read_signal
from processors.detect.relations import RelationLimits
from processors.detect.tables import (
    Table,
    count_of,
    known_fields,
    number_of,
    positive_of,
    seconds_of,
    table_of,
)
from schemas.noise import PRINT_SIGNS

_MAX_SIGNALS = 512
_MAX_RELATIONS = 64
_MAX_ACCESS_LIMIT = 64
MAX_FLEET_DEVICES = 500
"""So many devices of one build are remembered, and named by one alert."""
_KINDS = {"equal": 2, "mean": 3}
# A difference is steadier than a signal, so it needs less slack: drifts of it show earlier.
_RELATION_SLACK, _RELATION_LIMIT = 3.0, 14.0


@dataclass(frozen=True, slots=True)
class FailedAccessLimits:
    """How many failures within `window_s` of broker time are too many."""

    subject_limit: int
    device_limit: int
    window_s: float


@dataclass(frozen=True, slots=True)
class SameNoiseLimits:
    """When two devices have the same noise; counts are of changes or of reports."""

    differ: int
    """Of the changes of two prints that are alike so many may differ."""
    alike: int
    """So many changes must go alike."""
    gap: int
    """Reports between one meeting and the next, at most."""
    apart_us: int
    """Between the two devices' reports."""
    quiet_us: int


@dataclass(frozen=True, slots=True)
class FleetLimits:
    """How many devices of one build, and which share of it, within `window_s` of broker time are too many."""

    devices: int
    share: float
    window_s: float
    digest: str
    """Of the configuration, as `DetectConfig.digest`."""


@dataclass(frozen=True, slots=True)
class DetectConfig:
    """One effective configuration and its digest."""

    signals: Mapping[int, SignalLimits]
    relations: tuple[RelationLimits, ...]
    course: CourseLimits
    replay_window_s: float
    same_noise: SameNoiseLimits
    noise_of: Mapping[int, int]
    """By code of a signal whose noise is looked at: the one that stands for it where a device sends both."""
    clear_after: int
    failed_access: FailedAccessLimits
    fleet: FleetLimits
    digest: str
    """`sha256:` and the hex digest of the file, as `sha256sum` prints it. With overrides: of the merged
    tables as JSON, keys sorted, no spaces."""
    tables: Mapping[str, Any]
    """The tables that it was read from."""

    @classmethod
    def default(cls) -> "DetectConfig":
        """Return the configuration that ships with the package: one object, however often it is asked for."""
        return _shipped()

    @classmethod
    def parse(cls, text: str) -> "DetectConfig":
        """Read a configuration; raises ConfigError naming the table and field at fault."""
        return cls._read(read_toml(text), "sha256:" + hashlib.sha256(text.encode()).hexdigest())

    def with_overrides(self, overrides: Table) -> "DetectConfig":
        """Return the configuration with fields of `overrides` in place of its own; raises ConfigError."""
        merged = _merged(self.tables, overrides)
        text = json.dumps(merged, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return self._read(merged, "sha256:" + hashlib.sha256(text.encode()).hexdigest())

    @classmethod
    def _read(cls, tables: Table, digest: str) -> "DetectConfig":
        signals = table_of(tables, "signal")
        if len(signals) > _MAX_SIGNALS:
            message = f"[signal] has {len(signals)} codes, allowed are {_MAX_SIGNALS}"
            raise ConfigError(message)
        blocks = table_of(tables, "blocks")
        limits = [read_signal(code, table_of(signals, code), blocks) for code in signals]
        known_codes = {each.code for each in limits}
        relations = table_of(tables, "relation")
        if len(relations) > _MAX_RELATIONS:
            message = f"[relation] has {len(relations)} entries, allowed are {_MAX_RELATIONS}"
            raise ConfigError(message)
        failed = table_of(table_of(tables, "access"), "repeated_failed_access")
        where = "access.repeated_failed_access"
        warm_blocks = count_of(blocks, "blocks", "warm_blocks", 10_000)
        related = tuple(
            _relation(name, table_of(relations, name), known_codes, warm_blocks) for name in relations
        )
        noise_of = {each.code: each.code for each in limits if each.course is not None}
        for relation in related:
            # What measures one thing has one noise: the second of a relation stands for all.
            stands = relation.codes[1]
            noise_of.update(dict.fromkeys(noise_of.keys() & set(relation.codes), stands))
        return cls(
            signals={each.code: each for each in limits},
            relations=related,
            course=_course(tables),
            replay_window_s=seconds_of(table_of(tables, "replay"), "replay", "window_h") * 3600,
            same_noise=_same_noise(table_of(tables, "same_noise")),
            noise_of=noise_of,
            clear_after=count_of(table_of(tables, "telemetry"), "telemetry", "clear_after", 255),
            failed_access=FailedAccessLimits(
                count_of(failed, where, "subject_limit", _MAX_ACCESS_LIMIT),
                count_of(failed, where, "device_limit", _MAX_ACCESS_LIMIT),
                seconds_of(failed, where, "window_s"),
            ),
            fleet=_fleet(table_of(tables, "fleet"), digest),
            digest=digest,
            tables=tables,
        )


@cache
def _shipped() -> DetectConfig:
    return DetectConfig.parse(
        resources.files("processors.detect").joinpath("defaults.toml").read_text(encoding="utf-8")
    )


def read_toml(text: str) -> dict[str, Any]:
    """Read TOML tables; raises ConfigError for what is none."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # it lets a number of 5,000 digits and deep lists through
        message = f"the configuration is not TOML: {error}"
        raise ConfigError(message) from error


def _merged(base: Table, over: Table) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        under = merged.get(name)
        merged[name] = _merged(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _course(tables: Table) -> CourseLimits:
    clock, reporting = table_of(tables, "clock"), table_of(tables, "reporting")

    def us(name: str) -> int:
        return round(seconds_of(clock, "clock", name) * 1_000_000)

    ratio = number_of(reporting, "reporting", "ratio")
    if ratio <= 1:
        message = f"[reporting] ratio must be above 1, is {ratio}"
        raise ConfigError(message)
    return CourseLimits(
        us("ahead_s"),
        us("behind_s"),
        us("steady_s"),
        us("back_s"),
        ratio,
        count_of(reporting, "reporting", "blocks", 60),
    )


def _same_noise(table: Table) -> SameNoiseLimits:
    where = "same_noise"
    known_fields(table, where, {"differ", "alike", "gap", "apart_s", "quiet_s"})
    return SameNoiseLimits(
        count_of(table, where, "differ", PRINT_SIGNS // 4),
        count_of(table, where, "alike", 100_000),
        count_of(table, where, "gap", 100_000),
        round(seconds_of(table, where, "apart_s") * 1_000_000),
        round(seconds_of(table, where, "quiet_s") * 1_000_000),
    )


def _fleet(table: Table, digest: str) -> FleetLimits:
    known_fields(table, "fleet", {"devices", "share", "window_s"})
    share = number_of(table, "fleet", "share")
    if not 0 <= share <= 1:
        message = f"[fleet] share must be from 0 to 1, is {share}"
        raise ConfigError(message)
    return FleetLimits(
        count_of(table, "fleet", "devices", MAX_FLEET_DEVICES),
        share,
        seconds_of(table, "fleet", "window_s"),
        digest,
    )


def _relation(name: str, table: Table, known: set[int], warm_blocks: int) -> RelationLimits:
    where = f"relation.{name}"
    known_fields(table, where, {"kind", "codes", "tolerance", "spread"})
    kind, codes = table.get("kind"), table.get("codes")
    if kind not in _KINDS:
        message = f"[{where}] kind must be one of {', '.join(_KINDS)}, is {kind!r}"
        raise ConfigError(message)
    if not isinstance(codes, list) or len(codes) != _KINDS[kind] or not known.issuperset(codes):
        message = f"[{where}] codes must be {_KINDS[kind]} codes that have a [signal], is {codes!r}"
        raise ConfigError(message)
    return RelationLimits(
        tuple(codes),
        kind,
        positive_of(table, where, "tolerance"),
        positive_of(table, where, "spread"),
        _RELATION_SLACK,
        _RELATION_LIMIT,
        warm_blocks,
    )
