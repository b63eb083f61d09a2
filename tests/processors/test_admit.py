"""Each event once and in order, against a reference that simply never forgets."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.admit import admit
from processors.model import Outcome, RawRecord, Rejection, VerifiedEvent
from processors.state import REMEMBERED, DeviceState, decode_state
from schemas.envelope import PayloadKind
from schemas.events import Event
from schemas.reasons import Reason
from schemas.records import Finding
from tests.kit.parties import NOW_MS, TELEMETRY_RAW

A = "did:web:a"


@dataclass(frozen=True)
class Sent:
    """An event as a device signed it; `content` tells two events of one number apart."""

    device: str
    boot: int
    sequence: int
    content: int = 0

    def verified(self, offset: int) -> VerifiedEvent:
        event = Event(PayloadKind.TELEMETRY, self.device, self.boot, self.sequence, NOW_MS * 1000, {})
        source = RawRecord(TELEMETRY_RAW, 0, offset, NOW_MS + offset, self.device.encode(), b"value")
        return VerifiedEvent(event, blake3(repr(self).encode()).digest(), source, 7)


class States:
    """States as a worker keeps them; `restart` leaves only what was written."""

    def __init__(self) -> None:
        self.kept: dict[str, DeviceState] = {}

    def state_of(self, device: str) -> DeviceState:
        return self.kept.setdefault(device, DeviceState(None))

    def restart(self) -> None:
        self.kept = {device: decode_state(state.encode(b""))[0] for device, state in self.kept.items()}


@dataclass
class Memory:
    boot: int = 0
    accepted: dict[tuple[int, int], int] = field(default_factory=dict)
    """(boot, sequence) -> content of everything ever accepted."""

    @property
    def sequences(self) -> list[int]:
        return [sequence for boot, sequence in self.accepted if boot == self.boot]


class Reference:
    """What the rules come to, for somebody with endless memory."""

    def __init__(self) -> None:
        self.memory: dict[str, Memory] = defaultdict(Memory)

    def judge(self, sent: Sent) -> tuple[Reason | None, str | None]:
        memory = self.memory[sent.device]
        seen = memory.sequences
        last = max(seen, default=0)
        if (sent.boot, sent.sequence) > (memory.boot, last):
            expected = last + 1 if sent.boot == memory.boot else 1
            memory.boot = sent.boot
            memory.accepted[sent.boot, sent.sequence] = sent.content
            return None, "sequence_gap" if sent.sequence != expected else None
        if sent.boot < memory.boot or sent.sequence < min(seen[-REMEMBERED:]):
            return Reason.STALE, None
        known = memory.accepted.get((sent.boot, sent.sequence))
        if known is None:
            return Reason.LATE, None
        if known == sent.content:
            return Reason.REPLAY, None
        return Reason.EQUIVOCATION, "equivocation"


def verdict_of(outcome: Outcome) -> tuple[Reason | None, str | None]:
    """The verdict on a batch of one."""
    assert len(outcome.accepted) + len(outcome.rejected) == 1
    assert len(outcome.findings) <= 1
    reason = outcome.rejected[0].reason if outcome.rejected else None
    return reason, outcome.findings[0].rule if outcome.findings else None


def run(sents: Iterable[Sent], states: States | None = None) -> list[tuple[Reason | None, str | None]]:
    states = states or States()
    return [verdict_of(admit([sent.verified(offset)], states.state_of)) for offset, sent in enumerate(sents)]


SENT = st.builds(
    Sent,
    device=st.sampled_from([A, A, "did:web:b"]),
    boot=st.sampled_from([1, 1, 1, 2, 3]),
    sequence=st.integers(1, 12) | st.sampled_from([2**62 - 1, 2**62]),
    content=st.sampled_from([0, 0, 0, 1]),
)
STREAM = st.lists(SENT, max_size=60)


def long_stream(steps: list[int], backs: list[tuple[int, int]]) -> list[Sent]:
    """Many events of one boot with gaps, each now and then followed by an old one."""
    found, sequence = [], 0
    for number, step in enumerate(steps):
        sequence += step
        found.append(Sent(A, 1, sequence))
        back, content = backs[number % len(backs)]
        if back < sequence:
            found.append(Sent(A, 1, sequence - back, content))
    return found


LONG_STREAM = st.builds(
    long_stream,
    st.lists(st.sampled_from([1, 1, 1, 1, 2, 3]), min_size=100, max_size=160),
    st.lists(st.tuples(st.integers(0, 130), st.sampled_from([0, 0, 1])), min_size=1, max_size=7),
)


@given(STREAM | LONG_STREAM, st.sets(st.integers(0, 300)), st.lists(st.integers(1, 9), min_size=1))
@settings(max_examples=150)
def test_verdicts_are_those_of_endless_memory_whatever_the_batches_and_restarts(
    stream: list[Sent], restarts: set[int], sizes: list[int]
) -> None:
    reference = Reference()
    expected = [reference.judge(sent) for sent in stream]
    assert run(stream) == expected

    # The same in batches, with restarts between them.
    states, outcomes, at, turn = States(), [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        batch = [sent.verified(offset) for offset, sent in enumerate(stream[at : at + size], at)]
        outcomes.append(admit(batch, states.state_of))
        at, turn = at + size, turn + 1
        if turn in restarts:
            states.restart()
    accepted = [item for outcome in outcomes for item in outcome.accepted]
    rejected = [item for outcome in outcomes for item in outcome.rejected]
    findings = [found for outcome in outcomes for found in outcome.findings]
    assert len(accepted) + len(rejected) == len(stream)
    by_offset: dict[int, Reason | None] = {item.source.offset: None for item in accepted}
    by_offset |= {item.source.offset: item.reason for item in rejected}
    assert [by_offset[offset] for offset in range(len(stream))] == [reason for reason, _ in expected]
    assert [found.rule for found in findings] == [rule for _, rule in expected if rule]
    assert [item.source.offset for item in accepted] == sorted(item.source.offset for item in accepted)
    check_order(accepted)


def check_order(accepted: list[VerifiedEvent]) -> None:
    """A device's numbers only rise, so nothing is accepted twice."""
    last: dict[str, tuple[int, int]] = {}
    for item in accepted:
        number = (item.event.boot, item.event.sequence)
        assert number > last.get(item.event.device_id, (0, 0))
        last[item.event.device_id] = number


def test_the_64th_last_is_told_from_a_replay_and_the_one_before_it_is_stale() -> None:
    stream = [Sent(A, 1, number) for number in range(1, 101)]
    for content, known in ((0, (Reason.REPLAY, None)), (1, (Reason.EQUIVOCATION, "equivocation"))):
        verdicts = run([*stream, Sent(A, 1, 37, content), Sent(A, 1, 36, content)])
        assert verdicts[-2:] == [known, (Reason.STALE, None)]


def test_a_new_boot_forgets_the_old_numbers_but_never_goes_back() -> None:
    verdicts = run([Sent(A, 2, 5), Sent(A, 3, 1), Sent(A, 2, 6), Sent(A, 2, 5), Sent(A, 3, 1), Sent(A, 3, 3)])
    assert verdicts == [
        (None, "sequence_gap"),
        (None, None),
        (Reason.STALE, None),
        (Reason.STALE, None),
        (Reason.REPLAY, None),
        (None, "sequence_gap"),
    ]


def test_rejections_of_earlier_checks_keep_their_place_and_touch_no_state() -> None:
    states = States()
    early = Rejection(Sent(A, 1, 1).verified(0).source, Reason.BAD_SIGNATURE, "forged", 7, A)
    outcome = admit([early, Sent(A, 1, 1).verified(1), Sent(A, 1, 1).verified(2)], states.state_of)
    assert [item.reason for item in outcome.rejected] == [Reason.BAD_SIGNATURE, Reason.REPLAY]
    assert outcome.rejected[0] is early
    assert [item.source.offset for item in outcome.accepted] == [1]
    alone = States()
    admit([early], alone.state_of)
    assert alone.kept == {}


def only(outcome: Outcome) -> Finding:
    (found,) = outcome.findings
    return found


def test_equivocation_keeps_both_events_and_a_gap_says_what_is_missing() -> None:
    states = States()
    first, other = Sent(A, 1, 4).verified(10), Sent(A, 1, 4, 1).verified(11)
    gap = only(admit([first], states.state_of))
    assert gap.parameters == {"boot": "1", "expected": "1", "received": "4"}
    assert (gap.score, gap.device_id) == (3.0, A)
    found = only(admit([other], states.state_of))
    assert [(each.topic, each.partition, each.offset) for each in found.evidence] == [
        (TELEMETRY_RAW, 0, 11),
        (TELEMETRY_RAW, 0, 10),
    ]
    assert [(each.digest or b"")[:16] for each in found.evidence] == [other.digest[:16], first.digest[:16]]
    assert found.time_us == other.source.append_us


def test_a_rejected_event_changes_nothing_that_is_remembered() -> None:
    states = States()
    admit([Sent(A, 1, number).verified(number) for number in (1, 2, 5)], states.state_of)
    before = states.state_of(A).encode(b"")
    for offset, sent in enumerate((Sent(A, 1, 2), Sent(A, 1, 2, 1), Sent(A, 1, 3), Sent(A, 1, 5, 1)), 10):
        outcome = admit([sent.verified(offset)], states.state_of)
        assert outcome.rejected
        assert states.state_of(A).encode(b"") == before
