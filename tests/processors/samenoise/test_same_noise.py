"""Two devices with the same noise meet; others do not, whatever they report and whenever we restart."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.detect import TelemetryDetectors, noiseprints
from processors.model import RawRecord
from processors.samenoise import NoiseMemory, SameNoise, memory, table
from processors.samenoise.pair import decode_memory
from schemas.noise import NoiseBlock, NoisePrint, encode_noise
from schemas.records import FindingStatus, Severity
from tests.kit.noisy import (
    CONFIG,
    HR,
    INTERVAL_MS,
    ONE,
    PRINTS,
    RAW,
    RESP,
    START_MS,
    THREE,
    TWO,
    Kept,
    blocks,
    events,
    judged,
    noise,
    records,
    reported,
)

ROWS = 800
RULE = SameNoise(CONFIG)
SHARED = noise(1, ROWS)


def told(device: str, values: list[float], first: int = 0, code: int = HR) -> list[NoiseBlock]:
    return blocks(events(device, values, code, first=first))


def copies(first: int = 0, level: float = 96.0) -> list[RawRecord]:
    """Two devices of one source; the second joins later, at another level, with a trend of its own."""
    one = told(ONE, reported(71.3, SHARED))
    two = told(TWO, reported(level, SHARED[first:], slope=0.01), first)
    return records([*one, *two])


@pytest.mark.parametrize("first", [0, 3, 11])
def test_two_levels_with_one_noise_are_one_finding_about_both(first: int) -> None:
    opened, *updated = judged(copies(first))
    assert (opened.rule, opened.status, opened.severity) == (
        "same_noise", FindingStatus.OPENED, Severity.HIGH
    )  # fmt: skip
    assert {opened.device_id, opened.parameters["other"]} == {ONE, TWO}
    assert opened.parameters["config"] == CONFIG.digest
    assert opened.parameters["codes"] == str(HR)
    assert {each.status for each in updated} == {FindingStatus.UPDATED}
    assert {each.id for each in updated} == {opened.id}
    assert [each.parameters["meetings"] for each in updated]


def test_the_evidence_is_records_of_both() -> None:
    opened = judged(copies())[0]
    ends = {ONE: set[int](), TWO: set[int]()}
    for device, level in ((ONE, 71.3), (TWO, 96.0)):
        ends[device] = {each.offset for each in told(device, reported(level, SHARED))}
    places = [each.offset for each in opened.evidence]
    assert len(places) == len(set(places))
    assert {(each.topic, each.partition) for each in opened.evidence} == {(RAW, 0)}
    assert all(place in ends[ONE] | ends[TWO] for place in places)


def test_no_value_stands_in_a_finding() -> None:
    texts = " ".join(f"{each.explanation} {dict(each.parameters)}" for each in judged(copies()))
    values = {f"{each}" for each in reported(71.3, SHARED)} | {f"{e}" for e in reported(96.0, SHARED)}
    assert not values & set(texts.replace("'", " ").split())


def test_devices_with_their_own_noise_never_meet() -> None:
    found = [told(f"did:example:{n}", reported(70.0 + n, noise(100 + n, 4 * ROWS))) for n in range(12)]
    memory = NoiseMemory()
    noticed = RULE.process(records(each for one in found for each in one), memory)
    assert noticed.prints > 1000
    assert (noticed.meetings, noticed.findings, len(memory)) == (0, [], 0)


def test_a_copy_of_long_ago_is_not_this_rule() -> None:
    late = int(CONFIG.same_noise.apart_us / 1000 / INTERVAL_MS) + 10
    one = told(ONE, reported(71.3, SHARED))
    assert not judged(records([*one, *told(TWO, reported(96.0, SHARED), first=late)]))


def test_a_course_that_repeats_itself_is_no_noise() -> None:
    wave = [0.0, 1.0, 3.0, 2.0, 1.2, 2.2, 0.7, 1.1, -1.0, -2.0] * (ROWS // 10)
    topic = records([*told(ONE, reported(71.3, wave)), *told(TWO, reported(96.0, wave))])
    assert len(topic) > 10
    assert not judged(topic)


@pytest.mark.parametrize(
    "values",
    [
        [70.0] * ROWS,
        [70.0 + at % 2 for at in range(ROWS)],
        [40.0 + at * 0.1 for at in range(ROWS)],
        [float(round(70 + each / 3)) for each in SHARED],
    ],
    ids=["flat", "zigzag", "rising", "coarse"],
)
def test_a_stretch_that_says_nothing_makes_no_print(values: list[float]) -> None:
    assert not told(ONE, values)


def test_a_pulse_stands_for_itself_only_without_the_heart_rate() -> None:
    pulse = 149514
    alone = blocks(events(ONE, reported(71.3, SHARED), pulse))
    assert {found.code for each in alone for found in each.prints} == {HR}
    both = [
        replace(
            each,
            event=replace(
                each.event, body={"codes": [HR, pulse], "values": [*each.event.body["values"], 70.0 + at % 7]}
            ),
        )
        for at, each in enumerate(events(ONE, reported(71.3, SHARED)))
    ]
    assert [each.prints for each in blocks(both)] == [
        each.prints for each in told(ONE, reported(71.3, SHARED))
    ]


def test_a_finding_ends_when_nobody_meets_any_more() -> None:
    quiet_rows = CONFIG.same_noise.quiet_us // 1000 // INTERVAL_MS
    own = noise(9, quiet_rows + 200)
    one = told(ONE, reported(71.3, [*SHARED, *own]))
    two = told(TWO, reported(96.0, [*SHARED, *noise(10, quiet_rows + 200)]))
    found = judged(records([*one, *two]))
    assert [found[0].status, found[-1].status] == [FindingStatus.OPENED, FindingStatus.CLEARED]
    assert found[-1].id == found[0].id
    assert [each.status for each in found].count(FindingStatus.CLEARED) == 1


def test_many_devices_of_one_source_are_about_as_many_findings() -> None:
    devices = [f"did:example:{n:02d}" for n in range(20)]
    topic = records(
        each for n, device in enumerate(devices) for each in told(device, reported(50.0 + 4 * n, SHARED))
    )
    opened = [each for each in judged(topic) if each.status is FindingStatus.OPENED]
    named = {each.device_id for each in opened} | {each.parameters["other"] for each in opened}
    assert named == set(devices)
    assert len(opened) < len(devices)


def test_signals_count_each_for_itself() -> None:
    breath = noise(3, ROWS)
    one = [*told(ONE, reported(71.3, SHARED)), *told(ONE, reported(18.0, breath), code=RESP)]
    two = [*told(TWO, reported(96.0, SHARED)), *told(TWO, reported(25.0, breath), code=RESP)]
    sooner, later = judged(records([*one, *two]))[0], judged(copies())[0]
    assert sooner.parameters["codes"] == f"{HR} {RESP}"
    assert sooner.time_us < later.time_us


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 2 * ROWS // 8), max_size=6), st.lists(st.integers(0, ROWS), max_size=6))
def test_a_restart_at_any_point_changes_nothing(topic_places: list[int], event_places: list[int]) -> None:
    topic = copies(5)
    assert judged(topic, restart_at=topic_places) == judged(topic)
    made = events(ONE, reported(71.3, SHARED))
    assert blocks(made, reload_at=event_places) == blocks(made)


def test_every_restart_finds_the_prints_that_are_looked_up() -> None:
    topic, kept, memory = copies(5), Kept(), NoiseMemory()
    for record in topic:
        RULE.process([record], memory)
        kept.commit(memory)
        again = kept.restarted(RULE, topic)
        assert (len(again.table), again.changes()) == (len(memory.table), memory.changes())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.floats(allow_nan=True, allow_infinity=True)
        | st.sampled_from([0.0, 70.0, 70.1, 1e308, -1e308, math.nan, math.inf]),
        max_size=200,
    )
)
def test_no_value_raises_or_makes_a_state_grow(values: list[float]) -> None:
    told: list[NoiseBlock] = []
    detectors = TelemetryDetectors(CONFIG, noise=told)
    state = detectors.new()
    detectors.process(events(ONE, values), lambda _device: state)
    assert len(detectors.dump(state)) < 3000
    assert detectors.dump(detectors.load(detectors.dump(state))) == detectors.dump(state)
    judged(records(told))


NUMBERS = st.integers(0, 2**63 - 1) | st.sampled_from([0, 5, 2**63 - 1])
PRINT = st.builds(
    NoisePrint,
    st.sampled_from([HR, RESP, 0, -1]),
    st.integers(0, 7),
    st.integers(0, 2**48 - 1) | st.sampled_from([0, 1, 3]),
)
BLOCK = st.builds(
    NoiseBlock,
    st.sampled_from([ONE, TWO, THREE, ""]),
    st.integers(0, 2),
    NUMBERS | st.integers(0, 200),
    st.integers(-(2**63), 2**63 - 1) | st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.lists(PRINT, min_size=1, max_size=3).map(tuple),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(BLOCK, max_size=4) | st.binary(max_size=40), max_size=20))
def test_no_record_raises_and_each_is_passed(made: list[list[NoiseBlock] | bytes]) -> None:
    topic = [
        RawRecord(PRINTS, 0, at, START_MS + at, b"", each if isinstance(each, bytes) else encoded(each))
        for at, each in enumerate(made)
    ]
    memory = NoiseMemory()
    noticed = RULE.process(topic, memory)
    assert len(noticed.unreadable) == sum(isinstance(each, bytes) for each in made)
    assert memory.next_offset == len(topic)
    for _, value in memory.changes():
        decode_memory(value)


def encoded(made: list[NoiseBlock]) -> bytes:
    return encode_noise(RAW, 0, made)


def test_the_table_holds_so_many_prints_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_PRINTS", 50)
    one = told(ONE, reported(71.3, noise(1, 10 * ROWS)))
    memory = NoiseMemory()
    RULE.process([*records(one)], memory)
    known = NoiseMemory()
    for record in (RawRecord(PRINTS, 0, n, START_MS, b"", encoded([each])) for n, each in enumerate(one)):
        RULE.process([record], known)
    assert len(known.table) == 50
    assert len(memory.table) <= 50


def test_pairs_are_bounded_and_an_open_one_is_cleared_before_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_PAIRS", 3)
    devices = [f"did:example:{n:02d}" for n in range(8)]
    topic = records(
        each for n, device in enumerate(devices) for each in told(device, reported(50.0 + 4 * n, SHARED))
    )
    held = NoiseMemory()
    found = RULE.process(topic, held).findings
    assert len(held) == 3
    state: dict[bytes, FindingStatus] = {}
    for each in found:
        before = state.get(each.id)
        assert (before in (None, FindingStatus.CLEARED)) == (each.status is FindingStatus.OPENED)
        state[each.id] = each.status
    still_open = sum(each is not FindingStatus.CLEARED for each in state.values())
    assert still_open <= 3
    assert judged(topic, restart_at=range(0, len(topic), 7)) == judged(topic)


def test_signs_are_those_of_the_changes() -> None:
    values = reported(71.3, SHARED)
    for each in told(ONE, values):
        for found in each.prints:
            end = each.sequence - found.back  # the sequence is one more than the row
            rises = [b > a for a, b in pairwise(values[end - 49 : end])]
            assert found.signs == sum(rise << 47 - at for at, rise in enumerate(rises))


def test_prints_of_many_devices_are_those_of_each_alone() -> None:
    """So many end a block together that their samples are compared at once."""
    devices = [f"did:example:{n:03d}" for n in range(2 * noiseprints.MANY)]
    odd = [70.0, math.inf, math.nan, 1e308, -1e308, -0.0, 0.0]
    made = [
        events(device, [*reported(70.0, noise(n, 100)), *odd, *reported(80.0, noise(n + 900, 100))])
        for n, device in enumerate(devices)
    ]
    together: list[NoiseBlock] = []
    detectors = TelemetryDetectors(CONFIG, noise=together)
    states = {device: detectors.new() for device in devices}
    for row in zip(*made, strict=True):
        detectors.process(row, states.__getitem__)
    alone = {device: blocks(each) for device, each in zip(devices, made, strict=True)}
    assert sum(map(len, alone.values())) > len(devices)
    for device, each in alone.items():
        assert [block for block in together if block.device_id == device] == each
