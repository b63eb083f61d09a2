"""Detectors: events in, findings out; deterministic, bounded, no IO (see docs/detectors.md)."""

from processors.detect.access import AccessDetectors, AccessState
from processors.detect.config import DetectConfig
from processors.detect.errors import ConfigError, DetectError
from processors.detect.overrides import ConfigOf, Overrides
from processors.detect.silence import SilenceRule
from processors.detect.telemetry import TelemetryDetectors
from processors.detect.telemetry_state import TelemetryState

__all__ = [
    "AccessDetectors",
    "AccessState",
    "ConfigError",
    "ConfigOf",
    "DetectConfig",
    "DetectError",
    "Overrides",
    "SilenceRule",
    "TelemetryDetectors",
    "TelemetryState",
]
