"""Evidence taken from a whole log on a real Kafka and a ledger: found by every name, complete, checked."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from blake3 import blake3
from typer.testing import CliRunner

from anchors.hedera.keys import create_operator_key, load_operator_key, public_key_bytes
from anchors.hedera.server import serve
from pipeline import seal, topics
from pipeline.anchor import anchor
from pipeline.authority import NewKey
from pipeline.cli.main import build
from pipeline.evidence import NoSuchRecordError, NotProvenYetError, prove
from pipeline.exportproofs import export
from pipeline.findevent import Wanted, find_place
from pipeline.identity import create_identity
from pipeline.index import index_path
from pipeline.index import work as index_work
from pipeline.ledgers import ledger_access
from pipeline.recordindex import EventName, IndexBusyError, RecordIndex
from pipeline.settings import Settings, UsageError
from pipeline.shard import store_of
from pipeline.stage import Health, Stop
from pipeline.trust import load_trust, operator_key_path, rotate_log_key, trust_path
from pipeline.verify import check_online, verify
from processors.model import RawRecord
from schemas.checkpoint import log_key, open_checkpoint
from schemas.envelope import PayloadKind, SignedEnvelope, decode_envelope
from schemas.evidence import ChainPoint, Evidence, parse_evidence
from schemas.note import parse_vkey
from schemas.tlogproof import parse_tlog_proof
from schemas.trust import TrustRoot
from tests.kit.deployment import Deployment, Device, in_thread, make_deployment, wait_for

pytestmark = pytest.mark.timeout(180)

COPIED = "copy.evidence.json"


@dataclass
class World:
    """A deployment whose device rotated its key, and whose events are anchored."""

    deployment: Deployment
    device: Device
    mirror: str
    events: list[RawRecord]

    @property
    def settings(self) -> Settings:
        return self.deployment.settings

    @property
    def trust(self) -> TrustRoot:
        return load_trust(trust_path(self.settings))

    @contextmanager
    def working(self) -> Iterator[None]:
        """Seal and anchor for the length of the block."""

        def anchoring(settings: Settings, _slot: int, health: Health, stop: Stop) -> None:
            folder = settings.data_dir / "state" / "anchor"
            folder.mkdir(parents=True, exist_ok=True)
            anchor(settings, folder, ledger_access(settings), health, stop)

        with (
            in_thread(seal.work, self.settings, "seal"),
            in_thread(anchoring, self.settings, "anchor"),
        ):
            yield

    def anchored(self, record: RawRecord) -> Evidence:
        """Wait until a record's evidence has a receipt."""

        def taken() -> Evidence | None:
            try:
                evidence = prove(self.settings, record.topic, record.partition, record.offset)
            except NotProvenYetError:
                return None
            return evidence if evidence.anchor else None

        return wait_for(taken, f"evidence for {record.topic} at {record.offset}")

    def cli(self, *words: str) -> tuple[int, str]:
        """Run `attestream ...` against this deployment; prove needs to know where Kafka is."""
        result = CliRunner().invoke(build(words[0]), [*words], catch_exceptions=True)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    def prove(self, *words: str) -> tuple[int, str]:
        settings = self.settings
        where = ["--data-dir", str(settings.data_dir), "--bootstrap-servers", settings.bootstrap()]
        return self.cli("prove", *where, *words)


@pytest.fixture(scope="module")
def world(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    deployment = make_deployment(
        kafka, tmp_path_factory.mktemp("evidence"), checkpoint_interval_s=0.1, anchor_interval_s=0.3
    )
    settings = deployment.settings
    create_operator_key(operator_key_path(settings))
    operators = {"0.0.2": public_key_bytes(load_operator_key(operator_key_path(settings)))}
    with ExitStack() as stack:
        ledger = serve(settings.data_dir / "ledger.sqlite", 0, 0, operators=operators)
        stack.callback(ledger.stop)
        stack.callback(deployment.authority.close)
        ports = {"grpc_port": ledger.grpc_port, "rest_port": ledger.rest_port}
        (settings.data_dir / "stack.json").write_text(json.dumps({"ledger": ports}))
        deployment.enroll()
        device = deployment.enroll()
        with deployment.ingesting():
            sources = [deployment.send(device, device.telemetry()) for _ in range(3)]
            assert deployment.verdicts(sources) == ["accepted"] * 3
            second = replace(create_identity("k2"), did=device.did)
            deployment.authority.rotate(device.did, NewKey("k2", second.public_key))
            device.identity = second
            nurse = create_identity("n1")
            deployment.authority.enroll(nurse.did, NewKey("n1", nurse.public_key, "APPROVAL"), {})
            envelope = decode_envelope(device.access())
            approval = replace(nurse, key_id=f"{nurse.did}#n1").sign(
                PayloadKind.ACCESS, settings.log_name, envelope.payload
            )
            approved = SignedEnvelope(envelope.payload, (*envelope.signatures, approval)).encode()
            more = [
                deployment.send(device, device.telemetry()),
                deployment.send(device, approved, topics.ACCESS_RAW),
                deployment.send(device, b"nonsense"),
            ]
            assert deployment.verdicts([*sources, *more])[3:] == ["accepted", "accepted", "malformed"]
        events = sorted(deployment.read(topics.EVENTS), key=lambda r: (r.append_ms, r.offset))
        made = World(deployment, device, f"http://127.0.0.1:{ledger.rest_port}", events)
        with made.working():
            for record in (*events, *deployment.read(topics.REJECTED), *deployment.read(topics.REGISTRY)):
                made.anchored(record)
            # A second root, so that there is an earlier and a later one.
            deployment.enroll()
            made.anchored(deployment.read(topics.REGISTRY)[-1])
        yield made


def checked(world: World, evidence: Evidence, trust: TrustRoot | None = None) -> Evidence:
    """As a stranger does it; the evidence must hold."""
    verdict = verify(parse_evidence(evidence.to_json().encode()), trust or world.trust)
    assert verdict.holds, verdict.broken
    return evidence


# ---- what is in it ---------------------------------------------------------------------------------------


def test_every_event_is_proven_with_its_signers_and_its_receipt(world: World) -> None:
    chains = set()
    for record in world.events:
        evidence = checked(world, prove(world.settings, record.topic, record.partition, record.offset))
        assert evidence.anchor is not None
        assert evidence.record.value == record.value
        chains.add(tuple(entry.record.key == world.device.did.encode() for entry in evidence.registry))
    # The device's two entries; and, for the approved event, the nurse's too.
    assert chains == {(True, True), (True, True, False)}


def test_records_of_other_sealed_topics_are_proven(world: World) -> None:
    for topic in (topics.REJECTED, topics.REGISTRY):
        (record, *_) = world.deployment.read(topic)
        evidence = checked(world, prove(world.settings, topic, record.partition, record.offset))
        assert evidence.registry == ()


def test_the_receipt_is_the_mirrors_and_can_be_asked_for(world: World) -> None:
    record = world.events[0]
    evidence = prove(world.settings, record.topic, record.partition, record.offset)
    assert evidence.anchor is not None
    assert evidence.anchor.mirror == world.mirror
    assert evidence.anchor.transaction_id.startswith("0.0.2@")
    verdict = verify(evidence, world.trust)
    check_online(evidence, verdict, world.mirror)
    assert verdict.holds
    assert verdict.steps[-1].by.startswith(f"mirror {world.mirror}")
    for changed in (
        replace(evidence.anchor, message=b"{}"),
        replace(evidence.anchor, sequence=10_000),
        replace(evidence.anchor, topic="0.0.9"),
    ):
        verdict = verify(evidence, world.trust)
        check_online(replace(evidence, anchor=changed), verdict, world.mirror)
        assert not verdict.holds
    for other in ("http://127.0.0.1:1", "not a mirror"):
        verdict = verify(evidence, world.trust)
        check_online(evidence, verdict, other)
        assert verdict.broken is not None
    check_online(replace(evidence, anchor=None), verify(evidence, world.trust), world.mirror)


def test_a_point_that_the_trust_file_names_is_reached(world: World) -> None:
    record = world.events[0]
    early = prove(world.settings, record.topic, record.partition, record.offset, earliest=True)
    late = prove(world.settings, record.topic, record.partition, record.offset)
    assert early.anchor is not None
    assert late.anchor is not None
    assert early.anchor.sequence < late.anchor.sequence
    point = ChainPoint(late.anchor.sequence, late.anchor.running_hash)
    known = replace(world.trust, ledger=replace(world.trust.ledger, checkpoints=(point,)))
    kept = trust_path(world.settings).read_text()
    try:
        trust_path(world.settings).write_text(known.to_json())
        evidence = prove(world.settings, record.topic, record.partition, record.offset, earliest=True)
    finally:
        trust_path(world.settings).write_text(kept)
    assert evidence.anchor is not None
    assert evidence.anchor.sequence == early.anchor.sequence
    assert evidence.anchor.segment[-1].sequence == late.anchor.sequence
    verdict = verify(evidence, known)
    assert verdict.holds
    assert verdict.steps[-1].by.startswith("ledger ")


def test_without_its_mirror_evidence_has_no_receipt_and_says_so(world: World) -> None:
    record = world.events[0]
    away = world.settings.model_copy(update={"ledger_mirror_url": "http://127.0.0.1:1"})
    evidence = checked(world, prove(away, record.topic, record.partition, record.offset))
    assert evidence.anchor is None


def test_a_key_found_compromised_later_is_warned_of(world: World) -> None:
    device = world.deployment.enroll()
    with world.deployment.ingesting():
        source = world.deployment.send(device, device.telemetry())
        wait_for(lambda: world.deployment.verdict_of(source) == "accepted", "judged")
    world.deployment.authority.revoke(device.did, "k1", 1)
    (record,) = [r for r in world.deployment.read(topics.EVENTS) if r.key == device.did.encode()]
    with world.working():
        evidence = wait_for(
            lambda: next((e for e in [world.anchored(record)] if len(e.registry) == 2), None),
            "the revocation",
        )
    verdict = verify(evidence, world.trust)
    assert verdict.holds
    assert "compromised" in verdict.warnings[0]
    early = prove(world.settings, record.topic, record.partition, record.offset, earliest=True)
    assert verify(early, world.trust).holds


# ---- finding it ------------------------------------------------------------------------------------------


def names_of(world: World) -> dict[EventName, RawRecord]:
    from pipeline.recordindex import name_of

    named = {r: name_of(r) for r in world.events}
    return {found[0]: record for record, found in named.items() if found is not None}


def wanted(name: EventName) -> Wanted:
    return Wanted(device=name.device_id, boot=name.boot, sequence=name.sequence, kind=name.kind.value)


def test_an_event_is_found_by_device_boot_and_sequence(world: World) -> None:
    names = names_of(world)
    assert len(names) == 5
    for name, record in names.items():
        place = (topics.EVENTS, record.partition, record.offset)
        assert find_place(world.settings, wanted(name)) == place
    absent = replace(next(iter(names)), sequence=99)
    with pytest.raises(NoSuchRecordError, match="sequence 99"):
        find_place(world.settings, wanted(absent))


def test_an_event_is_found_by_its_payloads_digest(world: World) -> None:
    for record in world.events:
        digest = blake3(decode_envelope(record.value or b"").payload).hexdigest()
        for text in (digest, digest[:32], digest.upper()):
            place = (topics.EVENTS, record.partition, record.offset)
            assert find_place(world.settings, Wanted(digest=text)) == place
    with pytest.raises(NoSuchRecordError, match="payload digest"):
        find_place(world.settings, Wanted(digest="00" * 32))


def test_an_event_that_came_after_the_index_was_read_is_found(world: World) -> None:
    find_place(world.settings, wanted(next(iter(names_of(world)))))
    device = world.deployment.enroll()
    with world.deployment.ingesting():
        source = world.deployment.send(device, device.telemetry())
        wait_for(lambda: world.deployment.verdict_of(source) == "accepted", "judged")
    found = find_place(world.settings, Wanted(device=device.did, boot=1, sequence=1))
    assert found[0] == topics.EVENTS


def test_a_lost_or_foreign_index_misleads_nobody(world: World) -> None:
    name, record = next(iter(names_of(world).items()))
    place = (topics.EVENTS, record.partition, record.offset)
    shutil.rmtree(index_path(world.settings))
    assert find_place(world.settings, wanted(name)) == place
    with closing(RecordIndex(index_path(world.settings))) as index:
        positions = index.positions()
        assert positions is not None
        moved = replace(record, offset=record.offset + 1)
        index.write([moved], replace(positions, topic_id="another topic"))
    assert find_place(world.settings, wanted(name)) == place


def test_while_the_stage_keeps_the_index_warm_prove_reads_beside_it(world: World) -> None:
    name, record = next(iter(names_of(world).items()))
    shutil.rmtree(index_path(world.settings))
    with in_thread(index_work, world.settings, "index") as health:
        wait_for(lambda: health.steps > 2, "the index has caught up")
        with pytest.raises(IndexBusyError):
            RecordIndex(index_path(world.settings))
        assert find_place(world.settings, wanted(name)) == (topics.EVENTS, record.partition, record.offset)
        with pytest.raises(NoSuchRecordError):
            find_place(world.settings, wanted(replace(name, boot=7)))


@pytest.mark.parametrize(
    "half",
    [
        Wanted(),
        Wanted(topic="device.events"),
        Wanted(topic="device.events", partition=0),
        Wanted(device="did:key:x"),
        Wanted(device="did:key:x", boot=1),
        Wanted(boot=1, sequence=1),
        Wanted(device="did:key:x", boot=1, sequence=1, kind="registry_entry"),
        Wanted(device="did:key:x", boot=1, sequence=1, digest="00" * 32),
        Wanted(topic="device.events", partition=0, offset=0, digest="00" * 32),
        Wanted(digest="zz"),
        Wanted(digest="00"),
        Wanted(digest=""),
    ],
)
def test_half_a_name_is_the_users_to_mend(world: World, half: Wanted) -> None:
    with pytest.raises(UsageError):
        find_place(world.settings, half)


def test_what_is_not_there_or_never_proven(world: World) -> None:
    for topic in (topics.TELEMETRY_RAW, topics.CHECKPOINTS, "nowhere"):
        with pytest.raises(NoSuchRecordError, match="not a sealed topic"):
            prove(world.settings, topic, 0, 0)
    with pytest.raises(NoSuchRecordError, match="no committed record"):
        prove(world.settings, topics.EVENTS, world.events[0].partition, 10_000)


# ---- the commands ----------------------------------------------------------------------------------------


def test_prove_and_verify_from_the_command_line(world: World, tmp_path: Path) -> None:
    name = next(iter(names_of(world)))
    file, trust = tmp_path / COPIED, str(trust_path(world.settings))
    by_name = ("--device", name.device_id, "--boot", str(name.boot), "--sequence", str(name.sequence))
    code, said = world.prove(*by_name, "--kind", name.kind.value, "-o", str(file))
    assert code == 0, said
    assert "anchored" in said
    code, said = world.cli("verify", str(file), "--trust", trust)
    assert code == 0, said
    for words in ("registry chain", "signatures", "The evidence holds. It does not prove:", "unsigned"):
        assert words in said
    code, said = world.cli("verify", str(file), "--trust", trust, "--json", "--mirror", world.mirror)
    verdict = json.loads(said)
    assert (code, verdict["holds"], verdict["broken"]) == (0, True, None)
    assert verdict["steps"][-1]["name"] == "ledger receipt, asked now"
    # One byte of the value, and the exit code and the first broken step tell.
    document = json.loads(file.read_text())
    document["record"]["value"] = "AAAA" + document["record"]["value"][4:]
    file.write_text(json.dumps(document))
    code, said = world.cli("verify", str(file), "--trust", trust)
    assert code == 1
    assert "The evidence does NOT hold: record." in said
    code, said = world.cli("verify", str(file), "--trust", trust, "--json")
    assert (code, json.loads(said)["broken"]) == (1, "record")


def test_a_withheld_value_is_nowhere_in_the_file(world: World, tmp_path: Path) -> None:
    record = world.events[0]
    file = tmp_path / COPIED
    place = ("--topic", record.topic, "--partition", str(record.partition), "--offset", str(record.offset))
    assert world.prove(*place, "--redact", "value", "-o", str(file))[0] == 0
    evidence = checked(world, parse_evidence(file.read_bytes()))
    assert evidence.record.value is None
    assert evidence.registry == ()
    document = json.loads(file.read_text())
    assert document["record"]["value"] is None
    assert len(file.read_bytes()) < 6_000
    with pytest.raises(UsageError, match="only `value`"):
        world.prove(*place, "--redact", "key", "-o", str(file))


def test_exported_files_are_what_other_tools_read(world: World, tmp_path: Path) -> None:
    evidence = world.anchored(world.events[-1])
    names = export(evidence, world.trust, tmp_path / "out")
    assert {"leaf", "epoch-leaf", "shard.tlog-proof", "epoch.tlog-proof", "shard.vkey", "epoch.vkey"} <= set(
        names
    )
    assert {"registry-0-leaf", "registry-1-shard.tlog-proof"} <= set(names)
    for prefix in ("", "registry-0-"):
        for name, leaf in (("shard", "leaf"), ("epoch", "epoch-leaf")):
            key = parse_vkey((tmp_path / "out" / f"{prefix}{name}.vkey").read_text().strip())
            note = (tmp_path / "out" / f"{prefix}{name}.checkpoint").read_bytes()
            checkpoint = open_checkpoint(note, key).checkpoint
            proof = parse_tlog_proof((tmp_path / "out" / f"{prefix}{name}.tlog-proof").read_bytes())
            assert checkpoint.size > proof.index
            assert (tmp_path / "out" / f"{prefix}{leaf}").exists()
    shard_note = (tmp_path / "out" / "shard.checkpoint").read_bytes()
    assert (tmp_path / "out" / "epoch-leaf").read_bytes() == shard_note


# ---- rotation of the log's key ---------------------------------------------------------------------------


def test_the_log_goes_on_under_a_new_key_and_old_evidence_holds(world: World) -> None:
    before = world.anchored(world.events[0])
    old_trust = world.trust
    device = world.deployment.enroll()
    rotate_log_key(world.settings)
    with world.deployment.ingesting():
        source = world.deployment.send(device, device.telemetry())
        wait_for(lambda: world.deployment.verdict_of(source) == "accepted", "judged")
    (record,) = [r for r in world.deployment.read(topics.EVENTS) if r.key == device.did.encode()]
    with world.working():
        after = world.anchored(record)
        world.anchored(world.events[0])
    assert verify(after, world.trust).warnings == []
    checked(world, after)
    # What was written before holds, with the word that its key was replaced.
    assert "earlier key" in verify(checked(world, before), world.trust).warnings[0]
    assert verify(before, old_trust).holds
    assert not verify(after, old_trust).holds
    # A shard that did not grow keeps its checkpoint, and is vouched for by the new key's epoch log.
    data = store_of(world.settings, (topics.REJECTED, 0)).read_checkpoint()
    data = data or store_of(world.settings, (topics.REJECTED, 1)).read_checkpoint()
    assert data is not None
    origin = data.split(b"\n")[0].decode()
    assert open_checkpoint(data, log_key(origin, old_trust.log_key)).checkpoint.size
    (rejected,) = world.deployment.read(topics.REJECTED)
    assert verify(world.anchored(rejected), world.trust).warnings == []
