"""What all parts of the monitor share in a round."""

from dataclasses import dataclass, field

from pipeline.logsource import LogSource
from pipeline.settings import Settings
from pipeline.watch.book import FindingBook
from pipeline.watch.cluster import ClusterFacts
from pipeline.watch.memory import Memory
from pipeline.watch.tail import Tail
from processors.integrity.delays import Growth, Standing
from schemas.trust import TrustRoot


@dataclass(slots=True)
class Watch:
    """The monitor's belongings. Times: `now_s` is monotonic, `now_us` is the wall clock, for findings."""

    settings: Settings
    memory: Memory
    book: FindingBook
    tail: Tail
    source: LogSource
    trust: TrustRoot
    standing: Standing = field(default_factory=Standing)
    growth: Growth = field(default_factory=Growth)
    facts: ClusterFacts | None = None
    """The newest look at the cluster; None while there was none."""
    now_s: float = 0.0
    now_us: int = 0
