"""What is normal for a person's access: one TOML file, cited by its SHA-256 in every finding.

`defaults.toml` ships with the package and says why its numbers are what they are.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from processors.access.profile.memory import MAX_DENIALS, MAX_EXPORTS, MAX_HABIT_DAYS
from processors.detect.errors import ConfigError
from processors.detect.tables import count_of, names_of, number_of, seconds_of, table_of
from schemas.decisions import DecisionReason

_US = 1_000_000
_PERMITS = frozenset({DecisionReason.POLICY, DecisionReason.BREAK_GLASS})
_DENIALS = frozenset(reason.value for reason in DecisionReason) - {reason.value for reason in _PERMITS}
_MAX_REPEATED = 1_000_000


@dataclass(frozen=True, slots=True)
class ProbingLimits:
    """How many different devices or actions, denied for these reasons within the window, are too many."""

    window_us: int
    device_limit: int
    action_limit: int
    quiet_us: int
    reasons: frozenset[str]


@dataclass(frozen=True, slots=True)
class ShiftLimits:
    """How far outside a shift is worth telling, and how far is bad."""

    grace_us: int
    far_us: int
    repeated: int
    quiet_us: int


@dataclass(frozen=True, slots=True)
class TravelLimits:
    """Within what time nobody gets from one ward to another, and from one site to another."""

    ward_us: int
    site_us: int
    repeated: int
    quiet_us: int


@dataclass(frozen=True, slots=True)
class DormantLimits:
    """After what time without activity a credential counts as dormant."""

    after_us: int
    quiet_us: int


@dataclass(frozen=True, slots=True)
class ExportLimits:
    """How many permits of these actions within the window are too many, at all and against the habit."""

    actions: frozenset[str]
    window_us: int
    limit: int
    multiple: float
    habit_days: int
    habit_floor: int
    quiet_us: int


@dataclass(frozen=True, slots=True)
class ProfileConfig:
    """One parsed configuration and the digest of the text that it was parsed from; times in microseconds."""

    probing: ProbingLimits
    shift: ShiftLimits
    travel: TravelLimits
    dormant: DormantLimits
    export: ExportLimits
    digest: str
    """`sha256:` and the hex digest of the file, as `sha256sum` prints it."""

    @classmethod
    def default(cls) -> "ProfileConfig":
        """Read the configuration that ships with the package."""
        found = resources.files("processors.access.profile").joinpath("defaults.toml")
        return cls.parse(found.read_text(encoding="utf-8"))

    @classmethod
    def parse(cls, text: str) -> "ProfileConfig":
        """Read a configuration; raises ConfigError naming the table and field at fault."""
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            message = f"the configuration is not TOML: {error}"
            raise ConfigError(message) from error
        return cls(
            _probing(_Fields(tables, "privilege_probing")),
            _shift(_Fields(tables, "off_shift_access")),
            _travel(_Fields(tables, "impossible_travel")),
            _dormant(_Fields(tables, "dormant_credential")),
            _export(_Fields(tables, "mass_export")),
            digest="sha256:" + hashlib.sha256(text.encode()).hexdigest(),
        )


class _Fields:
    """The fields of one table; each is asked for by its name."""

    def __init__(self, tables: Mapping[str, Any], name: str) -> None:
        self._table, self._where = table_of(tables, name), name
        self._asked: set[str] = set()

    def us(self, name: str) -> int:
        return round(seconds_of(self._known(name), self._where, name) * _US)

    def count(self, name: str, most: int) -> int:
        return count_of(self._known(name), self._where, name, most)

    def names(self, name: str) -> frozenset[str]:
        return names_of(self._known(name), self._where, name)

    def above_one(self, name: str) -> float:
        found = number_of(self._known(name), self._where, name)
        if found <= 1:
            raise self.error(f"{name} must be above 1, is {found}")
        return found

    def error(self, what: str) -> ConfigError:
        return ConfigError(f"[{self._where}] {what}")

    def check_all_asked(self) -> None:
        """Refuse fields that nobody asked for: one that is spelled wrongly would silently be none."""
        unknown = set(self._table) - self._asked
        if unknown:
            raise self.error(f"has unknown fields {sorted(unknown)}")

    def _known(self, name: str) -> Mapping[str, Any]:
        self._asked.add(name)
        return self._table


def _probing(fields: _Fields) -> ProbingLimits:
    found = ProbingLimits(
        fields.us("window_s"),
        fields.count("device_limit", MAX_DENIALS),
        fields.count("action_limit", MAX_DENIALS),
        fields.us("quiet_s"),
        fields.names("reasons"),
    )
    fields.check_all_asked()
    if unknown := sorted(found.reasons - _DENIALS):
        raise fields.error(f"reasons: {unknown[0]!r} is no reason of a denial")
    return found


def _shift(fields: _Fields) -> ShiftLimits:
    found = ShiftLimits(
        fields.us("grace_s"),
        fields.us("far_s"),
        fields.count("repeated", _MAX_REPEATED),
        fields.us("quiet_s"),
    )
    fields.check_all_asked()
    if found.far_us <= found.grace_us:
        raise fields.error("far_s must be above grace_s")
    return found


def _travel(fields: _Fields) -> TravelLimits:
    found = TravelLimits(
        fields.us("ward_s"),
        fields.us("site_s"),
        fields.count("repeated", _MAX_REPEATED),
        fields.us("quiet_s"),
    )
    fields.check_all_asked()
    return found


def _dormant(fields: _Fields) -> DormantLimits:
    found = DormantLimits(fields.us("after_s"), fields.us("quiet_s"))
    fields.check_all_asked()
    if found.after_us <= found.quiet_us:
        raise fields.error("after_s must be above quiet_s")
    return found


def _export(fields: _Fields) -> ExportLimits:
    found = ExportLimits(
        fields.names("actions"),
        fields.us("window_s"),
        fields.count("limit", MAX_EXPORTS),
        fields.above_one("multiple"),
        fields.count("habit_days", MAX_HABIT_DAYS),
        fields.count("habit_floor", MAX_EXPORTS),
        fields.us("quiet_s"),
    )
    fields.check_all_asked()
    return found
