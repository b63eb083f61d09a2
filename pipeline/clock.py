"""What time alone can say: which devices are silent.

Judged only where we have seen everything up to a moment: log ends are asked for, and once the position has
passed them, all that was appended before the question has been judged. Deadlines start anew after a recovery
or an outage: an outage of ours is not a fleet falling silent.
"""

import time
from dataclasses import dataclass

from confluent_kafka.admin import AdminClient

from pipeline import kafka
from pipeline.statestore import Partition

OUTAGE_S = 5.0
"""When knowledge of a partition stood still for so long, its deadlines start anew."""


@dataclass(slots=True)
class _Knowledge:
    since_us: int
    complete_until_us: int
    asked_us: int = 0
    asked_end: int | None = None


class FleetClock:
    """Tracks, for each assigned partition, up to which moment all its records have been judged."""

    def __init__(self, partitions: list[Partition]) -> None:
        now_us = time.time_ns() // 1000
        self._known = {partition: _Knowledge(now_us, now_us) for partition in partitions}

    def ask(self, admin: AdminClient) -> None:
        """Ask for log ends where no earlier question is open; raises KafkaException when nobody answers."""
        open_ = [p for p, k in self._known.items() if k.asked_end is None]
        if not open_:
            return
        now_us = time.time_ns() // 1000
        for partition, end in kafka.end_offsets(admin, open_).items():
            self._known[partition].asked_us, self._known[partition].asked_end = now_us, end

    def reached(self, next_offsets: dict[Partition, int]) -> None:
        """Take note of positions: a question whose end was passed is answered."""
        for partition, known in self._known.items():
            if known.asked_end is None or next_offsets[partition] < known.asked_end:
                continue
            if known.asked_us - known.complete_until_us > OUTAGE_S * 1e6:
                known.since_us = known.asked_us
            known.complete_until_us, known.asked_end = known.asked_us, None

    def horizon_us(self, partition: Partition, silence_after_s: float) -> int | None:
        """Return the moment since which a device must have spoken; None while deadlines start anew."""
        known = self._known[partition]
        horizon_us = known.complete_until_us - round(silence_after_s * 1e6)
        return None if known.since_us > horizon_us else horizon_us

    def complete_until_us(self, partition: Partition) -> int:
        """Return the moment up to which all records of a partition have been judged."""
        return self._known[partition].complete_until_us
