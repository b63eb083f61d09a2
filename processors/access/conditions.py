"""Conditions of a policy that Cedar does not evaluate: approvals, expiry and alert, as annotations.

    @id("pump-override")
    @approvals("1 of charge_nurse; 1 of pharmacist,physician")
    @expires("15m")
    @alert("medium")
    permit (...) when {...};

Cedar's language cannot count signatures, and its answer to conditions of the caller is the annotation: it
stands with its policy, is signed with it, and any Cedar tool keeps it. An annotation that is not known is an
error, since a condition that was spelled wrongly would silently be none.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.envelope import MAX_SIGNATURES
from schemas.errors import FormatError
from schemas.records import Severity

DEFAULT_EXPIRES_S = 3600
MAX_EXPIRES_S = 86_400
MAX_APPROVALS = MAX_SIGNATURES - 1
"""The first signature of an envelope is the device's."""

_KNOWN = frozenset({"id", "description", "approvals", "expires", "alert"})
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_CLAUSE = re.compile(r"(?P<count>[1-9][0-9]?) of (?P<roles>[a-z0-9_-]+(?:,[a-z0-9_-]+)*)", re.ASCII)
_EXPIRES = re.compile(r"(?P<number>[1-9][0-9]{0,4})(?P<unit>[smh])", re.ASCII)
_UNIT_S = {"s": 1, "m": 60, "h": 3600}


class PolicyError(FormatError):
    """A policy document that must not come into force; the message says where it is wrong."""


@dataclass(frozen=True, slots=True)
class Approvals:
    """So many persons of any of these roles."""

    count: int
    roles: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.count} of {','.join(self.roles)}"


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a policy asks beyond Cedar."""

    approvals: tuple[Approvals, ...] = ()
    """All of them must be met, each person counting once."""
    expires_s: int = DEFAULT_EXPIRES_S
    alert: Severity | None = None

    def obligations(self) -> tuple[str, ...]:
        """Say them in words, for the decision record."""
        found = [f"approvals {clause}" for clause in self.approvals]
        found += [f"alert {self.alert.value.lower()}"] if self.alert else []
        return tuple(found)


def policy_id(annotations: Mapping[str, str | None]) -> str:
    """Return the `@id` of a policy; raises PolicyError where it has none."""
    found = annotations.get("id")
    if not found or not _ID.fullmatch(found):
        message = f"@id is {found!r}: every policy needs one of letters, digits, '.', '_', '-', at most 64"
        raise PolicyError(message)
    return found


def parse_conditions(annotations: Mapping[str, str | None], *, is_permit: bool) -> Conditions:
    """Read the annotations of a policy; raises PolicyError naming the one at fault."""
    unknown = sorted(annotations.keys() - _KNOWN)
    if unknown:
        message = f"@{unknown[0]} is not known; known are @{', @'.join(sorted(_KNOWN))}"
        raise PolicyError(message)
    if not is_permit and {"approvals", "expires"} & annotations.keys():
        message = "@approvals and @expires are conditions of a permit; a forbid has none"
        raise PolicyError(message)
    return Conditions(
        _approvals(annotations["approvals"]) if "approvals" in annotations else (),
        _expires(annotations["expires"]) if "expires" in annotations else DEFAULT_EXPIRES_S,
        _alert(annotations["alert"]) if "alert" in annotations else None,
    )


def _approvals(text: str | None) -> tuple[Approvals, ...]:
    clauses = []
    for part in (text or "").split(";"):
        match = _CLAUSE.fullmatch(part.strip())
        if match is None:
            message = f'@approvals({text!r}): expected such as "2 of charge_nurse,pharmacist; 1 of physician"'
            raise PolicyError(message)
        clauses.append(Approvals(int(match["count"]), tuple(match["roles"].split(","))))
    if sum(clause.count for clause in clauses) > MAX_APPROVALS:
        message = f"@approvals({text!r}): an envelope has room for {MAX_APPROVALS}"
        raise PolicyError(message)
    return tuple(clauses)


def _expires(text: str | None) -> int:
    match = _EXPIRES.fullmatch(text or "")
    seconds = int(match["number"]) * _UNIT_S[match["unit"]] if match else 0
    if not 0 < seconds <= MAX_EXPIRES_S:
        message = f'@expires({text!r}): expected such as "90s", "15m" or "8h", at most 24h'
        raise PolicyError(message)
    return seconds


def _alert(text: str | None) -> Severity:
    try:
        return Severity((text or "").upper())
    except ValueError as error:
        message = f"@alert({text!r}): expected one of {', '.join(s.value.lower() for s in Severity)}"
        raise PolicyError(message) from error


def counted(clauses: Sequence[Approvals], roles_of: Mapping[str, frozenset[str]]) -> frozenset[str] | None:
    """Choose persons that meet all clauses, each counting once; None where they cannot be met.

    A bipartite matching: taking persons greedily would let a pharmacist who is a charge nurse too be used up
    for the clause that others could have met.
    """
    places = [clause for clause in clauses for _ in range(clause.count)]
    holder: dict[int, str] = {}

    def seat(person: str, tried: set[int]) -> bool:
        for number, clause in enumerate(places):
            if number in tried or roles_of[person].isdisjoint(clause.roles):
                continue
            tried.add(number)
            if number not in holder or seat(holder[number], tried):
                holder[number] = person
                return True
        return False

    for person in sorted(roles_of):
        seat(person, set())
    return frozenset(holder.values()) if len(holder) == len(places) else None
