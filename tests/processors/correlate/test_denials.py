"""Denials: each is told, and a person who is denied at many devices is one incident."""

import json

from processors.ocsf import Activity, encode
from schemas.decisions import DecisionReason
from tests.kit.denials import DEVICE, NURSE, denial
from tests.kit.noticed import REPORTER, Driven, covered


def test_a_denial_is_told_as_what_it_is() -> None:
    driven = Driven()
    driven.add(denial())
    (told,) = driven.wait(1)
    assert (told.analytic, told.device_id, told.subject) == ("denied.no_permit", DEVICE, NURSE)
    assert told.scope == f"subject:{NURSE}"
    document = json.loads(encode(told, REPORTER))
    assert document["class_uid"] == 6003
    assert document["unmapped"]["covers"] == {"access.decisions/3": "99"}


def test_denials_of_one_person_at_one_device_are_one_message() -> None:
    driven = Driven()
    driven.add(*(denial(offset=number) for number in range(30)))
    (told,) = driven.wait(1)
    assert told.count == 30
    driven.add(denial(offset=50), denial(DecisionReason.FORBIDDEN, offset=51))
    more = {each.analytic: each for each in driven.wait(10)}
    assert more["denied.no_permit"].uid == told.uid
    assert more["denied.no_permit"].activity is Activity.UPDATE
    assert more["denied.forbidden"].uid != told.uid


def test_a_person_who_is_denied_at_many_devices_is_an_incident() -> None:
    driven = Driven()
    driven.add(*(denial(offset=number, device_id=f"did:key:{number}") for number in range(7)))
    (told,) = driven.wait(1)
    assert told.incident is not None
    assert told.incident.device_count == 7
    document = json.loads(encode(told, REPORTER))
    assert document["class_uid"] == 6003
    assert sum(each["type"] == "Device" for each in document["resources"]) == 7


def test_that_no_denial_follows_is_no_message() -> None:
    driven = Driven()
    driven.add(denial())
    driven.wait(1)
    assert driven.leap(3_600) == []
    assert len(driven.correlator.cases) == 0
    assert covered(driven.told) == {"access.decisions/3/99": 1}
