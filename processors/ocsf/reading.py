"""Where either class says what routing, delivery and a reader ask of an alert; `found` is its parsed JSON.

| | Detection Finding (2004) | API Activity (6003) |
|---|---|---|
| rule | `finding_info.analytic.uid` | `metadata.event_code` |
| cause | `finding_info.uid` | `metadata.correlation_uid` |
| title | `finding_info.title` | `unmapped.title` |
| activity | `activity_id` | `unmapped.activity` |
| techniques | `finding_info.attacks` | `attacks` |
| user | `evidences.user.uid` | `actor.user.uid` |

Nothing is raised, whatever stands there: a text that is none is empty.
"""

from typing import Any

from processors.ocsf import access
from processors.ocsf.alert import Activity

_ACTIVITIES = {int(each): each for each in Activity}
_ACTIVITIES_BY_NAME = {each.name.capitalize(): each for each in Activity}


def inner(found: Any, *names: str) -> Any:
    """Return what stands within objects under these names; None where nothing does."""
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def text(found: Any, *names: str) -> str:
    """Return a text within objects; empty where there is none."""
    value = inner(found, *names)
    return value if isinstance(value, str) else ""


def rule(found: Any) -> str:
    """Return the rule, such as `stuck`, `rejected.replay` or `denied.no_permit`."""
    if _is_access(found):
        return text(found, "metadata", "event_code")
    return text(found, "finding_info", "analytic", "uid")


def cause(found: Any) -> str:
    """Return the id that all messages about one cause carry."""
    if _is_access(found):
        return text(found, "metadata", "correlation_uid")
    return text(found, "finding_info", "uid")


def title(found: Any) -> str:
    """Return what a human reads first."""
    return text(found, "unmapped", "title") if _is_access(found) else text(found, "finding_info", "title")


def activity(found: Any) -> Activity | None:
    """Tell whether this begins, goes on or is over; None for what is none of ours."""
    if _is_access(found):
        return _ACTIVITIES_BY_NAME.get(text(found, "unmapped", "activity"))
    number = inner(found, "activity_id")
    return _ACTIVITIES.get(number) if isinstance(number, int) else None


def techniques(found: Any) -> list[str]:
    """Return ids of ATT&CK techniques, of a sub-technique its own."""
    attacks = inner(found, "attacks") if _is_access(found) else inner(found, "finding_info", "attacks")
    listed = attacks if isinstance(attacks, list) else []
    ids = [text(each, "sub_technique", "uid") or text(each, "technique", "uid") for each in listed]
    return [each for each in ids if each]


def user(found: Any) -> str:
    """Return who acted, where the alert is of one person."""
    if _is_access(found):
        return text(found, "actor", "user", "uid")
    evidences = inner(found, "evidences")
    first = evidences[0] if isinstance(evidences, list) and evidences else None
    return text(first, "user", "uid")


def _is_access(found: Any) -> bool:
    return bool(inner(found, "class_uid") == access.CLASS_UID)
