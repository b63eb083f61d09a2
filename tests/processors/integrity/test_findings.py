"""Every finding: known to the alerts, encodable, and named by its cause alone."""

import inspect
from typing import Any

import pytest

from processors.alert_rules import FINDING_RULES
from processors.integrity import findings
from processors.integrity.leaves import LeafFault, LeafMismatch
from schemas.checkpoint import Checkpoint
from schemas.records import Finding, decode_finding

ARGUMENTS: dict[str, Any] = {
    "origin": "log.example/device.events/0",
    "place": ("device.events", 0),
    "mismatches": [LeafMismatch(LeafFault.ALTERED, 7, 9), LeafMismatch(LeafFault.UNREADABLE, 8, -1)],
    "path": "tile/entries/000",
    "reason": "entry 7 is not the leaf that the tree holds",
    "checkpoint": Checkpoint("log.example", 300, bytes(32)),
    "known": Checkpoint("log.example", 300, bytes(32)),
    "seen": Checkpoint("log.example", 301, bytes(32)),
    "known_note": b"note one",
    "seen_note": b"\xffnote two",
    "leaf": 7,
    "seen_size": 290,
    "kind": "epoch",
    "why": "x" * 5000,
    "end": 5,
    "sealed_to": 9,
    "found": "B",
    "old_id": "A",
    "new_id": "B",
    "offset": 3,
    "waited_s": 9.0,
    "topic": "0.0.1001",
    "sequence": 4,
    "payer": "0.0.77",
    "trusted": "0.0.2",
    "tree_size": 300,
    "size": 300,
    "interval_s": 10.0,
    "who": "",
    "policy": "1 of 1: w1",
    "time_us": 1_760_000_000_000_000,
}
RULES = [
    function
    for name, function in inspect.getmembers(findings, inspect.isfunction)
    if not name.startswith("_") and function.__module__ == findings.__name__
]


def made(function: Any, **changes: Any) -> Finding:
    given = {**ARGUMENTS, **changes}
    return function(**{name: given[name] for name in inspect.signature(function).parameters})  # type: ignore[no-any-return]


@pytest.mark.parametrize("function", RULES, ids=lambda function: function.__name__)
def test_a_finding_is_told_and_named_by_its_cause(function: Any) -> None:
    finding = made(function, **({"known": "A"} if function is findings.topic_recreated else {}))
    assert finding.rule in FINDING_RULES
    read = decode_finding(finding.encode(bytes(16)))
    assert read["id"] == finding.id
    assert len(read["explanation"]) <= 1100
    later = made(
        function,
        time_us=1,
        waited_s=99.0,
        who="w2",
        **({"known": "A"} if function is findings.topic_recreated else {}),
    )
    assert later.id == finding.id, "found later, or again after a crash, it is the same finding"


def test_other_causes_are_other_findings() -> None:
    first = made(findings.entry_rewritten)
    second = made(findings.entry_rewritten, mismatches=[LeafMismatch(LeafFault.ALTERED, 8, 10)])
    third = made(findings.entry_rewritten, origin="log.example/device.events/1")
    assert len({first.id, second.id, third.id}) == 3


def test_a_bundle_is_told_as_entries_and_a_tile_as_a_tile() -> None:
    assert made(findings.tile_rewritten).rule == "entry_rewritten"
    assert made(findings.tile_rewritten, path="tile/0/000").rule == "tile_rewritten"
