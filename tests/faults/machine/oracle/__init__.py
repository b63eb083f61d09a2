"""Judges the product from outside: topics, published files, anchors. It shares no code with what it judges.

What it knows of formats it has from `docs/formats.md`; schemas are read as data. A test holds that nothing of
the product is imported here.
"""

from tests.faults.machine.oracle.oracle import Oracle
from tests.faults.machine.oracle.watcher import Watcher

__all__ = ["Oracle", "Watcher"]
