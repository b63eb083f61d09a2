"""Tells by its log whether a broker broke its own word (docs/faults.md); what it shows then is nobody's."""

import re
from pathlib import Path

MAP_FAULT = b"a fault occurred in an unsafe memory access operation"
_LOST_MARKERS = re.compile(rb"Couldn't find leader endpoint for partitions HashSet\(([^)\n]*)\)")


def has_broker_fault(data_dir: Path) -> bool:
    """It broke its own log, in one of two ways.

    Its memory maps failed: an index on a full disk has no page for its next entry (SIGBUS). It answers with
    an error and leaves the batch in its file, unknown to its own books: an abort that follows does not hide
    it. Or a transaction ended while partitions had no leader, so without their markers: what was aborted may
    show, and what was committed may be taken back.
    """
    log = (data_dir / "run" / "kafka.log").read_bytes()
    return MAP_FAULT in log or any(map(_is_of_a_transaction, _LOST_MARKERS.findall(log)))


def _is_of_a_transaction(partitions: bytes) -> bool:
    """Tell whether partitions of many topics are meant: one that is deleted takes only its own along."""
    return len({each.rpartition(b"-")[0] for each in partitions.split(b", ")}) > 1
