"""The oracle of the fault machine finds what it is there to find, and says nothing of an honest log."""

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import seal
from pipeline.stage import Health, StageState
from pipeline.trust import load_trust, trust_path
from processors.model import RawRecord
from schemas.codec import CODEC
from tests.faults.machine.ledger import ACCEPTED, Sent
from tests.faults.machine.oracle import Oracle, Watcher, formats
from tests.faults.machine.oracle import __file__ as oracle_file
from tests.faults.machine.oracle.court import Court
from tests.faults.machine.oracle.tree import Tree, leaf_hash
from tests.kit.deployment import Deployment, in_thread, wait_for
from tests.kit.oraclescene import (
    ANCHORS,
    DEVICES,
    EPOCH,
    EVENTS,
    FINDINGS,
    REJECTED,
    Scene,
    note_of,
    signed_over,
)
from tests.kit.parties import LOG, PARTITIONS, event_of, identity_of, key_of
from tests.kit.smalllog import root_of

DID = identity_of(DEVICES[0]).did
HOME = formats.partition_of(DID.encode(), PARTITIONS)
SHARD = (EVENTS, HOME)
Published = tuple[Scene, Watcher, list[bytes]]


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.tell()
    return scene


@pytest.fixture
def sealed(scene: Scene, tmp_path: Path) -> Scene:
    scene.seal(tmp_path)
    return scene


def found_in(scene: Scene, log_dir: Path | None = None) -> set[str]:
    """Names of the invariants that the oracle sees violated."""
    return {violation.invariant for violation in scene.judged(log_dir)}


def of_reason(scene: Scene, reason: str, partition: int = HOME) -> int:
    """Index of the first rejection for a reason."""
    rows = enumerate(scene.topics[REJECTED, partition])
    return next(index for index, record in rows if dict(record.headers)["reason"] == reason.encode())


def of_rule(scene: Scene, rule: str, partition: int = HOME) -> list[int]:
    """Indices of the findings of a rule."""
    rows = enumerate(scene.topics[FINDINGS, partition])
    return [index for index, record in rows if CODEC.decode("finding", record.value or b"")["rule"] == rule]


def again(row: list[RawRecord], index: int, **changes: object) -> None:
    """Append a record once more at the end."""
    row.append(replace(row[index], offset=row[-1].offset + 1, **changes))  # type: ignore[arg-type]


# ---- an honest log -------------------------------------------------------------------------------------


def test_an_honest_log_is_not_accused(sealed: Scene, tmp_path: Path) -> None:
    assert sealed.judged(tmp_path) == []


def test_nothing_is_missing_from_an_honest_log_in_any_order_of_topics(scene: Scene) -> None:
    scene.raw = dict(sorted(scene.raw.items(), reverse=True))
    scene.topics = dict(sorted(scene.topics.items(), reverse=True))
    assert scene.judged() == []


def test_the_oracle_shares_no_code_with_what_it_judges() -> None:
    for path in Path(oracle_file).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] not in {"pipeline", "processors", "anchors", "schemas", "loadtests"}
                if name.startswith("tests"):
                    assert name.startswith(("tests.faults.machine.oracle", "tests.faults.machine.ledger")), (
                        name
                    )


def test_leaves_headers_and_partitions_are_those_of_the_documents() -> None:
    assert formats.HEADER_OF["leaf"].hex() == "c3010fcea519cac2be49"
    assert formats.HEADER_OF["signed_envelope"].hex() == "c3017852cdad20740870"
    did = b"did:key:z6MkvRXNYcE7MMduynWTgeKbDaT1iijDSC8pZqXZc8rHPrf2"
    assert formats.partition_of(did, 1 << 31) == 0x5C4A0E43


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 255, 256, 257, 600])
def test_the_tree_recomputes_every_earlier_root(size: int) -> None:
    leaves = [leaf_hash(b"%d" % number) for number in range(size)]
    tree = Tree()
    for leaf in leaves:
        tree.append(leaf)
    for earlier in {1, size // 2 or 1, size - 1 or 1, size}:
        assert tree.root(earlier) == root_of(leaves[:earlier])
    tree.cut(size // 2)
    for leaf in leaves[size // 2 :]:
        tree.append(leaf)
    assert tree.root() == root_of(leaves)


# ---- accounts ------------------------------------------------------------------------------------------


def test_a_lost_record_is_found(scene: Scene) -> None:
    del scene.topics[EVENTS, HOME][-1]
    assert "accounting" in found_in(scene)


def test_a_lost_rejection_is_found(scene: Scene) -> None:
    del scene.topics[REJECTED, HOME][of_reason(scene, "empty")]
    assert found_in(scene) == {"accounting"}


def test_a_record_accepted_twice_is_found(scene: Scene) -> None:
    again(scene.topics[EVENTS, HOME], 1)
    assert {"accounting", "replay"} <= found_in(scene)


def test_a_record_rejected_twice_is_found(scene: Scene) -> None:
    again(scene.topics[REJECTED, HOME], of_reason(scene, "malformed"))
    assert found_in(scene) == {"accounting"}


def test_a_verdict_on_what_nobody_sent_is_found(scene: Scene) -> None:
    scene.sent.pop()
    assert "accounting" in found_in(scene)


def test_a_wrong_reason_is_found(scene: Scene) -> None:
    row = scene.topics[REJECTED, HOME]
    index = of_reason(scene, "late")
    reasons = {"reason", "__streams.errors.exception"}
    headers = [(name, b"stale" if name in reasons else value) for name, value in row[index].headers]
    row[index] = replace(row[index], headers=headers)
    assert found_in(scene) == {"verdict"}


def test_an_accepted_replay_is_found(scene: Scene) -> None:
    """The replay check is dropped: the record stands among the accepted instead of the rejected."""
    replay = scene.topics[REJECTED, HOME].pop(of_reason(scene, "replay"))
    kept = ("registry.offset", "source")
    again(scene.topics[EVENTS, HOME], -1)
    scene.topics[EVENTS, HOME][-1] = replace(
        scene.topics[EVENTS, HOME][-1],
        value=replay.value,
        headers=[(name, value) for name, value in replay.headers if name in kept],
    )
    assert {"verdict", "replay"} <= found_in(scene)


def test_one_number_accepted_with_two_payloads_is_found(scene: Scene) -> None:
    """An equivocation that was taken, also where the workload believed it right."""
    value = event_of(DEVICES[0], sequence=5, values=[3.0, 4.0])
    source = Sent("device.telemetry.raw", HOME, 900, DID.encode(), value, "accepted", DID, "telemetry", 1, 5)
    scene.sent.append(source)
    headers = [("registry.offset", b"2"), ("source", source.source.encode())]
    again(scene.topics[EVENTS, HOME], -1, value=value, headers=headers)
    assert "replay" in found_in(scene)


@pytest.mark.parametrize(
    "changes", [{"value": event_of(DEVICES[0], sequence=2, values=[9.0, 9.0])}, {"key": b"another"}]
)
def test_touched_bytes_of_an_accepted_event_are_found(scene: Scene, changes: dict[str, bytes]) -> None:
    row = scene.topics[EVENTS, HOME]
    row[1] = replace(row[1], **changes)  # type: ignore[arg-type]
    assert "untouched" in found_in(scene)


@pytest.mark.parametrize("reason", ["malformed", "oversized", "empty"])
def test_touched_bytes_of_a_dead_letter_are_found(scene: Scene, reason: str) -> None:
    row = scene.topics[REJECTED, HOME]
    index = of_reason(scene, reason)
    row[index] = replace(row[index], value=b"other bytes")
    assert found_in(scene) == {"untouched"}


def test_the_digest_of_a_value_that_was_too_large_is_checked(scene: Scene) -> None:
    row = scene.topics[REJECTED, HOME]
    index = of_reason(scene, "oversized")
    headers = [(name, bytes(32) if name == "value.blake3" else value) for name, value in row[index].headers]
    row[index] = replace(row[index], headers=headers)
    assert found_in(scene) == {"untouched"}


def test_swapped_events_are_found(scene: Scene) -> None:
    row = scene.topics[EVENTS, HOME]
    first, second = row[0], row[1]
    row[0], row[1] = replace(second, offset=first.offset), replace(first, offset=second.offset)
    assert "order" in found_in(scene)


def test_an_event_in_another_partition_is_found(scene: Scene) -> None:
    record = scene.topics[EVENTS, HOME].pop()
    other = (HOME + 1) % PARTITIONS
    scene.topics[EVENTS, other].append(replace(record, partition=other, offset=10_000))
    assert {"place", "accounting"} <= found_in(scene)


# ---- findings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["equivocation", "sequence_gap"])
def test_a_cause_without_its_finding_is_found(scene: Scene, rule: str) -> None:
    del scene.topics[FINDINGS, HOME][of_rule(scene, rule)[0]]
    assert found_in(scene) == {"findings"}


@pytest.mark.parametrize("rule", ["equivocation", "sequence_gap", "silence"])
def test_a_finding_that_comes_twice_is_found(scene: Scene, rule: str) -> None:
    again(scene.topics[FINDINGS, HOME], of_rule(scene, rule)[0])
    assert found_in(scene) == {"findings"}


@pytest.mark.parametrize(
    "change", [{"parameters": {"boot": "1", "sequence": "1"}}, {"device_id": "did:key:z1"}, {"id": bytes(16)}]
)
def test_a_finding_that_says_what_was_not_is_found(scene: Scene, change: dict[str, object]) -> None:
    change_finding(scene, of_rule(scene, "equivocation")[0], change)
    assert "findings" in found_in(scene)


def test_an_equivocation_without_its_rejection_is_found(scene: Scene) -> None:
    del scene.topics[REJECTED, HOME][of_reason(scene, "equivocation")]
    assert found_in(scene) == {"accounting", "findings"}


def test_a_device_that_spoke_is_not_silent(scene: Scene) -> None:
    """The finding's time is moved behind the event that ended the silence."""
    index = of_rule(scene, "silence")[0]
    finding = CODEC.decode("finding", scene.topics[FINDINGS, HOME][index].value or b"")
    change_finding(scene, index, {"time": finding["time"] + 60_000_000})
    assert found_in(scene) == {"silence"}


def test_a_silence_reported_too_soon_is_found(scene: Scene) -> None:
    index = of_rule(scene, "silence")[0]
    finding = CODEC.decode("finding", scene.topics[FINDINGS, HOME][index].value or b"")
    change_finding(scene, index, {"time": finding["time"] - 1_500_000})
    assert found_in(scene) == {"silence"}


def test_a_return_without_a_silence_is_found(scene: Scene) -> None:
    del scene.topics[FINDINGS, HOME][of_rule(scene, "silence")[0]]
    assert found_in(scene) == {"findings", "silence"}


def change_finding(scene: Scene, index: int, change: dict[str, object]) -> None:
    row = scene.topics[FINDINGS, HOME]
    finding = {**CODEC.decode("finding", row[index].value or b""), **change}
    row[index] = replace(row[index], value=CODEC.encode("finding", finding))


# ---- trees ---------------------------------------------------------------------------------------------


def test_a_checkpoint_that_is_not_the_topic_is_found(sealed: Scene, tmp_path: Path) -> None:
    """One byte of a record that was sealed is another one now."""
    row = sealed.topics[SHARD]
    row[0] = replace(row[0], append_ms=row[0].append_ms + 1)
    assert found_in(sealed, tmp_path) == {"append_only"}


def test_a_leaf_signed_before_it_is_committed_is_found(sealed: Scene, tmp_path: Path) -> None:
    """More is sealed than the topic holds as committed."""
    entries = sealed.entries(SHARD)
    sealed.publish(tmp_path, SHARD, [*entries, b"a leaf that was never committed"])
    assert found_in(sealed, tmp_path) == {"early_claim"}


def test_a_foreign_signature_is_found(sealed: Scene, tmp_path: Path) -> None:
    path = tmp_path / EVENTS / str(HOME) / "checkpoint"
    path.write_bytes(note_of(sealed.origin(SHARD), sealed.entries(SHARD), key="another"))
    assert found_in(sealed, tmp_path) == {"signature"}


@pytest.mark.parametrize(
    ("note", "named"),
    [
        (
            lambda s: note_of(s.origin(SHARD), s.entries(SHARD)[:-1], size=len(s.entries(SHARD))),
            "append_only",
        ),
        (lambda s: note_of(s.origin(SHARD), [*s.entries(SHARD), b"more"]), "early_claim"),
        (lambda s: note_of(s.origin(SHARD), s.entries(SHARD), key="another"), "signature"),
        (lambda s: note_of(LOG, s.entries(SHARD)), "signature"),
        (lambda _: b"nonsense", "signature"),
    ],
)
def test_an_entry_of_the_epoch_log_that_is_no_prefix_is_found(
    scene: Scene, note: Callable[[Scene], bytes], named: str
) -> None:
    scene.record_in_epoch_log(scene.origin(SHARD), note(scene))
    assert found_in(scene) == {named}


def test_a_list_that_leaves_a_shard_out_is_found(sealed: Scene, tmp_path: Path) -> None:
    row = sealed.topics[EPOCH]
    lines = (row[0].value or b"").split(b"\n")
    row[0] = replace(row[0], value=b"\n".join([*lines[:2], *lines[3:]]))
    assert "signature" in found_in(sealed, tmp_path)


def test_a_head_that_somebody_saw_is_held_against_the_topic(sealed: Scene) -> None:
    court = Court(LOG, key_of("log"), PARTITIONS)
    court.sent(sealed.sent)
    for record in sealed.records():
        court.take(record)
    court.shards.observed([(sealed.origin(SHARD), 1, bytes(32))])
    court.end_pass()
    assert {violation.invariant for violation in court.verdict()} == {"append_only"}


# ---- anchors -------------------------------------------------------------------------------------------


def test_an_anchor_of_another_root_is_found(sealed: Scene, tmp_path: Path) -> None:
    entries = sealed.entries(EPOCH)
    sealed.anchor(signed_over(LOG, [b"other", *entries[1:-1]]), sequence=2)
    assert found_in(sealed, tmp_path) == {"anchor"}


def test_an_anchor_of_more_than_the_epoch_log_is_found(sealed: Scene, tmp_path: Path) -> None:
    sealed.anchor(signed_over(LOG, [*sealed.entries(EPOCH), b"more"]), sequence=2)
    assert found_in(sealed, tmp_path) == {"early_claim"}


def test_an_anchor_record_that_differs_from_its_checkpoint_is_found(sealed: Scene, tmp_path: Path) -> None:
    change_anchor(sealed, {"tree_size": 1})
    assert "anchor" in found_in(sealed, tmp_path)


def test_confirmed_without_a_running_hash_is_found(sealed: Scene, tmp_path: Path) -> None:
    change_anchor(sealed, {"running_hash": None})
    assert found_in(sealed, tmp_path) == {"early_claim"}


def test_one_size_confirmed_in_two_places_is_found(sealed: Scene, tmp_path: Path) -> None:
    sealed.anchor(signed_over(LOG, sealed.entries(EPOCH)), sequence=2)
    assert found_in(sealed, tmp_path) == {"early_claim"}


def test_a_confirmation_may_be_repeated(sealed: Scene, tmp_path: Path) -> None:
    again(sealed.topics[ANCHORS, 0], -1)
    assert found_in(sealed, tmp_path) == set()


def change_anchor(scene: Scene, change: dict[str, object]) -> None:
    row = scene.topics[ANCHORS, 0]
    said = {**CODEC.decode("anchor", row[-1].value or b""), **change}
    row[-1] = replace(row[-1], value=CODEC.encode("anchor", said))


# ---- the watcher ---------------------------------------------------------------------------------------


@pytest.fixture
def published(scene: Scene, tmp_path: Path) -> Published:
    """A shard of 600 leaves of which the watcher has seen 300, and nothing wrong."""
    entries = [
        formats.HEADER_OF["leaf"] + formats.long_of(number) + formats.long_of(1) + bytes(32)
        for number in range(600)
    ]
    watcher = Watcher(tmp_path, LOG, key_of("log"))
    scene.publish(tmp_path, SHARD, entries[:300])
    watcher.look()
    assert watcher.violations() == []
    return scene, watcher, entries


def told(watcher: Watcher) -> list[str]:
    watcher.look()
    return [violation.invariant for violation in watcher.violations()]


def test_the_watcher_sees_every_head_and_accuses_no_honest_one(published: Published, tmp_path: Path) -> None:
    scene, watcher, entries = published
    for size in (301, 511, 512, 513, 600):
        scene.publish(tmp_path, SHARD, entries[:size])
        assert told(watcher) == []
    assert sorted(size for _origin, size, _root in watcher.seen) == [300, 301, 511, 512, 513, 600]


def test_a_checkpoint_that_went_back_is_found(published: Published, tmp_path: Path) -> None:
    scene, watcher, entries = published
    scene.publish(tmp_path, SHARD, entries[:299])
    assert told(watcher) == ["going_back"]


def test_a_checkpoint_that_is_gone_is_found(published: Published, tmp_path: Path) -> None:
    _scene, watcher, _entries = published
    (tmp_path / EVENTS / str(HOME) / "checkpoint").unlink()
    assert told(watcher) == ["going_back"]


def test_a_fork_at_one_size_is_found(published: Published, tmp_path: Path) -> None:
    scene, watcher, entries = published
    scene.publish(tmp_path, SHARD, [*entries[:299], entries[400]])
    assert told(watcher) == ["fork"]


def test_a_larger_tree_that_is_no_extension_is_found(published: Published, tmp_path: Path) -> None:
    scene, watcher, entries = published
    scene.publish(tmp_path, SHARD, [entries[0], *entries[2:600]])
    assert told(watcher) == ["tiles"]


@pytest.mark.parametrize("lost", ["tile/0/001.p/210", "tile/entries/001.p/210", "tile/1/000.p/1"])
def test_a_tile_that_is_missing_when_a_checkpoint_is_published_is_found(
    published: Published, tmp_path: Path, lost: str
) -> None:
    scene, watcher, entries = published
    scene.publish(tmp_path, SHARD, entries[:466])
    (tmp_path / EVENTS / str(HOME) / lost).unlink()
    assert told(watcher) == ["tiles"]


@pytest.mark.parametrize("torn", ["tile/0/001.p/210", "tile/entries/001.p/210", "tile/1/000.p/1"])
def test_a_torn_tile_is_found(published: Published, tmp_path: Path, torn: str) -> None:
    scene, watcher, entries = published
    scene.publish(tmp_path, SHARD, entries[:466])
    path = tmp_path / EVENTS / str(HOME) / torn
    path.write_bytes(bytes(len(path.read_bytes())))
    assert told(watcher) == ["tiles"]


def test_a_full_tile_that_changes_later_is_found(published: Published, tmp_path: Path) -> None:
    scene, watcher, entries = published
    scene.publish(tmp_path, SHARD, entries[:513])
    assert told(watcher) == []
    scene.publish(tmp_path, SHARD, entries[:514])
    path = tmp_path / EVENTS / str(HOME) / "tile/0/000"
    path.write_bytes(bytes(32) + path.read_bytes()[32:])
    assert told(watcher) == ["tiles"]


def test_a_partial_tile_that_became_full_does_instead(published: Published, tmp_path: Path) -> None:
    scene, watcher, entries = published
    scene.publish(tmp_path, SHARD, entries[:512])
    scene.publish(tmp_path, SHARD, entries[:500])
    for kind in ("0", "entries"):
        (tmp_path / EVENTS / str(HOME) / f"tile/{kind}/001.p/244").unlink()
    assert told(watcher) == []


def test_leaves_whose_offsets_do_not_rise_are_found(published: Published, tmp_path: Path) -> None:
    """A topic was recreated under the sealer, and it went on."""
    scene, watcher, entries = published
    scene.publish(tmp_path, SHARD, [*entries[:300], entries[0]])
    assert told(watcher) == ["tiles"]


def test_a_published_checkpoint_under_another_key_is_found(published: Published, tmp_path: Path) -> None:
    scene, watcher, entries = published
    path = tmp_path / EVENTS / str(HOME) / "checkpoint"
    path.write_bytes(note_of(scene.origin(SHARD), entries[:301], key="another"))
    assert told(watcher) == ["signature"]


# ---- on a real broker ----------------------------------------------------------------------------------


def test_the_oracle_reads_on_and_judges_real_stages(deployment: Deployment) -> None:
    settings = deployment.settings
    log_dir = settings.data_dir / "log"
    device, sent = deployment.enroll(), []

    def send(value: bytes, verdict: str, sequence: int = 0) -> None:
        place = formats.place_of(deployment.send(device, value))
        number = (1, sequence) if sequence else (0, 0)
        sent.append(Sent(*place, device.did.encode(), value, verdict, device.did, "telemetry", *number))

    oracle = Oracle(
        settings.bootstrap(), log_dir, settings.log_name, load_trust(trust_path(settings)).log_key,
        settings.partitions,
    )  # fmt: skip
    try:
        with deployment.ingesting(), in_thread(seal.work, settings, "seal"):
            first = device.telemetry()
            send(first, ACCEPTED, 1)
            send(first, "replay")
            wait_for(lambda: not oracle.pending(sent), "all is judged and sealed")
            assert oracle.check(sent) == []
            send(device.telemetry(sequence=3), ACCEPTED, 3)
            wait_for(lambda: not oracle.pending(sent), "all is judged and sealed")
        assert oracle.check(sent) == []
        latest = oracle.latest_accepted(device.did, "telemetry")
        assert latest is not None
        assert (latest.boot, latest.sequence) == (1, 3)

        source = [("source", sent[0].source.encode()), ("registry.offset", b"1")]
        deployment.publish(EVENTS, device.did.encode(), first, headers=source)
        assert "of 3 leaves published" in oracle.pending(sent)
        assert {violation.invariant for violation in oracle.check(sent)} == {"accounting", "replay"}
        assert oracle.check(sent) == []

        oracle.retire(EVENTS)
        assert "has not said that it stopped" in oracle.pending(sent)
        assert {v.invariant for v in oracle.check(sent)} == {"stopped_silently"}
        Health(settings, "seal", 0).beat(StageState.RUNNING, "1 shards STOPPED: the topic was recreated")
        assert oracle.pending(sent) == ""
    finally:
        oracle.close()
