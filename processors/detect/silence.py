"""The rule that time alone triggers: a device that used to report does not report any more.

The stage asks on its clock's ticks, and only for partitions that it has read to the end: an outage of
ours is not a fleet falling silent.
"""

from processors.detect.errors import ConfigError
from schemas.records import EvidenceRef, Finding, FindingStatus, Severity

RULE = "silence"


class SilenceRule:
    """Silence of more than `silence_after_s` seconds of broker time."""

    def __init__(self, silence_after_s: float) -> None:
        if not 0 < silence_after_s < 10**9:
            message = f"silence_after_s must lie above 0 and below 1e9, is {silence_after_s}"
            raise ConfigError(message)
        self._after_s = silence_after_s
        self.limit_us = round(silence_after_s * 1_000_000)
        """The limit in microseconds of broker time."""

    def overdue(
        self, device_id: str, last_append_ms: int, last_ref: EvidenceRef | None, now_us: int
    ) -> Finding | None:
        """Report a device whose last event is too old; `last_ref` cites that event where it is known."""
        quiet_us = now_us - last_append_ms * 1000
        if quiet_us <= self.limit_us:
            return None
        return self._finding(
            device_id,
            last_append_ms,
            evidence=(last_ref,) if last_ref else (),
            time_us=now_us,
            status=FindingStatus.OPENED,
            severity=Severity.MEDIUM,
            score=round(quiet_us / self.limit_us, 1),
            explanation=f"no telemetry for {quiet_us / 1e6:.0f} s; the limit is {self._after_s:g} s",
        )

    def returned(
        self,
        device_id: str,
        last_append_ms: int,
        last_ref: EvidenceRef | None,
        back_ref: EvidenceRef,
        back_append_ms: int,
    ) -> Finding:
        """Clear the finding that `overdue` gave for the same `last_append_ms`: an event came at last."""
        quiet_s = (back_append_ms - last_append_ms) / 1000
        return self._finding(
            device_id,
            last_append_ms,
            evidence=(last_ref, back_ref) if last_ref else (back_ref,),
            time_us=back_append_ms * 1000,
            status=FindingStatus.CLEARED,
            severity=Severity.INFORMATIONAL,
            score=0.0,
            explanation=f"reports again after {quiet_s:.0f} s",
        )

    def _finding(
        self,
        device_id: str,
        last_append_ms: int,
        *,
        evidence: tuple[EvidenceRef, ...],
        time_us: int,
        status: FindingStatus,
        severity: Severity,
        score: float,
        explanation: str,
    ) -> Finding:
        return Finding(
            rule=RULE,
            severity=severity,
            device_id=device_id,
            time_us=time_us,
            explanation=explanation,
            evidence=evidence,
            score=score,
            status=status,
            parameters={"silence_after_s": f"{self._after_s:g}"},
            cause=f"after {last_append_ms}",
        )
