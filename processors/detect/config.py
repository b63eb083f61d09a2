"""What the detectors hold for normal: one TOML file, by MDC code, cited by its SHA-256 in every finding.

`defaults.toml` ships with the package and says where its numbers come from.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from processors.detect.errors import ConfigError
from processors.detect.tables import count_of, number_of, seconds_of, table_of

_MAX_SIGNALS = 512
_MAX_ACCESS_LIMIT = 64
_MAX_STUCK_AFTER = 1_000_000


@dataclass(frozen=True, slots=True)
class SignalLimits:
    """Limits of one signal, in its unit; `off` is an inclusive range, `None` parts are not judged."""

    code: int
    low: float
    high: float
    off: tuple[float, float] | None
    ceiling: float | None
    stuck_after: int | None


@dataclass(frozen=True, slots=True)
class FailedAccessLimits:
    """How many failures within `window_s` of broker time are too many."""

    subject_limit: int
    device_limit: int
    window_s: float


@dataclass(frozen=True, slots=True)
class DetectConfig:
    """One parsed configuration and the digest of the text that it was parsed from."""

    signals: Mapping[int, SignalLimits]
    clear_after: int
    failed_access: FailedAccessLimits
    digest: str
    """`sha256:` and the hex digest of the file, as `sha256sum` prints it."""

    @classmethod
    def default(cls) -> "DetectConfig":
        """Read the configuration that ships with the package."""
        return cls.parse(
            resources.files("processors.detect").joinpath("defaults.toml").read_text(encoding="utf-8")
        )

    @classmethod
    def parse(cls, text: str) -> "DetectConfig":
        """Read a configuration; raises ConfigError naming the table and field at fault."""
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            message = f"the configuration is not TOML: {error}"
            raise ConfigError(message) from error
        signals = table_of(tables, "signal")
        if len(signals) > _MAX_SIGNALS:
            message = f"[signal] has {len(signals)} codes, allowed are {_MAX_SIGNALS}"
            raise ConfigError(message)
        limits = [_signal(code, table) for code, table in signals.items()]
        failed = table_of(table_of(tables, "access"), "repeated_failed_access")
        where = "access.repeated_failed_access"
        return cls(
            signals={each.code: each for each in limits},
            clear_after=count_of(table_of(tables, "telemetry"), "telemetry", "clear_after", 255),
            failed_access=FailedAccessLimits(
                count_of(failed, where, "subject_limit", _MAX_ACCESS_LIMIT),
                count_of(failed, where, "device_limit", _MAX_ACCESS_LIMIT),
                seconds_of(failed, where, "window_s"),
            ),
            digest="sha256:" + hashlib.sha256(text.encode()).hexdigest(),
        )


def _signal(code: str, table: Mapping[str, Any]) -> SignalLimits:
    where = f"signal.{code}"
    if not code.isascii() or not code.isdigit() or not 0 < int(code) < 2**31:
        message = f"[{where}] is not an MDC code from 1 to 2^31 - 1"
        raise ConfigError(message)
    unknown = set(table) - {"low", "high", "off", "ceiling", "stuck_after"}
    if unknown:
        message = f"[{where}] has unknown fields {sorted(unknown)}"
        raise ConfigError(message)
    low, high = number_of(table, where, "low"), number_of(table, where, "high")
    if not low < high:
        message = f"[{where}] low {low} must be below high {high}"
        raise ConfigError(message)
    return SignalLimits(
        int(code),
        low,
        high,
        _range(table["off"], where) if "off" in table else None,
        number_of(table, where, "ceiling") if "ceiling" in table else None,
        count_of(table, where, "stuck_after", _MAX_STUCK_AFTER) if "stuck_after" in table else None,
    )


def _range(found: object, where: str) -> tuple[float, float]:
    if not isinstance(found, list) or len(found) != 2:
        message = f"[{where}] off must be two numbers, is {found!r}"
        raise ConfigError(message)
    first, last = (number_of({"off": each}, where, "off") for each in found)
    if first > last:
        message = f"[{where}] off must not fall, is {found!r}"
        raise ConfigError(message)
    return first, last
