"""Silence: told once it is too long, cleared under the same id."""

import pytest

from processors.detect import SilenceRule
from processors.detect.errors import ConfigError
from schemas.records import EvidenceRef, FindingStatus

LAST = EvidenceRef("device.telemetry.raw", 0, 41)
BACK = EvidenceRef("device.telemetry.raw", 0, 42)


def test_silence_begins_after_the_limit_and_not_at_it() -> None:
    rule = SilenceRule(30.0)
    assert rule.overdue("did:key:a", 1_000, LAST, 31_000_000) is None
    found = rule.overdue("did:key:a", 1_000, LAST, 31_000_001)
    assert found is not None
    assert (found.rule, found.status, found.evidence) == ("silence", FindingStatus.OPENED, (LAST,))
    assert found.time_us == 31_000_001
    assert found.score == 1.0
    assert found.parameters == {"silence_after_s": "30"}


def test_a_return_clears_the_same_finding() -> None:
    rule = SilenceRule(0.5)
    opened = rule.overdue("did:key:a", 1_000, None, 10_000_000)
    cleared = rule.returned("did:key:a", 1_000, LAST, BACK, 12_000)
    assert opened is not None
    assert opened.evidence == ()
    assert cleared.id == opened.id
    assert cleared.status is FindingStatus.CLEARED
    assert cleared.evidence == (LAST, BACK)
    assert cleared.time_us == 12_000_000
    assert rule.returned("did:key:a", 1_000, None, BACK, 12_000).evidence == (BACK,)


def test_another_silence_is_another_finding() -> None:
    rule = SilenceRule(1.0)
    first = rule.overdue("did:key:a", 1_000, LAST, 9_000_000)
    second = rule.overdue("did:key:a", 2_000, LAST, 9_000_000)
    assert first is not None
    assert second is not None
    assert first.id != second.id


def test_a_clock_that_went_back_is_not_silence() -> None:
    assert SilenceRule(1.0).overdue("did:key:a", 9_000, LAST, 0) is None


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_limit_that_makes_no_sense_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError):
        SilenceRule(seconds)
