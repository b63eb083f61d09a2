"""Annotations of policies: what is understood, what is refused, and who counts for what."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.access.conditions import (
    Approvals,
    Conditions,
    PolicyError,
    counted,
    parse_conditions,
    policy_id,
)
from schemas.records import Severity

ROLES = ("a", "b", "c")


def test_annotations_say_approvals_expiry_and_alert() -> None:
    found = parse_conditions(
        {"id": "x", "approvals": "2 of a,b; 1 of c", "expires": "15m", "alert": "high"}, is_permit=True
    )
    assert found == Conditions((Approvals(2, ("a", "b")), Approvals(1, ("c",))), 900, Severity.HIGH)
    assert found.obligations() == ("approvals 2 of a,b", "approvals 1 of c", "alert high")
    assert parse_conditions({"id": "x"}, is_permit=True) == Conditions((), 3600, None)
    assert parse_conditions({"id": "x", "expires": "24h"}, is_permit=True).expires_s == 86_400


@pytest.mark.parametrize(
    ("annotations", "says"),
    [
        ({"aprovals": "1 of a"}, "@aprovals is not known"),
        ({"approvals": ""}, "expected such as"),
        ({"approvals": None}, "expected such as"),
        ({"approvals": "0 of a"}, "expected such as"),
        ({"approvals": "1 of"}, "expected such as"),
        ({"approvals": "1 of A"}, "expected such as"),
        ({"approvals": "1 of a;"}, "expected such as"),
        ({"approvals": "9 of a; 7 of b"}, "room for 15"),
        ({"expires": "25h"}, "at most 24h"),
        ({"expires": "0s"}, "at most 24h"),
        ({"expires": "soon"}, "at most 24h"),
        ({"expires": None}, "at most 24h"),
        ({"alert": "loud"}, "expected one of"),
    ],
)
def test_what_is_not_understood_is_refused(annotations: dict[str, str | None], says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        parse_conditions(annotations, is_permit=True)


@pytest.mark.parametrize("name", ["approvals", "expires"])
def test_a_forbid_has_no_conditions(name: str) -> None:
    with pytest.raises(PolicyError, match="a forbid has none"):
        parse_conditions({name: "1 of a"}, is_permit=False)
    assert parse_conditions({"alert": "low"}, is_permit=False).alert is Severity.LOW


@pytest.mark.parametrize("found", [None, "", "two words", "a/b", "x" * 65])
def test_every_policy_has_an_id(found: str | None) -> None:
    with pytest.raises(PolicyError, match="@id"):
        policy_id({"id": found})


def test_one_person_counts_once_also_with_two_roles() -> None:
    both = (Approvals(1, ("a",)), Approvals(1, ("b",)))
    assert counted(both, {"x": frozenset("ab")}) is None
    # Taken greedily, x would be used up for the place that y cannot take.
    assert counted(both, {"x": frozenset("ab"), "y": frozenset("a")}) == frozenset("xy")
    assert counted(both, {"x": frozenset("a"), "y": frozenset("ab")}) == frozenset("xy")
    assert counted((), {}) == frozenset()


@given(
    st.lists(st.tuples(st.integers(1, 2), st.sets(st.sampled_from(ROLES), min_size=1)), max_size=3),
    st.lists(st.frozensets(st.sampled_from(ROLES)), max_size=4),
)
def test_conditions_are_met_iff_distinct_persons_can_take_all_places(
    wanted: list[tuple[int, set[str]]], persons: list[frozenset[str]]
) -> None:
    clauses = [Approvals(count, tuple(sorted(roles))) for count, roles in wanted]
    places = [clause for clause in clauses for _ in range(clause.count)]
    roles_of = {f"p{number}": roles for number, roles in enumerate(persons)}
    possible = any(
        all(roles_of[name] & set(place.roles) for name, place in zip(chosen, places, strict=True))
        for chosen in itertools.permutations(roles_of, len(places))
    )
    found = counted(clauses, roles_of)
    assert (found is not None) is possible
    assert found is None or len(found) == len(places)
