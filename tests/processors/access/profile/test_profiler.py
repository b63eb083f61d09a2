"""What holds for every rule about persons: who has a profile, what costs what, ids of their own."""

from itertools import pairwise

import pytest

from processors.access.profile import Profile, decode_profile
from processors.detect.errors import StateError
from processors.model import RawRecord
from schemas.decisions import DecisionKind, DecisionReason
from schemas.records import FindingStatus
from tests.kit.decided import HOUR_S, PROFILER, TOPIC, MemoryProfiles, decision, record_of, run

NO_PERMIT = DecisionReason.NO_PERMIT


def test_persons_are_apart() -> None:
    doors = [
        decision(i, reason=NO_PERMIT, device_id=f"did:x:{i}", subject=f"did:example:{i % 2}")
        for i in range(10)
    ]
    assert run(doors) == []


def test_the_end_of_a_permit_is_nobodys_doing() -> None:
    kinds = (DecisionKind.REVOCATION, DecisionKind.EXPIRY)
    ends = [decision(i, reason=NO_PERMIT, kind=kinds[i % 2], device_id=f"did:x:{i}") for i in range(40)]
    profiles = MemoryProfiles()
    assert run(ends, profiles) == []
    assert not profiles.profiles


def test_invented_names_begin_no_profile() -> None:
    profiles = MemoryProfiles()
    reasons = ("unknown_subject", "failed_at_device", "session_of_another", "stale_registry", "no_policy")
    batch = [
        record_of(decision(i, subject=f"\N{SNOWMAN}{i}" * 200, reason=DecisionReason(reasons[i % 5])), i)
        for i in range(50)
    ]
    profiled = PROFILER.process(batch, profiles)
    assert (profiled.strangers, profiled.judged, profiles.profiles) == (50, 0, {})


def test_a_record_that_is_not_ours_costs_itself_only() -> None:
    good = record_of(decision(), 2)
    broken = [
        RawRecord(TOPIC, 0, 0, 0, None, None),
        RawRecord(TOPIC, 0, 1, 0, good.key, (good.value or b"")[:-1]),
        RawRecord(TOPIC, 0, 3, 0, b"somebody else", good.value),
    ]
    profiled = PROFILER.process([*broken, good], MemoryProfiles())
    assert [record.offset for record, _ in profiled.unreadable] == [0, 1, 3]
    assert profiled.judged == 1


def test_a_state_of_another_kind_is_refused() -> None:
    data = Profile().encode()
    assert decode_profile(data) == Profile()
    for broken in (b"", data[:-1], data + b"\0", record_of(decision(), 0).value or b""):
        with pytest.raises(StateError):
            decode_profile(broken)


def test_causes_of_their_own_have_ids_of_their_own() -> None:
    doors = [
        decision(8 * HOUR_S + i, reason=NO_PERMIT, device_id="did:x:1", action=f"a{i}", ward=f"w{i}")
        for i in range(4)
    ]
    found = [each for each in run(doors) if each.status is FindingStatus.OPENED]
    assert {each.rule for each in found} == {"privilege_probing", "off_shift_access", "impossible_travel"}
    assert all(one.id != other.id for one, other in pairwise(found))
