"""What policies are told: shifts, groups, tags; and what cannot be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.access.facts import (
    DAY_MINUTES,
    Asked,
    BadAttributeError,
    Facts,
    Shift,
    facts_of,
    minute_of,
    parse_shifts,
)
from tests.kit.ward import NOW_US, Ward

ASKED = Asked("login", "screen", "TREAT", "s1", is_live=False, subject_signed=False)


def facts(person: dict[str, str], device: dict[str, str], asked: Asked = ASKED) -> Facts:
    ward = Ward(None)
    table = ward.registry.table
    who, what = table.subject(ward.person("p", **person)), table.subject(ward.device("d", **device))
    assert who is not None
    assert what is not None
    return facts_of(who, what, asked, NOW_US)


def test_shifts_are_times_of_the_utc_day() -> None:
    assert parse_shifts("07:00-15:30, 22:00-06:00+01:00") == (Shift(420, 930), Shift(1260, 300))
    assert parse_shifts("00:30-08:00-02:00") == (Shift(150, 600),)
    assert parse_shifts("") == ()
    assert Shift(1260, 300).name == "21:00-05:00"


@pytest.mark.parametrize(
    "text", ["days", "7:00-15:00", "07:00", "24:00-08:00", "07:00-15:60", "07:00-15:00Z"]
)
def test_a_shift_that_is_no_times_of_day_is_an_error_and_not_no_shift(text: str) -> None:
    with pytest.raises(BadAttributeError):
        parse_shifts(text)


@given(st.integers(0, DAY_MINUTES - 1), st.integers(0, DAY_MINUTES - 1), st.integers(0, DAY_MINUTES - 1))
def test_what_is_left_of_a_shift_runs_out_at_its_end(start: int, end: int, minute: int) -> None:
    shift = Shift(start, end)
    left = shift.minutes_left(minute)
    covered = [(start + i) % DAY_MINUTES for i in range((end - start) % DAY_MINUTES or DAY_MINUTES)]
    assert (left > 0) is (minute in covered)
    if left:
        assert (minute + left) % DAY_MINUTES == end


def test_persons_are_in_wards_roles_and_shifts() -> None:
    found = facts({"roles": "nurse, charge_nurse", "wards": "ICU-2,ER", "shift": "19:00-07:00"}, {})
    person = next(each for each in found.entities if each["uid"]["type"] == "Clinician")
    assert [(each["type"], each["id"]) for each in person["parents"]] == [
        ("Ward", "ICU-2"),
        ("Ward", "ER"),
        ("Role", "charge_nurse"),
        ("Role", "nurse"),
        ("Shift", "19:00-07:00"),
    ]
    assert found.attributes["context.onShift"] == "true"
    assert found.shift_minutes_left == 7 * 60 + DAY_MINUTES - minute_of(NOW_US)
    assert found.attributes["principal.roles"] == "charge_nurse,nurse"


def test_who_has_no_shift_is_not_off_it() -> None:
    found = facts({"shift": ""}, {})
    assert "onShift" not in found.request["context"]
    assert found.shift_minutes_left is None
    off = facts({"shift": "07:00-19:00"}, {})
    assert off.request["context"]["onShift"] is False
    assert off.shift_minutes_left is None


def test_further_attributes_are_tags_and_names_are_for_people() -> None:
    found = facts({"badge": "7"}, {"site": "north"})
    tags = {each["uid"]["type"]: each.get("tags") for each in found.entities}
    assert tags["Clinician"] == {"badge": "7"}
    assert tags["Device"] == {"site": "north"}
    assert not any("Nora" in value for value in found.attributes.values())
    assert found.attributes["resource.tag.site"] == "north"


def test_sessions_belong_to_their_device() -> None:
    found = facts({}, {})
    session = found.request["context"]["session"]["__entity"]
    device = found.request["resource"]
    assert session["id"] == f"{device['id']}/s1"
    assert {"uid": session, "attrs": {"live": False}, "parents": [device]} in found.entities
    none = facts({}, {}, Asked("login", "", "", "", is_live=False, subject_signed=True))
    assert "session" not in none.request["context"]
    assert "purpose" not in none.request["context"]
    assert none.request["context"]["subjectSigned"] is True
