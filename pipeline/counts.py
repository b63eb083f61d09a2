"""How much a batch came to, for the metrics: what is left of an outcome once it is written."""

from collections import Counter
from typing import NamedTuple

from pipeline import metrics
from processors.model import Outcome


class Counts(NamedTuple):
    """How many of what a batch of a partition came to."""

    accepted: int
    rejected: Counter[str]
    decisions: Counter[tuple[str, str]]
    findings: Counter[str]

    @classmethod
    def of(cls, outcome: Outcome) -> "Counts":
        """Count an outcome."""
        return cls(
            len(outcome.accepted),
            Counter(each.reason.value for each in outcome.rejected),
            Counter((each.effect.value, each.reason.value) for each in outcome.decisions),
            Counter(each.rule for each in outcome.findings),
        )

    def tell(self, topic: str) -> None:
        """Add them to the metrics."""
        metrics.ACCEPTED.labels(topic).inc(self.accepted)
        for reason, number in self.rejected.items():
            metrics.REJECTED.labels(topic, reason).inc(number)
        for (effect, why), number in self.decisions.items():
            metrics.DECISIONS.labels(effect, why).inc(number)
        for rule, number in self.findings.items():
            metrics.FINDINGS.labels(rule).inc(number)
