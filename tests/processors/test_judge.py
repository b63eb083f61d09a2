"""A batch through all decisions: when the registry is asked again, and what silence is worth."""

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from processors.detect import SilenceRule
from processors.judge import Judge, NoDetectors
from processors.model import Outcome, RawRecord, VerifiedEvent
from processors.registry import Registry
from processors.state import DeviceState, decode_state
from schemas.noise import NoiseBlock
from schemas.partition import partition_of
from schemas.reasons import Reason
from schemas.records import Finding, FindingStatus, Severity
from tests.kit.parties import (
    NOW_MS,
    PARTITIONS,
    TELEMETRY_RAW,
    TRUST,
    RegistryTopic,
    envelope_of,
    event_of,
    identity_of,
    payload_of,
    sent,
    telemetry_judge,
)

DEVICE = identity_of("device").did
LATE = identity_of("late").did
PLACE = (TELEMETRY_RAW, 0)
SILENCE_S = 30.0


class States:
    """Device states in memory, as the stage keeps them; `restart` leaves what was touched and written."""

    def __init__(self) -> None:
        self.kept: dict[str, DeviceState] = {}
        self.written: dict[str, bytes] = {}
        self.touched: set[str] = set()
        self.last_append_ms: dict[str, int] = {}

    def state_of(self, device_id: str) -> DeviceState:
        return self.kept.setdefault(device_id, DeviceState(None))

    def detectors_of(self, device_id: str) -> Any:
        return self.state_of(device_id).detectors

    def touch(self, device_id: str, state: DeviceState) -> None:
        assert self.state_of(device_id) is state
        self.touched.add(device_id)

    def commit(self) -> None:
        self.written |= {device: self.kept[device].encode(b"") for device in self.touched}
        self.touched.clear()

    def restart(self) -> None:
        self.kept = {device: decode_state(value)[0] for device, value in self.written.items()}
        self.touched.clear()
        self.last_append_ms = {
            device: state.last_append_ms
            for device, state in self.kept.items()
            if state.last_append_ms and not state.silent_since_ms
        }


class Follower:
    """A table that stands behind its topic until it is read up, as far as it can be."""

    def __init__(self, topic: RegistryTopic, offset: int) -> None:
        self.topic, self.asked, self.answers = topic, 0, True
        self.table = Registry(TRUST)
        self.read_to(offset)

    def read_to(self, offset: int) -> None:
        for record in self.topic.records[self.table.offset : offset]:
            self.table.apply(record)

    def catch_up(self) -> bool:
        self.asked += 1
        if self.answers:
            self.read_to(len(self.topic.records))
        return self.answers


def judge_with(follower: Follower, silence: SilenceRule | None = None) -> Judge:
    return Judge(telemetry_judge(), NoDetectors(), follower.table, follower.catch_up, silence)


def enrolled(*names: str) -> RegistryTopic:
    topic = RegistryTopic()
    for name in names:
        topic.enroll(name)
    return topic


def verdicts(outcome: Outcome) -> list[tuple[int, Reason | None, int]]:
    """(offset, reason, registry offset) of each record, by offset."""
    found: list[tuple[int, Reason | None, int]] = [
        (item.source.offset, None, item.registry_offset) for item in outcome.accepted
    ]
    found += [(item.source.offset, item.reason, item.registry_offset) for item in outcome.rejected]
    return sorted(found, key=lambda verdict: verdict[0])


# ---- the registry, read up once --------------------------------------------------------------------------


def test_a_known_fleet_never_asks_the_registry() -> None:
    follower = Follower(enrolled("device"), 1)
    batch = [sent("device", event_of("device", sequence=n), n) for n in (1, 2, 2)]
    batch += [sent("device", b"noise", 9), sent("device", event_of("device", sequence=3, time=0), 10)]
    judge_with(follower).process(batch, States())
    assert follower.asked == 0


def test_unknown_keys_ask_once_a_batch_and_are_judged_anew_with_the_newer_offset() -> None:
    topic = enrolled("device", "late", "later")
    follower = Follower(topic, 1)
    batch = [
        sent("late", event_of("late"), 0),
        sent("device", event_of("device"), 1),
        sent("stranger", event_of("stranger"), 2),
        sent("later", event_of("later"), 3),
        sent("late", event_of("late", sequence=2), 4),
        sent("device", b"noise", 5),
    ]
    outcome = judge_with(follower).process(batch, States())
    assert follower.asked == 1
    assert verdicts(outcome) == [
        (0, None, 3),
        (1, None, 1),
        (2, Reason.UNKNOWN_DEVICE, 3),
        (3, None, 3),
        (4, None, 3),
        (5, Reason.MALFORMED, 1),
    ]
    assert [item.source.offset for item in outcome.accepted] == [0, 1, 3, 4]


def test_every_verdict_holds_at_the_offset_that_it_states_also_when_a_revocation_comes_between() -> None:
    topic = enrolled("device", "late")
    topic.write(DEVICE, "REVOKE", revoked="k1")
    follower = Follower(topic, 1)
    batch = [sent("device", event_of("device"), 0), sent("late", event_of("late"), 1)]
    outcome = judge_with(follower).process(batch, States())
    assert verdicts(outcome) == [(0, None, 1), (1, None, 3)]
    for item in outcome.accepted:
        (again,) = telemetry_judge().process([item.source], topic.upto(item.registry_offset))
        assert again == item
    after = judge_with(follower).process([sent("device", event_of("device", sequence=2), 2)], States())
    assert verdicts(after) == [(2, Reason.REVOKED_KEY, 3)]


def test_a_registry_that_cannot_be_read_leaves_the_last_known_view() -> None:
    follower = Follower(enrolled("device", "late"), 1)
    follower.answers = False
    batch = [sent("late", event_of("late"), 0), sent("device", event_of("device"), 1)]
    outcome = judge_with(follower).process(batch, States())
    assert follower.asked == 1
    assert verdicts(outcome) == [(0, Reason.UNKNOWN_DEVICE, 1), (1, None, 1)]


def test_a_registry_with_nothing_new_is_asked_once() -> None:
    follower = Follower(enrolled("device"), 1)
    outcome = judge_with(follower).process([sent("late", event_of("late"), 0)], States())
    assert follower.asked == 1
    assert verdicts(outcome) == [(0, Reason.UNKNOWN_DEVICE, 1)]


def test_replays_are_told_within_a_batch_that_is_judged_anew() -> None:
    follower = Follower(enrolled("late"), 0)
    value = event_of("late")
    other = envelope_of(payload_of(LATE, values=[1.0, 2.0]), identity_of("late"))
    batch = [sent("late", value, 0), sent("late", value, 1), sent("late", other, 2)]
    outcome = judge_with(follower).process(batch, States())
    assert [reason for _, reason, _ in verdicts(outcome)] == [None, Reason.REPLAY, Reason.EQUIVOCATION]


# ---- detectors -------------------------------------------------------------------------------------------


class Recorder(NoDetectors):
    def __init__(self) -> None:
        self.seen: list[int] = []

    def process(self, events: Sequence[VerifiedEvent], state_of: Callable[[str], Any]) -> list[Finding]:
        self.seen += [event.source.offset for event in events]
        return []


def test_detectors_see_accepted_events_only_and_their_states_are_written() -> None:
    follower, recorder, states = Follower(enrolled("device"), 1), Recorder(), States()
    judge = Judge(telemetry_judge(), recorder, follower.table, follower.catch_up)
    batch = [sent("device", event_of("device"), 0), sent("device", event_of("device"), 1)]
    judge.process([*batch, sent("stranger", event_of("stranger"), 2)], states)
    assert recorder.seen == [0]
    assert states.touched == {DEVICE}


# ---- silence ---------------------------------------------------------------------------------------------


def at(record: RawRecord, append_ms: int) -> RawRecord:
    return RawRecord(
        record.topic, record.partition, record.offset, append_ms, record.key, record.value, record.headers
    )


class Ward:
    """One device under the silence rule, with a clock of its own."""

    def __init__(self, topic: RegistryTopic | None = None) -> None:
        self.topic = topic or enrolled("device")
        self.states, self.sequence, self.offset = States(), 0, 0
        self.follower = Follower(self.topic, len(self.topic.records))
        self.judge = judge_with(self.follower, SilenceRule(SILENCE_S))

    def speak(self, *after_s: float) -> list[Finding]:
        """One batch with an event appended at each of these moments."""
        batch = []
        for moment in after_s:
            self.sequence += 1
            record = sent("device", event_of("device", sequence=self.sequence), self.offset)
            batch.append(at(record, NOW_MS + round(moment * 1000)))
            self.offset += 1
        found = self.judge.process(batch, self.states).findings
        self.states.commit()
        return found

    def tick(self, after_s: float) -> list[Finding]:
        """A tick of the clock when all before this moment has been judged."""
        now_us = NOW_MS * 1000 + round(after_s * 1e6)
        found = self.judge.silence(self.states, PLACE, now_us - round(SILENCE_S * 1e6), now_us)
        self.states.commit()
        return found


def test_silence_is_opened_once_and_cleared_by_the_first_event_after_it() -> None:
    ward = Ward()
    assert ward.speak(0, 1) == []
    assert ward.tick(31) == []
    (opened,) = ward.tick(31.5)
    assert (opened.status, opened.device_id) == (FindingStatus.OPENED, DEVICE)
    assert [each.offset for each in opened.evidence] == [1]
    assert ward.tick(32) == []
    assert ward.tick(500) == []
    (cleared,) = ward.speak(600, 601, 700)
    assert cleared.status is FindingStatus.CLEARED
    assert cleared.id == opened.id
    assert [each.offset for each in cleared.evidence] == [2]
    assert cleared.time_us == (NOW_MS + 600_000) * 1000
    assert ward.speak(702) == []
    assert ward.tick(731) == []
    (again,) = ward.tick(733)
    assert again.id != opened.id


def test_a_restart_neither_repeats_nor_loses_a_silence() -> None:
    ward = Ward()
    ward.speak(0)
    ward.states.restart()
    (opened,) = ward.tick(31)
    ward.states.restart()
    assert ward.tick(60) == []
    (cleared,) = ward.speak(61)
    assert (cleared.id, cleared.status) == (opened.id, FindingStatus.CLEARED)
    ward.states.restart()
    assert ward.speak(62) == []
    assert len(ward.tick(93)) == 1


def test_an_event_that_was_turned_away_does_not_end_a_silence() -> None:
    ward = Ward()
    ward.speak(0)
    assert len(ward.tick(31)) == 1
    replay = at(sent("device", event_of("device"), 5), NOW_MS + 40_000)
    forged = at(sent("device", envelope_of(payload_of(DEVICE, sequence=9), identity_of("x")), 6), NOW_MS)
    assert ward.judge.process([replay, forged], ward.states).findings == []
    assert ward.tick(60) == []
    assert [found.status for found in ward.speak(70)] == [FindingStatus.CLEARED]


def test_a_device_out_of_service_owes_nothing() -> None:
    for action, revoked in (("REVOKE", "k1"), ("DECOMMISSION", None)):
        ward = Ward()
        ward.speak(0)
        ward.topic.write(DEVICE, action, revoked=revoked)
        ward.follower.catch_up()
        assert ward.tick(31) == []
        ward.states.restart()
        assert ward.tick(60) == []


def test_a_device_with_a_new_key_still_owes_its_word() -> None:
    ward = Ward()
    ward.speak(0)
    key = {"key_id": "k2", "algorithm": "ED25519", "public_key": identity_of("x").public_key}
    ward.topic.write(DEVICE, "ROTATE", key={**key, "purpose": "EVENT"})
    ward.follower.catch_up()
    assert len(ward.tick(31)) == 1


def test_broker_time_that_goes_back_makes_nobody_silent_earlier() -> None:
    for restart in (False, True):
        ward = Ward()
        ward.speak(10)
        ward.speak(5)  # another leader's clock
        if restart:
            ward.states.restart()
        assert ward.tick(39) == []
        (opened,) = ward.tick(41)
        assert opened.evidence[0].offset == 1


def test_no_rule_no_silence() -> None:
    follower, states = Follower(enrolled("device"), 1), States()
    judge = judge_with(follower)
    judge.process([sent("device", event_of("device"), 0)], states)
    assert states.last_append_ms == {}
    assert judge.silence(states, PLACE, 2**62, 2**62) == []


@given(st.lists(st.tuples(st.sampled_from(["speak", "tick", "restart"]), st.integers(0, 70)), max_size=25))
@settings(max_examples=100)
def test_silence_opens_and_clears_in_turn_whatever_happens(steps: list[tuple[str, int]]) -> None:
    ward, now_s, last_s = Ward(), 0.0, None
    is_open: Finding | None = None
    for step, wait_s in steps:
        now_s += wait_s
        if step == "restart":
            ward.states.restart()
        elif step == "speak":
            found = ward.speak(now_s)
            assert [each.status for each in found] == ([FindingStatus.CLEARED] if is_open else [])
            assert all(is_open and each.id == is_open.id for each in found)
            is_open, last_s = None, now_s
        else:
            found = ward.tick(now_s)
            due = last_s is not None and now_s - last_s > SILENCE_S and is_open is None
            assert [each.status for each in found] == ([FindingStatus.OPENED] if due else [])
            is_open = found[0] if found else is_open


# ---- many partitions at once -----------------------------------------------------------------------------


class Loud(NoDetectors):
    """Finds something in every event, and takes a print of it."""

    def __init__(self, noise: list[NoiseBlock]) -> None:
        self._noise, self.calls = noise, 0

    def process(self, events: Sequence[VerifiedEvent], state_of: Callable[[str], Any]) -> list[Finding]:
        self.calls += 1
        found = []
        for each in events:
            device, offset = each.event.device_id, each.source.offset
            state_of(device)
            self._noise.append(NoiseBlock(device, 1, each.event.sequence, 0, offset, ()))
            found.append(Finding("loud", Severity.LOW, device, offset, "an event", ()))
        return found


def test_partitions_are_judged_together_as_each_alone() -> None:
    names = [f"device{number}" for number in range(24)]
    topic = enrolled(*names)
    by_partition: dict[int, list[RawRecord]] = {}
    for sequence in (1, 2, 2, 4):
        for name in names:
            number = partition_of(identity_of(name).did.encode(), PARTITIONS)
            held = by_partition.setdefault(number, [])
            held.append(sent(name, event_of(name, sequence=sequence), len(held)))
    assert len(by_partition) > 2

    def judged(groups: list[list[int]]) -> tuple[dict[int, Outcome], int]:
        noise: list[NoiseBlock] = []
        detectors = Loud(noise)
        judge = Judge(telemetry_judge(), detectors, topic.table, lambda: True, noise=noise)
        states = {number: States() for number in by_partition}
        outcomes: dict[int, Outcome] = {}
        for group in groups:
            found = judge.process_all([(by_partition[number], states[number]) for number in group])
            outcomes |= dict(zip(group, found, strict=True))
        for number, each in states.items():
            assert {partition_of(device.encode(), PARTITIONS) for device in each.touched} == {number}
        return outcomes, detectors.calls

    alone, calls = judged([[number] for number in by_partition])
    assert calls == len(by_partition)
    together, calls = judged([list(by_partition)])
    assert calls == 1
    assert together == alone
    assert all(outcome.rejected and outcome.noise and outcome.findings for outcome in together.values())
