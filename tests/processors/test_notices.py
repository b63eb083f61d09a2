"""Reading what the correlator reads: findings whole, rejections by their headers alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.model import RawRecord
from processors.notices import FindingNotice, RejectionNotice, read_finding, read_rejection
from schemas.errors import FormatError
from schemas.reasons import Reason
from schemas.records import EvidenceRef, FindingStatus
from tests.kit.noticed import NOW, finding_record


def rejected_record(**changes: bytes | None) -> RawRecord:
    headers: dict[str, bytes | None] = {
        "reason": b"bad_signature",
        "registry.offset": b"7",
        "source": b"device.telemetry.raw/3/41",
        "salt": bytes(16),
        "device": b"did:key:a",
    }
    headers |= changes
    return RawRecord(
        "device.rejected",
        3,
        9,
        NOW,
        b"did:key:of-the-key",
        b"\xff" * 100,
        tuple((name, value) for name, value in headers.items() if value is not None),
    )


def test_a_rejection_is_read_from_its_headers() -> None:
    assert read_rejection(rejected_record()) == RejectionNotice(
        "device.rejected/3/9",
        Reason.BAD_SIGNATURE,
        "did:key:a",
        NOW,
        (EvidenceRef("device.telemetry.raw", 3, 41),),
    )


def test_the_device_may_come_from_the_key_or_not_at_all() -> None:
    assert read_rejection(rejected_record(device=None)).device_id == "did:key:of-the-key"
    without = RawRecord("device.rejected", 3, 9, NOW, b"\xff\x00", None, rejected_record(device=None).headers)
    assert read_rejection(without).device_id is None


@pytest.mark.parametrize(
    "changes",
    [{"reason": None}, {"reason": b"tea_time"}, {"source": None}, {"source": b"a/b"}, {"source": b"a/b/c"}],
)
def test_a_rejection_that_is_not_ours_is_an_error_with_its_place(changes: dict[str, bytes | None]) -> None:
    with pytest.raises(FormatError, match=r"device\.rejected/3/9"):
        read_rejection(rejected_record(**changes))


@settings(max_examples=100)
@given(st.one_of(st.none(), st.binary(max_size=200)))
def test_bytes_that_are_no_finding_are_a_format_error(value: bytes | None) -> None:
    with pytest.raises(FormatError):
        read_finding(RawRecord("device.findings", 0, 0, NOW, None, value))


def test_a_finding_of_an_unknown_rule_is_told_under_its_name() -> None:
    notice = read_finding(finding_record(0, FindingStatus.OPENED, "x", rule="next_years_rule"))
    assert isinstance(notice, FindingNotice)
    assert notice.rule.title == "next_years_rule"


def test_spraying_and_guessing_are_told_apart() -> None:
    notice = read_finding(finding_record(0, FindingStatus.OPENED, "x", rule="repeated_failed_access"))
    assert notice.rule.techniques[0].uid == "T1110.003"
