"""The ATT&CK ids that alerts claim, against what ATT&CK itself says of them (attack/ORIGIN.md)."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from processors.alert_rules import (
    ATTACK_VERSION,
    DENIAL_RULES,
    DEVICE_WIDE_ACCESS,
    FINDING_RULES,
    REJECTION_RULES,
    REVOCATION,
    Technique,
)

DATA = json.loads((Path(__file__).parent / "attack" / "techniques.json").read_text(encoding="utf-8"))
TACTICS: dict[str, dict[str, Any]] = {each["id"]: each for each in DATA["tactics"]}
TECHNIQUES: dict[str, dict[str, Any]] = {each["id"]: each for each in DATA["techniques"]}
FINDINGS = [each.techniques for each in (*FINDING_RULES.values(), DEVICE_WIDE_ACCESS)]
REJECTIONS = [each.techniques for each in REJECTION_RULES.values()]
DENIALS = [each.techniques for each in (*DENIAL_RULES.values(), REVOCATION)]
CLAIMED = sorted(
    {each for of in (*FINDINGS, *REJECTIONS, *DENIALS) for each in of}, key=lambda each: each.uid
)


def test_the_version_is_that_of_the_data() -> None:
    assert DATA["attack_version"] == ATTACK_VERSION


@pytest.mark.parametrize("claimed", CLAIMED, ids=[each.uid for each in CLAIMED])
def test_a_technique_is_what_attack_says(claimed: Technique) -> None:
    known, tactic = TECHNIQUES[claimed.uid], TACTICS[claimed.tactic_uid]
    assert claimed.name == known["name"]
    assert claimed.tactic == tactic["name"]
    assert tactic["shortname"] in known["tactics"]
    assert tactic["domain"] == known["domain"]
    assert not known["revoked"] | known["deprecated"] | tactic["revoked"] | tactic["deprecated"]
    assert known["is_subtechnique"] == (claimed.parent is not None)
    if claimed.parent is None:
        return
    uid, name = claimed.parent
    parent = TECHNIQUES[uid]
    assert claimed.uid.rpartition(".")[0] == uid
    assert (parent["name"], parent["domain"]) == (name, known["domain"])
    assert not parent["revoked"] | parent["deprecated"] | parent["is_subtechnique"]


def test_no_more_is_carried_along_than_is_claimed() -> None:
    parents = {each.parent[0] for each in CLAIMED if each.parent}
    assert set(TECHNIQUES) == {each.uid for each in CLAIMED} | parents
    assert set(TACTICS) == {each.tactic_uid for each in CLAIMED}


def test_the_documents_ids_are_these() -> None:
    text = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\bT\d{4}(?:\.\d{3})?\b", text)) == {each.uid for each in CLAIMED}
    assert f"ATT&CK ids are of version {ATTACK_VERSION}" in text
