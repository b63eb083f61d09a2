"""What a ward or a device has set otherwise: tables in the shape of `defaults.toml`, over the defaults.

A device's own override the ward's, and both the defaults, field by field. Every finding cites the digest of
what was in force for its device.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from processors.detect.config import DetectConfig, read_toml
from processors.detect.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Overrides:
    """TOML texts by ward and by device DID; empty where all have the defaults."""

    wards: Mapping[str, str] = field(default_factory=dict)
    devices: Mapping[str, str] = field(default_factory=dict)

    def over(self, base: DetectConfig, ward_of: Callable[[str], str]) -> Callable[[str], DetectConfig]:
        """Return what gives a device's configuration; raises ConfigError at once for any text at fault.

        The same object for the same device and ward, as `TelemetryDetectors` asks for.
        """
        wards = {ward: base.with_overrides(_read(text)) for ward, text in self.wards.items()}
        devices = {device: _read(text) for device, text in self.devices.items()}
        for tables in devices.values():
            base.with_overrides(tables)
        merged: dict[tuple[str, str], DetectConfig] = {}

        def config_of(device_id: str) -> DetectConfig:
            ward = ward_of(device_id)
            config = wards.get(ward, base)
            if device_id not in devices:
                return config
            key = (device_id, ward if ward in wards else "")
            if key not in merged:
                merged[key] = config.with_overrides(devices[device_id])
            return merged[key]

        return config_of


def _read(text: str) -> dict[str, Any]:
    tables = read_toml(text)
    if "fleet" in tables:
        message = "[fleet] is about all devices of a build: no ward and no device has limits of its own"
        raise ConfigError(message)
    return tables
