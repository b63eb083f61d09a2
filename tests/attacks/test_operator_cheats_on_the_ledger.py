"""An operator or a mirror who lies about anchors: found within 12 s, a missing anchor within three intervals.

The real anchor stage on the local consensus service, and between the service and the monitor a mirror that
can be told what to show.
"""

import base64
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from anchors.hcs27 import parse_anchor
from pipeline.ledgers import ledger_access
from pipeline.topics import CHECKPOINTS, EVENTS
from pipeline.trust import load_trust, trust_path
from schemas.note import CosignatureSigner
from tests.faults.machine.ledgerproxy import mirror_in_front
from tests.kit.cheating import Cheater, cheater, detail_of
from tests.kit.deployment import wait_for

pytestmark = pytest.mark.timeout(180)

PLACE, EPOCH = (EVENTS, 0), (CHECKPOINTS, 0)
INTERVAL_S = 3.0
STRANGER = "0.0.77"


@dataclass
class Mirror:
    """What the mirror in front does to the messages that it shows."""

    lie: Any = None
    rows_seen: list[dict[str, Any]] = field(default_factory=list)

    def alter(self, path: str, answer: Any) -> Any:
        if "/messages" in path:
            if self.lie is not None:
                answer["messages"] = self.lie(answer["messages"])
            self.rows_seen = answer["messages"] or self.rows_seen
        return answer


@dataclass
class Scene:
    """The log, its monitor's health, the mirror, and the anchor stage, which can be sent away."""

    log: Cheater
    health: Any
    mirror: Mirror
    anchoring: ExitStack

    @property
    def origin(self) -> str:
        return self.log.settings.log_name


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with (
        cheater(tmp_path_factory.mktemp("ledger"), anchor_interval_s=INTERVAL_S) as log,
        ExitStack() as stack,
    ):
        log.ledger_up(STRANGER)
        mirror, anchoring = Mirror(), stack.enter_context(ExitStack())
        url = stack.enter_context(mirror_in_front(ledger_access(log.settings).mirror, mirror.alter))
        stack.enter_context(log.sealing())
        anchoring.enter_context(log.anchoring())
        log.fill(PLACE, 5)
        log.wait_sealed(EPOCH, 2)
        health = stack.enter_context(log.monitoring(ledger_mirror_url=url))
        wait_for(lambda: mirror.rows_seen, "an anchor is on the mirror")
        yield Scene(log, health, mirror, anchoring)


def test_an_honest_anchor_is_no_finding(scene: Scene) -> None:
    anchored = len(scene.mirror.rows_seen)
    scene.log.fill(PLACE, 5)
    wait_for(lambda: len(scene.mirror.rows_seen) > anchored, "another anchor")
    assert scene.log.findings() == []


def test_a_mirror_that_is_down_accuses_nobody(scene: Scene) -> None:
    def no_json(_rows: Any) -> Any:
        raise ConnectionError

    scene.mirror.lie = no_json
    wait_for(lambda: "CANNOT SEE mirror" in detail_of(scene.health), "the outage is told")
    scene.mirror.lie = None
    wait_for(lambda: "CANNOT SEE" not in detail_of(scene.health), "it is over")
    assert scene.log.findings() == []


@pytest.mark.parametrize("lie", ["hash", "content", "withdrawn"])
def test_a_mirror_that_lies(scene: Scene, lie: str) -> None:
    def forged_hash(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, "running_hash": base64.b64encode(os.urandom(48)).decode()} for row in rows]

    def forged_content(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, "message": base64.b64encode(b"{}").decode()} for row in rows]

    newest = scene.mirror.rows_seen[-1]["sequence_number"]

    def withdrawn(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row for row in rows if row["sequence_number"] < newest]

    def cheat() -> None:
        scene.mirror.lie = {"hash": forged_hash, "content": forged_content, "withdrawn": withdrawn}[lie]

    scene.log.expect("mirror_lies", scene.origin, cheat)
    scene.mirror.lie = None
    scene.log.expect_cleared("mirror_lies", scene.origin)


def test_an_anchor_of_a_wrong_root(scene: Scene) -> None:
    first = parse_anchor(base64.b64decode(scene.mirror.rows_seen[0]["message"]))
    size = first.root.tree_size  # anchored truly before: the anchor stage goes on undisturbed
    found = scene.log.expect(
        "anchor_wrong_root", scene.origin, lambda: scene.log.submit(size, os.urandom(32))
    )
    assert found["parameters"]["tree_size"] == str(size)


def test_an_anchor_by_a_wrong_payer(scene: Scene) -> None:
    tree = scene.log.tree(EPOCH)
    already = {f["id"] for f in scene.log.open_findings(scene.origin)}
    begun_s = time.monotonic()
    scene.log.submit(tree.size, tree.root_at(tree.size), STRANGER)

    def found() -> dict[str, Any] | None:
        new = [f for f in scene.log.open_findings(scene.origin) if f["id"] not in already]
        return next((f for f in new if f["rule"] == "anchor_wrong_payer"), None)

    finding = wait_for(found, "the payer is found", 12.0)
    print(f"anchor_wrong_payer: found after {time.monotonic() - begun_s:.1f} s")
    assert finding["parameters"]["payer"] == STRANGER


def test_an_anchor_without_its_witnesses(scene: Scene) -> None:
    witness = CosignatureSigner.from_seed("witness.example", os.urandom(32), int(time.time()))
    policy = f"witness w1 {witness.verifier}\nquorum w1\n"
    path = trust_path(scene.log.settings)
    before = path.read_text()
    path.write_text(replace(load_trust(path), witness_policy=policy).to_json())
    anchored = scene.mirror.rows_seen[-1]["sequence_number"]
    scene.log.fill(PLACE, 3)
    wait_for(lambda: scene.mirror.rows_seen[-1]["sequence_number"] > anchored, "the next anchor")
    wait_for(
        lambda: any(f["rule"] == "witness_quorum_missed" for f in scene.log.open_findings(scene.origin)),
        "the missing quorum is told",
        12.0,
    )
    path.write_text(before)
    scene.log.expect_cleared("witness_quorum_missed", scene.origin)


def test_a_missing_anchor(scene: Scene) -> None:
    scene.anchoring.close()
    size = scene.log.tree(EPOCH).size
    scene.log.fill(PLACE, 3)
    scene.log.wait_sealed(EPOCH, size + 1)
    grown_s = time.monotonic()
    wait_for(
        lambda: any(f["rule"] == "anchor_missing" for f in scene.log.open_findings(scene.origin)),
        "the missing anchor is told",
        3 * INTERVAL_S,
    )
    print(f"anchor_missing: found after {time.monotonic() - grown_s:.1f} s")
    scene.anchoring.enter_context(scene.log.anchoring())
    scene.log.expect_cleared("anchor_missing", scene.origin)
