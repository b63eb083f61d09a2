"""How two devices with the same noise are told of."""

import math

from processors.detect.config import SameNoiseLimits
from processors.detect.findings import MAX_SCORE
from processors.samenoise.pair import Pair
from schemas.mdc import label
from schemas.records import EvidenceRef, Finding, FindingStatus, Severity

RULE = "same_noise"


class Telling:
    """Makes findings; `digest` is that of the configuration."""

    def __init__(self, limits: SameNoiseLimits, digest: str) -> None:
        self._limits, self._digest = limits, digest

    def finding(self, pair: Pair, status: FindingStatus, time_us: int) -> Finding:
        """Tell of a pair whose finding is open, or was until now; no measured value stands in it."""
        mine, its = (pair.one, pair.other) if pair.told_of == pair.one.device_id else (pair.other, pair.one)
        is_over = status is FindingStatus.CLEARED
        signals = ", ".join(label(code) for code in sorted(pair.signals))
        if is_over:
            text = f"{signals}: the noise is not that of {its.device_id} any more, or nobody hears both"
        else:
            text = (
                f"{signals}: the readings go up and down as those of {its.device_id} do, "
                f"over {pair.covered} changes, whatever their levels: one source feeds both, or one copies "
                "the other. Two monitors at one patient look like this too: ask the ward first"
            )
        places = dict.fromkeys((its.first, mine.first, its.last, mine.last))
        first = mine.first
        return Finding(
            rule=RULE,
            severity=Severity.INFORMATIONAL if is_over else Severity.HIGH,
            device_id=mine.device_id,
            time_us=time_us,
            explanation=text,
            evidence=tuple(EvidenceRef(*place) for place in places),
            score=0.0 if is_over else self._score(pair),
            status=status,
            parameters={
                "other": its.device_id,
                "codes": " ".join(str(code) for code in sorted(pair.signals)),
                "covered": str(pair.covered),
                "meetings": str(pair.meetings),
                "alike": str(self._limits.alike),
                "differ": str(self._limits.differ),
                "apart_s": f"{self._limits.apart_us / 1_000_000:g}",
                "config": self._digest,
            },
            cause=f"{its.device_id} from {first.topic}/{first.partition}/{first.offset}",
        )

    def _score(self, pair: Pair) -> float:
        return max(1.0, math.floor(2 * min(MAX_SCORE, pair.covered / self._limits.alike)) / 2)
