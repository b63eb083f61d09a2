"""What wards and devices have set otherwise: one document, tables in the shape of `defaults.toml`.

    [ward.nursery.signal.147842]
    low = 40.0
    high = 320.0

    [device."did:key:z6Mk...".signal.147842]
    stuck_after = 90

A device's own override its ward's, and both the defaults, field by field. Every finding cites the digest of
what was in force for its device.

A device may come to any ward at any time, so whatever a document sets must make sense together with whatever
else it sets. That is why fields that limit each other come together (`low` and `high`), why relations keep
their kind and codes, and why all else is checked by itself.
"""

from collections.abc import Callable, Mapping
from typing import Any

from processors.detect.config import DetectConfig, read_toml
from processors.detect.errors import ConfigError
from processors.detect.tables import Table

MAX_BYTES = 48 * 1024
"""A signed entry with it is below what the topic of policies takes."""
MAX_LINE = 512
"""So no key has many parts and no number many digits: a TOML reader takes quadratic time for them."""
MAX_WARDS, MAX_DEVICES = 64, 256
MAX_WARD_NAME, MAX_DEVICE_NAME = 128, 512
MAX_SIGNALS = 32
"""Of one ward or device: each may cost a device's state what `docs/detectors.md` says of a signal."""
MAX_LIST = 8
LARGEST, SMALLEST = 1e9, 1e-9
"""Of numbers that are not 0: whatever is divided by them is finite."""
_MAX_ERROR = 500
_FIXED = frozenset({"kind", "codes"})
TABLES = ("signal", "relation", "blocks", "telemetry", "clock", "reporting", "replay")
"""Those by which the readings of one device are judged; the others are about more than that."""

ConfigOf = Callable[[str], DetectConfig]
"""The configuration that is in force for a device id."""


class Overrides:
    """A document, read and checked. Gives the same object for the same device, ward and document."""

    def __init__(
        self,
        base: DetectConfig,
        ward_tables: Mapping[str, Table],
        device_tables: Mapping[str, Table],
        before: "Overrides | None" = None,
    ) -> None:
        """Check what wards and devices set; raises ConfigError. What `before` has is taken from it."""
        self.base, self.ward_tables, self.device_tables = base, ward_tables, device_tables
        self.wards: dict[str, DetectConfig] = {}
        """What is in force in a ward."""
        self.merged: dict[str, tuple[DetectConfig, DetectConfig]] = {}
        """Of a device: its ward's, and with its own over it. One each, of the ward that it was last in."""
        for name, table in ward_tables.items():
            if before is not None and _is_same(before.ward_tables.get(name), table):
                self.wards[name] = before.wards[name]
            else:
                self.wards[name] = _over(base, _where("ward", name), table)
        for name, table in device_tables.items():
            if before is None or not _is_same(before.device_tables.get(name), table):
                _over(base, _where("device", name), table)
            elif name in before.merged:
                self.merged[name] = before.merged[name]

    @classmethod
    def parse(cls, text: str, base: DetectConfig, before: "Overrides | None" = None) -> "Overrides":
        """Read a document; raises ConfigError naming the ward or device, the table and the field at fault.

        What `before`, a document over the same `base`, has already is not checked again and is the same
        object here, so that a version costs what it changes.
        """
        try:
            tables = _bounded(text)
            unknown = sorted(tables.keys() - {"ward", "device"})
            if unknown:
                message = f"[{unknown[0]}] is unknown: expected [ward.NAME...] and [device.DID...]"
                raise ConfigError(message)
            wards = _named(tables, "ward", MAX_WARDS, MAX_WARD_NAME)
            devices = _named(tables, "device", MAX_DEVICES, MAX_DEVICE_NAME)
            if not wards and not devices:
                message = "nothing is set: no [ward.NAME...] and no [device.DID...]"
                raise ConfigError(message)
            return cls(base, wards, devices, before)
        except ConfigError as error:
            raise ConfigError(str(error)[:_MAX_ERROR]) from error

    def config_of(self, device_id: str, ward: str) -> DetectConfig:
        """Return what is in force for a device in a ward; of a device without one, `ward` is empty."""
        config = self.wards.get(ward, self.base)
        own = self.device_tables.get(device_id)
        if own is None:
            return config
        merged = self.merged.get(device_id)
        if merged is None or merged[0] is not config:
            merged = self.merged[device_id] = config, config.with_overrides(own)
        return merged[1]


def _bounded(text: str) -> dict[str, Any]:
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        message = f"{size} bytes, allowed are {MAX_BYTES}"
        raise ConfigError(message)
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > MAX_LINE:
            message = f"line {number} has {len(line)} characters, allowed are {MAX_LINE}"
            raise ConfigError(message)
    return read_toml(text)


def _named(tables: Table, kind: str, most: int, longest: int) -> Mapping[str, Table]:
    """Return the tables of a kind by the names of whom they are for."""
    found = tables.get(kind, {})
    if not isinstance(found, dict):
        message = f"expected [{kind}.NAME...], not a value `{kind}`"
        raise ConfigError(message)
    if len(found) > most:
        message = f"[{kind}] names {len(found)}, allowed are {most}"
        raise ConfigError(message)
    for name, table in found.items():
        where = _where(kind, name)
        if not 0 < len(name) <= longest:
            message = f"[{where}] has a name of {len(name)} characters, allowed are 1 to {longest}"
            raise ConfigError(message)
        if kind == "device" and not name.startswith("did:"):
            message = f"[{where}] is not the DID of a device"
            raise ConfigError(message)
        _table(table, where)
    return found


def _where(kind: str, name: str) -> str:
    return f"{kind}.{name[:MAX_WARD_NAME]}"


def _is_same(one: Table | None, other: Table) -> bool:
    # Spelled out, since 1, 1.0 and true are equal and have other digests, if they are allowed at all.
    return repr(one) == repr(other)


def _over(base: DetectConfig, where: str, tables: Table) -> DetectConfig:
    """Check what one ward or device sets, and lay it over the defaults."""
    for name, table in tables.items():
        at = f"{where}.{name}"
        if name not in TABLES:
            message = f"[{at}] cannot be set for a ward or a device, only {', '.join(TABLES)}"
            raise ConfigError(message)
        known = base.tables[name]
        if name == "signal":
            _signals(_table(table, at), at)
        elif name == "relation":
            for each, fields in _table(table, at).items():
                _fields(fields, f"{at}.{each}", frozenset(known.get(each, {})) - _FIXED)
        else:
            _fields(table, at, frozenset(known))
    try:
        config = base.with_overrides(tables)
    except ConfigError as error:
        message = f"{where}: {error}"
        raise ConfigError(message) from error
    for code, fields in tables.get("signal", {}).items():
        if ("low" in fields) is not ("high" in fields):
            message = f"[{where}.signal.{code}] low and high come together"
            raise ConfigError(message)
    return config


def _signals(tables: Table, where: str) -> None:
    if len(tables) > MAX_SIGNALS:
        message = f"[{where}] has {len(tables)} codes, allowed are {MAX_SIGNALS}"
        raise ConfigError(message)
    for code, fields in tables.items():
        at = f"{where}.{code}"
        if not code.isascii() or not code.isdigit() or code.startswith("0"):
            # Another spelling of a code would be another table over the same signal.
            message = f"[{at}] is not an MDC code: decimal, without leading zeros"
            raise ConfigError(message)
        _fields(fields, at, None)


def _fields(fields: Any, where: str, known: frozenset[str] | None) -> None:
    """Refuse fields that nobody reads, and values that no field has; `known` None: the reader knows them."""
    for name, value in _table(fields, where).items():
        if known is not None and name not in known:
            names = ", ".join(sorted(known)) or "no such table in the defaults"
            message = f"[{where}] {name} cannot be set: {names}"
            raise ConfigError(message)
        values = value if isinstance(value, list) else [value]
        if len(values) > MAX_LIST or not all(map(_is_plain, values)):
            message = (
                f"[{where}] {name} must be true, false, a text or a number, 0 or from {SMALLEST:g} to "
                f"{LARGEST:g} in size, or a list of at most {MAX_LIST} of them"
            )
            raise ConfigError(message)


def _is_plain(value: Any) -> bool:
    if isinstance(value, bool | str):
        return True
    return isinstance(value, int | float) and (value == 0 or SMALLEST <= abs(value) <= LARGEST)


def _table(value: Any, where: str) -> Table:
    if not isinstance(value, dict) or not value:
        message = f"[{where}] must be a table that sets something"
        raise ConfigError(message)
    return value
