"""Routing: each alert once to whom it fits, numbers without a gap, memory within bounds."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.model import RawRecord
from processors.ocsf import encode
from processors.route import AlertError, Router, RouteState, StateError, read_alert
from schemas.parties import AlertFilter, Parties, Party
from schemas.records import Severity
from tests.kit.denials import REPORTER, denial, denial_alert

DEVICES: Mapping[str, Mapping[str, str]] = {
    "did:a": {"ward": "ICU-1", "manufacturer": "Acme"},
    "did:b": {"ward": "ER", "manufacturer": "Bolt"},
}


def parties(version: int = 1, **filters: AlertFilter) -> Parties:
    found = tuple(Party(name, each, ()) for name, each in filters.items())
    return Parties("log.example", version, found, bytes([version]) * 32)


def alert(
    number: int, *, uid: str = "", severity: int = 3, device: str = "did:a", **changes: Any
) -> RawRecord:
    document = {
        "metadata": {"uid": uid or f"m{number}"}, "severity_id": severity, "class_uid": 2004,
        "finding_info": {"analytic": {"uid": "stuck"}}, "device": {"uid": device}, **changes,
    }  # fmt: skip
    headers = (("ce_id", (uid or f"m{number}").encode()),)
    return RawRecord("alerts", 0, number, 0, b"key", json.dumps(document).encode(), headers)


def router(found: Parties) -> Router:
    return Router(found, lambda did: DEVICES.get(did, {}))


def told(routed: Any) -> list[tuple[str, int, int]]:
    return [(each.party, each.sequence, each.source.offset) for each in routed.told]


def test_each_party_is_told_of_what_fits_under_its_own_numbers() -> None:
    found = parties(
        all=AlertFilter(), icu=AlertFilter(wards=("ICU-1",)), bolt=AlertFilter(manufacturers=("Bolt",))
    )
    batch = [alert(0), alert(1, device="did:b"), alert(2), alert(3, device="did:unknown")]
    assert told(router(found).process(batch, RouteState())) == [
        *(("all", 1, 0), ("icu", 1, 0), ("all", 2, 1), ("bolt", 1, 1)),
        *(("all", 3, 2), ("icu", 2, 2), ("all", 4, 3)),
    ]


def test_an_incident_of_a_ward_has_no_device_and_fits_its_ward() -> None:
    found = parties(icu=AlertFilter(wards=("ICU-1",)))
    incident = alert(0, device="", unmapped={"ward": "ICU-1"})
    assert told(router(found).process([incident], RouteState())) == [("icu", 1, 0)]


def test_a_denial_fits_by_its_class_rule_and_ward() -> None:
    found = parties(
        denials=AlertFilter(classes=(6003,)),
        findings=AlertFilter(classes=(2004,)),
        mine=AlertFilter(rules=("denied.no_permit",), wards=("ICU-1",)),
        other=AlertFilter(rules=("denied.forbidden",)),
    )
    value = encode(denial_alert(denial(), device_id="did:a"), REPORTER)
    record = RawRecord("alerts", 0, 0, 0, b"key", value, (("ce_id", b"access.decisions/3/99"),))
    facts = read_alert(record)
    assert (facts.class_uid, facts.rule) == (6003, "denied.no_permit")
    assert (facts.devices, facts.severity) == (("did:a",), Severity.INFORMATIONAL)
    assert told(router(found).process([record], RouteState())) == [("denials", 1, 0), ("mine", 1, 0)]


def test_what_fits_nobody_is_counted() -> None:
    routed = router(parties(loud=AlertFilter(Severity.HIGH))).process(
        [alert(0), alert(1, severity=6)], RouteState()
    )
    assert (told(routed), routed.nobodys) == ([("loud", 1, 1)], 1)


def test_a_repeat_is_dropped_also_after_a_restart() -> None:
    one = router(parties(soc=AlertFilter()))
    state = RouteState()
    assert len(one.process([alert(0), alert(1), alert(2, uid="m0")], state).told) == 2
    again = RouteState(state.changes())
    routed = one.process([alert(3, uid="m1"), alert(4)], again)
    assert (told(routed), routed.repeats) == ([("soc", 3, 4)], 1)


def test_a_bad_record_costs_itself_and_no_number() -> None:
    bad = [
        RawRecord("alerts", 0, n, 0, None, value)
        for n, value in enumerate([None, b"", b"[]", b"\xff", b"{}"])
    ]
    routed = router(parties(soc=AlertFilter())).process([*bad, alert(9)], RouteState())
    assert (told(routed), len(routed.unreadable)) == ([("soc", 1, 9)], len(bad))


NAMES = st.sampled_from(["metadata", "uid", "severity_id", "class_uid", "finding_info", "device", "unmapped"])


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner)
    )
)
def test_whatever_json_comes_only_an_alert_error_does(found: object) -> None:
    try:
        read_alert(RawRecord("alerts", 0, 0, 0, None, json.dumps(found).encode()))
    except AlertError as error:
        assert "alerts/0/0" in str(error)  # noqa: PT017


def test_memory_is_bounded_and_the_changelog_with_it() -> None:
    one, state = router(parties(soc=AlertFilter())), RouteState(remembered=8)
    kept: dict[bytes, bytes] = {}
    for number in range(100):
        assert len(one.process([alert(number)], state).told) == 1
        kept |= dict(state.changes())
        state.committed()
    assert len(kept) == 8 + 1
    again = RouteState(kept.items(), remembered=8)
    recent = one.process([alert(n) for n in range(92, 100)], again)
    assert (recent.repeats, recent.told) == (8, [])
    assert told(one.process([alert(50)], again)) == [("soc", 101, 50)]  # forgotten, and so told again


@given(st.lists(st.lists(st.integers(0, 30), max_size=8), max_size=12), st.data())
def test_numbers_have_no_gap_whatever_is_done_again(batches: list[list[int]], data: st.DataObject) -> None:
    """Each batch may be lost before its commit and done again from the changelog; ids may repeat."""
    one = router(parties(soc=AlertFilter(), icu=AlertFilter(wards=("ICU-1",))))
    kept: dict[bytes, bytes] = {}
    out: list[tuple[str, int, int]] = []
    for batch in batches:
        records = [alert(n, uid=f"m{n}", device="did:a" if n % 3 else "did:b") for n in batch]
        state = RouteState(kept.items())
        if data.draw(st.booleans()):
            one.process(records, state)  # killed before the commit
            state = RouteState(kept.items())
        out += told(one.process(records, state))
        kept |= dict(state.changes())
    for party in ("soc", "icu"):
        mine = [(sequence, offset) for name, sequence, offset in out if name == party]
        assert [sequence for sequence, _ in mine] == list(range(1, len(mine) + 1))
        assert len({offset for _, offset in mine}) == len(mine)


def test_the_file_in_force_is_remembered_with_what_it_routed() -> None:
    state = RouteState()
    state.enforce(parties(7))
    again = RouteState(state.changes())
    assert (again.version, again.digest) == (7, bytes([7]) * 32)
    again.enforce(parties(7))
    assert again.changes() == []


@pytest.mark.parametrize("item", [(b"p/soc", b"x"), (b"i/x", b""), (b"v", b"{}"), (b"\xff", b"")])
def test_a_damaged_changelog_is_told(item: tuple[bytes, bytes]) -> None:
    with pytest.raises(StateError):
        RouteState([item])
