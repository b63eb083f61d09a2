"""Incidents: many devices of a ward, or one person at many devices, are one alert that lists them."""

from processors.correlate import CorrelateConfig
from processors.ocsf import Activity, Status
from schemas.records import FindingStatus
from tests.kit.noticed import Driven, covered, finding, rejection

OPENED, CLEARED = FindingStatus.OPENED, FindingStatus.CLEARED


def of_ward(offset: int, device: int, status: FindingStatus = OPENED, rule: str = "silence") -> object:
    return finding(offset, status, f"c{device}", ward="icu-1", rule=rule, device=f"did:key:{device}")


def fallen_silent(count: int = 12) -> Driven:
    driven = Driven()
    driven.add(*(of_ward(i, i) for i in range(count)))  # type: ignore[arg-type]
    return driven


def test_twelve_devices_of_a_ward_are_one_alert() -> None:
    driven = fallen_silent()
    (told,) = driven.wait(1)
    assert told.incident is not None
    assert told.incident.device_count == len(told.incident.devices) == 12
    assert told.activity is Activity.CREATE
    assert told.ward == "icu-1"
    assert told.scope == "ward:icu-1"
    assert told.device_id is None
    assert told.count == 12
    assert {status for _, status in told.related} == {"Create"}
    assert "12 devices in ward icu-1" in told.message


def test_four_devices_are_told_each_by_itself() -> None:
    assert len(fallen_silent(4).wait(1)) == 4


def test_devices_without_a_ward_make_no_incident() -> None:
    driven = Driven()
    driven.add(*(finding(i, device=f"did:key:{i}", rule="silence") for i in range(12)))
    assert len(driven.wait(1)) == 12


def test_an_incident_grows_and_ends_when_the_last_device_is_well() -> None:
    driven = fallen_silent()
    (made,) = driven.wait(1)
    driven.add(of_ward(20, 20))  # type: ignore[arg-type]
    (grown,) = driven.wait(10)
    assert (grown.uid, grown.activity) == (made.uid, Activity.UPDATE)
    assert grown.incident is not None
    assert grown.incident.devices == ("did:key:20",)
    assert grown.incident.device_count == 13
    driven.add(*(of_ward(30 + i, i, CLEARED) for i in range(12)))  # type: ignore[arg-type]
    (better,) = driven.wait(10)
    assert better.activity is Activity.UPDATE
    driven.add(of_ward(50, 20, CLEARED))  # type: ignore[arg-type]
    (over,) = driven.wait(10)
    assert (over.activity, over.status) == (Activity.CLOSE, Status.RESOLVED)
    assert driven.wait(400) == []


def test_what_joins_while_the_rest_gets_well_belongs_to_the_incident() -> None:
    driven = fallen_silent()
    (made,) = driven.wait(1)
    driven.add(*(of_ward(30 + i, i, CLEARED) for i in range(12)), of_ward(60, 20))  # type: ignore[arg-type]
    driven.wait(10)
    assert {each.uid for each in driven.told} == {made.uid}
    assert driven.told[-1].activity is Activity.UPDATE


def test_devices_that_fail_one_after_another_become_an_incident_too() -> None:
    driven = Driven()
    for device in range(4):
        driven.add(of_ward(device, device))  # type: ignore[arg-type]
        (alone,) = driven.wait(600)
        assert alone.incident is None
    driven.add(of_ward(4, 4))  # type: ignore[arg-type]
    (made,) = driven.wait(1)
    assert made.incident is not None
    assert made.incident.device_count == 5, "those that are not over count"
    driven.add(of_ward(9, 0, CLEARED))  # type: ignore[arg-type]
    (over,) = driven.wait(10)
    assert over.device_id == "did:key:0", "what was told by itself ends by itself"


def test_one_person_against_many_devices_is_one_alert() -> None:
    driven = Driven()
    driven.add(
        *(
            finding(
                i, device=f"did:key:{i}", rule="repeated_failed_access", subject="did:key:eve", ward=f"w{i}"
            )
            for i in range(6)
        )
    )
    (told,) = driven.wait(1)
    assert told.incident is not None
    assert told.subject == "did:key:eve"
    assert told.scope == "subject:did:key:eve"
    assert "6 devices by subject did:key:eve" in told.message


def test_rejections_of_a_ward_are_over_when_nothing_is_heard() -> None:
    driven = Driven()
    driven.add(*(rejection(i, device=f"did:key:{i}", ward="icu-1") for i in range(8)))
    (made,) = driven.wait(1)
    assert driven.wait(295) == []
    (over,) = driven.wait(10)
    assert (over.uid, over.activity, over.count) == (made.uid, Activity.CLOSE, 0)
    driven.add(rejection(9, device="did:key:1", ward="icu-1"))
    (new,) = driven.wait(1)
    assert new.activity is Activity.CREATE
    assert new.incident is None


def test_what_lasts_is_said_again_until_somebody_takes_it_up() -> None:
    driven = fallen_silent()
    driven.wait(1)
    again = driven.leap(4 * 3600)
    assert [each.activity for each in again] == [Activity.UPDATE]
    assert again[0].count == 0
    assert len(driven.leap(4 * 3600)) == 1
    assert len({each.event_uid for each in driven.told}) == 3


def test_a_flood_against_a_ward_is_few_messages() -> None:
    driven = Driven(CorrelateConfig())
    driven.add(*(rejection(i, device=f"did:key:{i % 300}", ward="icu-1") for i in range(5_000)))
    driven.wait(12)
    assert len(driven.told) == 10
    assert len({each.uid for each in driven.told}) == 1
    assert set(covered(driven.told).values()) == {1}
    assert len(covered(driven.told)) == 5_000


def test_each_end_of_an_alert_that_comes_again_has_an_id_of_its_own() -> None:
    driven = Driven()
    for offset in (1, 2, 3):  # of one window of broker time, so of one uid
        driven.add(rejection(offset))
        driven.wait(1)
        driven.leap(400)
    assert len({each.uid for each in driven.told}) == 1
    assert len({each.event_uid for each in driven.told}) == len(driven.told) == 6
