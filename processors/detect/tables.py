"""Reads tables of a TOML configuration; what is wrong with one is named by table and field."""

import math
from collections.abc import Mapping
from typing import Any

from processors.detect.errors import ConfigError

Table = Mapping[str, Any]


def table_of(tables: Table, name: str) -> Table:
    """Return a table within another; raises ConfigError where it is missing."""
    found = tables.get(name)
    if not isinstance(found, dict):
        message = f"table [{name}] is missing"
        raise ConfigError(message)
    return found


def number_of(table: Table, where: str, name: str) -> float:
    """Return a finite number; raises ConfigError for anything else."""
    found = table.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        message = f"[{where}] {name} must be a finite number, is {found!r}"
        raise ConfigError(message)
    return float(found)


def seconds_of(table: Table, where: str, name: str) -> float:
    """Return a time above 0 and below 1e9 s; raises ConfigError for anything else."""
    found = number_of(table, where, name)
    if not 0 < found < 10**9:
        message = f"[{where}] {name} must be above 0 and below 1e9, is {found}"
        raise ConfigError(message)
    return found


def count_of(table: Table, where: str, name: str, most: int) -> int:
    """Return a whole number from 1 to `most`; raises ConfigError for anything else."""
    found = table.get(name)
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= most:
        message = f"[{where}] {name} must be a whole number from 1 to {most}, is {found!r}"
        raise ConfigError(message)
    return found


def names_of(table: Table, where: str, name: str) -> frozenset[str]:
    """Return a list of texts that is not empty; raises ConfigError for anything else."""
    found = table.get(name)
    if not isinstance(found, list) or not found or not all(isinstance(each, str) for each in found):
        message = f"[{where}] {name} must be a list of texts, is {found!r}"
        raise ConfigError(message)
    return frozenset(found)


def positive_of(table: Table, where: str, name: str) -> float:
    """Return a finite number above 0; raises ConfigError for anything else."""
    found = number_of(table, where, name)
    if found <= 0:
        message = f"[{where}] {name} must be above 0, is {found}"
        raise ConfigError(message)
    return found


def flag_of(table: Table, where: str, name: str, *, default: bool) -> bool:
    """Return true or false, `default` where the field is missing; raises ConfigError for anything else."""
    found = table.get(name, default)
    if not isinstance(found, bool):
        message = f"[{where}] {name} must be true or false, is {found!r}"
        raise ConfigError(message)
    return found


def range_of(table: Table, where: str, name: str) -> tuple[float, float]:
    """Return two finite numbers that do not fall; raises ConfigError for anything else."""
    found = table.get(name)
    if not isinstance(found, list) or len(found) != 2:
        message = f"[{where}] {name} must be two numbers, is {found!r}"
        raise ConfigError(message)
    first, last = (number_of({name: each}, where, name) for each in found)
    if first > last:
        message = f"[{where}] {name} must not fall, is {found!r}"
        raise ConfigError(message)
    return first, last


def known_fields(table: Table, where: str, names: set[str]) -> None:
    """Refuse fields that nobody reads: a misspelt one would be a limit that does not hold."""
    unknown = set(table) - names
    if unknown:
        message = f"[{where}] has unknown fields {sorted(unknown)}"
        raise ConfigError(message)
