"""Whatever comes, in whatever batches, wherever a worker restarts: the same findings from a bounded state."""

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from processors.access.profile import ProfileConfig, Profiler, decode_profile
from processors.access.profile.memory import MAX_DENIALS, MAX_EXPORTS, MAX_HABIT_DAYS, MAX_PLACES
from processors.detect.errors import DetectError
from processors.model import RawRecord
from schemas.decisions import DecisionKind, DecisionReason
from schemas.records import Finding, FindingStatus, Severity
from tests.kit.decided import MemoryProfiles, decision, record_of

PROFILER = Profiler(ProfileConfig.default())
RANKS = list(Severity)
MAX_TIME_US = 2**62

texts = st.one_of(
    st.sampled_from(["a", "b", ""]), st.text(st.characters(exclude_categories=["Cs"]), max_size=512)
)
few_minutes = st.integers(0, 240).map(lambda n: 15.0 * n)
any_time = st.floats(-4e9, 4e9)
changes = st.fixed_dictionaries(
    {
        "subject": st.one_of(st.sampled_from(["nora", "nora", "nils"]), texts),
        "device_id": st.one_of(st.integers(0, 12).map(lambda n: f"did:x:{n}"), texts),
        "action": st.one_of(st.sampled_from(["export", "export", "view", "login", "unlock"]), texts),
        "ward": st.one_of(st.sampled_from(["ICU-1", "ICU-2", ""]), texts),
        "site": st.one_of(st.sampled_from(["", "", "north", "south"]), texts),
        "shifts": st.one_of(st.sampled_from(["", "07:00-19:00", "19:00-07:00", "00:00-00:00"]), texts),
        "reason": st.one_of(
            st.sampled_from([DecisionReason.POLICY, DecisionReason.NO_PERMIT]),
            st.sampled_from(DecisionReason),
        ),
        "kind": st.sampled_from([DecisionKind.REQUEST] * 5 + list(DecisionKind)),
        "emergency": st.booleans(),
    }
)
streams = st.lists(st.tuples(st.one_of(few_minutes, few_minutes, any_time), changes), max_size=80)


def records_of(stream: Sequence[tuple[float, dict[str, Any]]]) -> list[RawRecord]:
    return [record_of(decision(after_s, **each), i) for i, (after_s, each) in enumerate(stream)]


@settings(max_examples=150)
@given(streams, st.sets(st.integers(0, 79), max_size=10))
def test_any_stream_any_batches_any_restart(
    stream: list[tuple[float, dict[str, Any]]], cuts: set[int]
) -> None:
    records, whole, cut = records_of(stream), MemoryProfiles(), MemoryProfiles()
    expected = PROFILER.process(records, whole)
    assert not expected.unreadable
    found: list[Finding] = []
    start = 0
    for end in [*sorted(cut_at for cut_at in cuts if cut_at < len(records)), len(records)]:
        found += PROFILER.process(records[start:end], cut).findings
        cut.reload()
        start = end
    assert found == expected.findings
    assert cut.dump() == whole.dump()
    for data in whole.dump().values():
        assert decode_profile(data).encode() == data


@settings(max_examples=150)
@given(streams)
def test_a_finding_is_opened_before_it_is_updated_and_never_twice(
    stream: list[tuple[float, dict[str, Any]]],
) -> None:
    severities: dict[bytes, Severity] = {}
    over: set[bytes] = set()
    for each in PROFILER.process(records_of(stream), MemoryProfiles()).findings:
        assert each.id not in over
        if each.status is FindingStatus.OPENED:
            assert each.id not in severities
        elif each.status is FindingStatus.UPDATED:
            assert RANKS.index(each.severity) >= RANKS.index(severities[each.id])
        else:
            assert each.id in severities
            over.add(each.id)
        severities[each.id] = each.severity
        assert 1 <= len(each.evidence) <= 20
        assert each.evidence[-1].digest is not None
        assert each.score >= 1 or each.status is FindingStatus.CLEARED
        each.encode(bytes(16))


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.lists(changes, min_size=1, max_size=8))
def test_a_profile_stays_small_under_a_flood(seed: int, kinds: list[dict[str, Any]]) -> None:
    profiles, long_name = MemoryProfiles(), "did:x:" + 480 * "\N{SNOWMAN}"
    flood = [
        record_of(
            decision(
                (seed + 7 * i) % 1000,
                **{
                    **kinds[i % len(kinds)],
                    "subject": "nora",
                    "device_id": f"{long_name}{i}",
                    "ward": f"{i}",
                },
            ),
            i,
        )
        for i in range(300)
    ]
    PROFILER.process(flood, profiles)
    for profile in profiles.profiles.values():
        assert len(profile.denials) <= MAX_DENIALS
        assert len(profile.exports) <= MAX_EXPORTS
        assert len(profile.peaks) <= MAX_HABIT_DAYS + 1
        assert len(profile.places) <= MAX_PLACES
        assert len(profile.episodes) <= 5
        assert len(profile.encode()) < 16_384


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_foreign_state_bytes_are_refused(data: bytes) -> None:
    try:
        decode_profile(data)
    except DetectError:
        return
    raise AssertionError("read as a profile")


def test_times_at_the_ends_of_the_calendar_are_judged() -> None:
    extremes = [
        record_of(decision(time_us=time_us, ward=f"w{i}"), i)
        for i, time_us in enumerate((MAX_TIME_US, -MAX_TIME_US, 0, MAX_TIME_US))
    ]
    profiles = MemoryProfiles()
    PROFILER.process(extremes, profiles)
    before = profiles.dump()
    profiles.reload()
    assert profiles.dump() == before
