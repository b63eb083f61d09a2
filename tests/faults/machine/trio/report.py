"""What a run tells: each broker that was taken away, the gaps, the violations."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Kill:
    """One broker taken away, and what came of it."""

    target: str
    node: int
    way: str
    """`kill` (SIGKILL, started again) or `pause` (SIGSTOP past every time-out, SIGCONT)."""
    away_s: float
    gap_s: float = 0.0
    """Longest time without a committed output of a partition, seen by a consumer; the worst partition."""
    sealed_gap_s: float = 0.0
    """The same of published checkpoints."""
    led_s: float | None = None
    """From the kill until no partition was led by that broker or by none: Kafka's own share of the gap. None
    where that was not seen, since the broker was back before it was missed."""
    back_s: float = 0.0
    """From the kill until every partition had news and every replica was in sync again."""
    session_failures: int = 0
    story: list[str] = field(default_factory=list)
    """What the workers logged meanwhile, with seconds since the kill."""


@dataclass(slots=True)
class Report:
    """What `build/trio.json` holds."""

    seed: int
    seconds: float = 0.0
    kills: list[Kill] = field(default_factory=list)
    records: int = 0
    accepted: int = 0
    session_failures: int = 0
    worker_restarts: int = 0
    watchdog_ends: int = 0
    endings: list[str] = field(default_factory=list)
    violations: list[dict[str, str]] = field(default_factory=list)

    @property
    def gap_s(self) -> dict[str, float]:
        """Median and maximum of the gaps, once there are any."""
        return _summary([kill.gap_s for kill in self.kills])

    def to_json(self) -> dict[str, Any]:
        """The report with its summary first."""
        return {"gap_s": self.gap_s, **asdict(self)}

    def to_line(self) -> dict[str, Any]:
        """The run as one schedule of the fault machine, as its runner tallies them."""
        faults = Counter(f"trio_{kill.way}_{kill.target}" for kill in self.kills)
        return {
            "seed": self.seed,
            "kinds": list(faults),
            "records": self.records,
            "seconds": self.seconds,
            "violations": self.violations,
            "faults": dict(faults),
            "restarts": self.worker_restarts,
            "gap_s": self.gap_s,
        }


def _summary(gaps: Sequence[float]) -> dict[str, float]:
    if not gaps:
        return {}
    return {"p50": round(statistics.median(gaps), 2), "max": round(max(gaps), 2)}
