"""The kinds of fault, by what they strike. `FAULTS` is the whole table."""

from tests.faults.machine.faults.table import FAULTS, Fault

__all__ = ["FAULTS", "Fault"]
