"""Each attack's bytes are what their label says, by the schemas and the signature rule alone."""

import random

import pytest

from loadtests.attacks import (
    ATTACKS,
    BROKER_MAX_BATCH_BYTES,
    GUESSES,
    IMPOSSIBLE_SATURATION_PERCENT,
    SKIPPED,
    SLOW_ATTACKS,
    largest_value_bytes,
)
from loadtests.fleet import Fleet, Outgoing
from loadtests.scene import WARD_DEVICES, Launched, Scene
from schemas.ed25519 import verify_batch
from schemas.envelope import MAX_ENVELOPE_BYTES, PayloadKind, decode_envelope, pae, pae_prefix
from schemas.errors import FormatError
from schemas.events import Event, decode_event
from schemas.mdc import BY_NAME
from schemas.partition import partition_of
from schemas.reasons import Reason

AUDIENCE = "log.example"
START_US = 1_700_000_000_000_000
SECOND_US = 1_000_000
PARTITIONS = 8
BY_ATTACK = {attack.name: attack for attack in ATTACKS}


class Stage:
    """A fleet that has run for three seconds, and everything that it sent."""

    def __init__(self) -> None:
        self.fleet = Fleet(20, audience=AUDIENCE, seed=11, start_us=START_US)
        self.sent = list(self.fleet.due(START_US + 3 * SECOND_US))
        stolen = self.fleet.spare(0)
        registration = Outgoing(
            PayloadKind.REGISTRY_ENTRY, stolen.device_id.encode(), b"as it was", stolen.device_id
        )
        self.scene = Scene(self.fleet, random.Random(5), PARTITIONS, stolen, registration)
        self.keys = {m.device_id: m.identity.public_key for m in self.fleet.monitors}

    def launch(self, name: str) -> Launched:
        launched = BY_ATTACK[name].launch(self.scene, START_US + 3 * SECOND_US)
        assert all(record.meaning == name for record in launched.records)
        return launched

    def one(self, name: str) -> Outgoing:
        (record,) = self.launch(name).records
        return record

    def latest(self, device_id: str) -> Outgoing:
        mine = (
            r for r in reversed(self.sent) if r.device_id == device_id and r.kind is PayloadKind.TELEMETRY
        )
        return next(mine)

    def verifies(self, record: Outgoing, kind: PayloadKind = PayloadKind.TELEMETRY) -> bool:
        envelope = decode_envelope(record.value)
        message = pae(pae_prefix(kind, AUDIENCE), envelope.payload)
        key = self.keys[record.device_id]
        return verify_batch([key], [message], [envelope.signatures[0].signature]) == [True]


def event_of(record: Outgoing, kind: PayloadKind = PayloadKind.TELEMETRY) -> Event:
    return decode_event(kind, decode_envelope(record.value).payload)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_the_list_is_whole_and_every_expectation_says_something() -> None:
    assert len(ATTACKS) == len(BY_ATTACK) == 17
    assert all(str(a.expected) for a in ATTACKS)
    assert set(BY_ATTACK) >= SLOW_ATTACKS
    assert str(BY_ATTACK["equivocation"].expected) == "rejected: equivocation, finding: equivocation"


def test_forged_signature_is_next_in_sequence_and_does_not_verify(stage: Stage) -> None:
    record = stage.one("forged signature")
    assert event_of(record).sequence == event_of(stage.latest(record.device_id)).sequence + 1
    assert not stage.verifies(record)


def test_a_forgery_costs_its_victim_nothing(stage: Stage) -> None:
    before = [m.sequence(PayloadKind.TELEMETRY) for m in stage.fleet.monitors]
    stage.launch("forged signature")
    stage.launch("replay")
    stage.launch("altered payload")
    assert [m.sequence(PayloadKind.TELEMETRY) for m in stage.fleet.monitors] == before


def test_altered_payload_keeps_the_true_signature(stage: Stage) -> None:
    record = stage.one("altered payload")
    captured = stage.latest(record.device_id)
    assert decode_envelope(record.value).signatures == decode_envelope(captured.value).signatures
    assert event_of(record).body["values"] != event_of(captured).body["values"]
    assert stage.verifies(captured)
    assert not stage.verifies(record)


def test_replay_is_the_same_bytes(stage: Stage) -> None:
    record = stage.one("replay")
    captured = stage.latest(record.device_id)
    assert (record.key, record.value, record.kind) == (captured.key, captured.value, captured.kind)


def test_equivocation_signs_two_events_under_one_number(stage: Stage) -> None:
    record = stage.one("equivocation")
    first, second = event_of(stage.latest(record.device_id)), event_of(record)
    assert (first.boot, first.sequence) == (second.boot, second.sequence)
    assert first.body != second.body
    assert stage.verifies(record)


def test_relabelled_is_a_telemetry_event_on_the_topic_of_access(stage: Stage) -> None:
    record = stage.one("event of another kind re-labelled")
    assert record.kind is PayloadKind.ACCESS
    assert stage.verifies(record)
    with pytest.raises(FormatError):
        event_of(record, PayloadKind.ACCESS)


def test_unknown_and_revoked_devices_sign_truly_and_are_not_of_the_fleet(stage: Stage) -> None:
    for name in ("unknown device", "revoked device"):
        record = stage.one(name)
        assert record.device_id not in stage.keys
        spare = stage.fleet.spare(1) if name == "unknown device" else stage.scene.stolen
        stage.keys[record.device_id] = spare.identity.public_key
        assert stage.verifies(record)


def test_replayed_registration_is_the_record_as_it_was(stage: Stage) -> None:
    record = stage.one("replayed registration after a revocation")
    assert (record.kind, record.value) == (PayloadKind.REGISTRY_ENTRY, b"as it was")
    assert record.device_id == stage.scene.stolen.device_id


def test_wrong_partition_is_another_one(stage: Stage) -> None:
    record = stage.one("wrong partition")
    assert record.partition is not None
    assert 0 <= record.partition < PARTITIONS
    assert record.partition != partition_of(record.key, PARTITIONS)


def test_wrong_partition_with_one_partition_uses_another_key(stage: Stage) -> None:
    stage.scene.partitions = 1
    record = stage.one("wrong partition")
    assert record.key != record.device_id.encode()


def test_sequence_gap_leaves_numbers_out(stage: Stage) -> None:
    record = stage.one("sequence gap")
    assert event_of(record).sequence == event_of(stage.latest(record.device_id)).sequence + SKIPPED + 1
    assert stage.verifies(record)


def test_silence_ends_a_monitor(stage: Stage) -> None:
    launched = stage.launch("silence")
    assert launched.records == ()
    later = stage.fleet.due(START_US + 6 * SECOND_US)
    assert launched.device_id not in {record.device_id for record in later}


def test_out_of_range_is_a_true_signature_over_an_impossible_value(stage: Stage) -> None:
    record = stage.one("out-of-range spoof")
    body = event_of(record).body
    values = dict(zip(body["codes"], body["values"], strict=True))
    assert values[BY_NAME["hr"].code] == 480.0
    assert stage.verifies(record)


def test_stuck_sensor_repeats_one_row_from_then_on(stage: Stage) -> None:
    record = stage.one("stuck sensor")
    later = [
        r
        for r in stage.fleet.due(START_US + 10 * SECOND_US)
        if r.device_id == record.device_id and r.kind is PayloadKind.TELEMETRY
    ]
    assert len(later) > 20
    assert all(r.meaning == "stuck sensor" for r in later)
    assert {tuple(event_of(r).body["values"]) for r in [record, *later]} == {
        tuple(event_of(record).body["values"])
    }


def test_brute_force_is_one_subject_failing(stage: Stage) -> None:
    events = [event_of(r, PayloadKind.ACCESS) for r in stage.launch("brute-force access").records]
    assert len(events) == GUESSES
    assert {(e.body["subject"], e.body["outcome"]) for e in events} == {("administrator", "FAILED")}
    assert [e.sequence for e in events] == list(range(events[0].sequence, events[0].sequence + GUESSES))


def test_malformed_bytes_are_no_envelope(stage: Stage) -> None:
    record = stage.one("malformed bytes")
    with pytest.raises(FormatError):
        decode_envelope(record.value)


def test_oversized_fills_what_the_broker_takes(stage: Stage) -> None:
    record = stage.one("oversized record")
    assert MAX_ENVELOPE_BYTES < len(record.value) == largest_value_bytes(record.key)
    assert BROKER_MAX_BATCH_BYTES - 200 < len(record.value) + len(record.key) < BROKER_MAX_BATCH_BYTES


def test_ward_spoof_is_one_ward_at_one_moment_under_true_signatures(stage: Stage) -> None:
    launched = stage.launch("spoof of a whole ward")
    by_id = {m.device_id: m for m in stage.fleet.monitors}
    assert launched.device_ids == {record.device_id for record in launched.records}
    assert len({by_id[device].ward for device in launched.device_ids}) == 1
    assert len(launched.records) == len(launched.device_ids) == 5  # 20 monitors on four wards
    for record in launched.records:
        event = event_of(record)
        values = dict(zip(event.body["codes"], event.body["values"], strict=True))
        assert values[BY_NAME["spo2"].code] == IMPOSSIBLE_SATURATION_PERCENT
        assert event.time_us == START_US + 3 * SECOND_US
        assert stage.verifies(record)


def test_ward_spoof_is_bounded_and_spares_whoever_was_hit_before() -> None:
    fleet = Fleet(80, audience=AUDIENCE, seed=11, start_us=START_US)
    list(fleet.due(START_US + SECOND_US))
    scene = Scene(
        fleet,
        random.Random(5),
        PARTITIONS,
        fleet.spare(0),
        Outgoing(PayloadKind.REGISTRY_ENTRY, b"", b"", ""),
    )
    hit = {scene.victim().device_id for _ in range(8)}
    ward = {m.device_id for m in scene.ward()}
    assert len(ward) == WARD_DEVICES
    assert not ward & hit
    assert scene.victim().device_id not in ward | hit


def test_all_attacks_on_single_devices_have_different_victims(stage: Stage) -> None:
    launched = [stage.launch(attack.name) for attack in ATTACKS]
    victims = [each.device_id for each in launched if len(each.device_ids) == 1]
    stolen = stage.scene.stolen.device_id
    assert victims.count(stolen) == 2
    assert len(set(victims)) == len(victims) - 1 == len(ATTACKS) - 2


def test_a_small_fleet_suffices() -> None:
    small = Fleet(3, audience=AUDIENCE, seed=1, start_us=START_US)
    list(small.due(START_US + 3 * SECOND_US))
    stolen = small.spare(0)
    scene = Scene(
        small, random.Random(1), PARTITIONS, stolen, Outgoing(PayloadKind.REGISTRY_ENTRY, b"", b"", "")
    )
    for attack in ATTACKS:
        attack.launch(scene, START_US)


def test_reasons_and_rules_are_each_known() -> None:
    assert {a.expected.reason for a in ATTACKS if a.expected.reason} == {
        Reason.BAD_SIGNATURE,
        Reason.REPLAY,
        Reason.EQUIVOCATION,
        Reason.WRONG_KIND,
        Reason.UNKNOWN_DEVICE,
        Reason.REVOKED_KEY,
        Reason.WRONG_PARTITION,
        Reason.MALFORMED,
        Reason.OVERSIZED,
    }
