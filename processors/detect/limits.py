"""Limits of one signal, and how they are read from its table."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from processors.detect.blocks import THRESHOLDS, TINY, BlockLimits, RareLimits
from processors.detect.errors import ConfigError
from processors.detect.tables import Table, count_of, flag_of, known_fields, number_of, positive_of, range_of

_MAX_STUCK_AFTER = 1_000_000
_MAX_COUNT = 10_000
_FIELDS = {
    "low", "high", "off", "ceiling", "stuck_after", "max_change", "noise", "spread", "step", "jitter",
    "course", "units",
}  # fmt: skip

UNITS: Mapping[str, tuple[float, float]] = {
    # value there = factor * value here + offset (NIST SP 811, appendix B.8)
    "kPa": (0.133322, 0.0),
    "mmHg": (7.50062, 0.0),
    "°F": (1.8, 32.0),
    "°C": (1 / 1.8, -32.0 / 1.8),
}


@dataclass(frozen=True, slots=True)
class SignalLimits:
    """Limits of one signal, in its unit; `off` is an inclusive range, `None` parts are not judged."""

    code: int
    low: float
    high: float
    off: tuple[float, float] | None
    ceiling: float | None
    stuck_after: int | None
    course: BlockLimits | None
    units: tuple[str, ...]


def read_signal(code: str, table: Table, blocks: Table) -> SignalLimits:
    """Read one `[signal.CODE]`; `blocks` is the table of thresholds for all. Raises ConfigError."""
    where = f"signal.{code}"
    if not code.isascii() or not code.isdigit() or not 0 < int(code) < 2**31:
        message = f"[{where}] is not an MDC code from 1 to 2^31 - 1"
        raise ConfigError(message)
    known_fields(table, where, _FIELDS)
    low, high = number_of(table, where, "low"), number_of(table, where, "high")
    if not low < high:
        message = f"[{where}] low {low} must be below high {high}"
        raise ConfigError(message)
    return SignalLimits(
        int(code),
        low,
        high,
        range_of(table, where, "off") if "off" in table else None,
        number_of(table, where, "ceiling") if "ceiling" in table else None,
        count_of(table, where, "stuck_after", _MAX_STUCK_AFTER) if "stuck_after" in table else None,
        _course(table, where, blocks) if flag_of(table, where, "course", default=True) else None,
        _units(table, where),
    )


def _course(table: Table, where: str, blocks: Table) -> BlockLimits:
    def threshold(name: str) -> float:
        return positive_of(blocks, "blocks", name)

    def usual(name: str) -> float:
        return positive_of(table, where, name) if name in table else TINY

    noise, spread = usual("noise"), usual("spread")
    step = positive_of(table, where, "step") if "step" in table else 0.0
    max_change = positive_of(table, where, "max_change") if "max_change" in table else math.inf
    warm_blocks = count_of(blocks, "blocks", "warm_blocks", _MAX_COUNT)
    drift_slack, drift_limit = threshold("drift_slack"), threshold("drift_limit")
    ratio_twice, smooth_ratio = threshold("noise_ratio_twice"), threshold("smooth_ratio")
    jitter = flag_of(table, where, "jitter", default=False)
    jitter_range, jitter_fill = threshold("jitter_range"), threshold("jitter_fill")
    jitter_calm, ratio_once = threshold("jitter_calm"), threshold("noise_ratio")
    grid_evidence = count_of(blocks, "blocks", "grid_evidence", _MAX_COUNT)
    return BlockLimits(
        noise=noise,
        spread=spread,
        step=step,
        max_change=max_change,
        warm_blocks=warm_blocks,
        drift_slack=drift_slack,
        drift_limit=drift_limit,
        ratio_twice=ratio_twice,
        jitter=jitter,
        rare=RareLimits(
            ratio_once=ratio_once,
            smooth_ratio=smooth_ratio,
            jitter_range=jitter_range,
            jitter_fill=jitter_fill,
            jitter_calm=jitter_calm,
            grid_evidence=grid_evidence,
        ),
        packed=THRESHOLDS.pack(
            noise,
            spread,
            step,
            max_change,
            warm_blocks,
            ratio_twice,
            smooth_ratio,
            grid_evidence,
            drift_slack,
            drift_limit,
            jitter,
            jitter_range,
            jitter_fill,
            jitter_calm,
            ratio_once,
        ),
    )


def _units(table: Table, where: str) -> tuple[str, ...]:
    found = table.get("units", [])
    if not isinstance(found, list) or not all(each in UNITS for each in found):
        message = f"[{where}] units must be a list of {', '.join(UNITS)}, is {found!r}"
        raise ConfigError(message)
    return tuple(found)


def gate(limits: SignalLimits) -> tuple[float, float]:
    """Return an open interval of values that are neither off, saturated nor out of range."""
    floor, roof = limits.low, limits.high
    if limits.off is not None:
        if limits.off[0] <= floor:
            floor = max(floor, limits.off[1])
        else:
            roof = min(roof, limits.off[0])
    return floor, min(roof, math.inf if limits.ceiling is None else limits.ceiling)
