"""Blocks judged together are judged as each alone, bit for bit; batches as one event after another."""

import random
from array import array
from collections.abc import Iterable, Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.detect import DetectConfig, TelemetryDetectors
from processors.detect.blockcolumns import columns_of, thresholds_of
from processors.detect.blocks import (
    BLOCK,
    TRACKED,
    Block,
    BlockLimits,
    Broken,
    interrupted,
    judge,
    new_track,
)
from processors.detect.deviceblocks import MANY
from processors.detect.manyblocks import (
    Courses,
    judge_columns,
    judge_many,
    judge_signals,
    signals_by_columns,
)
from processors.model import RawRecord, VerifiedEvent
from schemas.envelope import PayloadKind
from schemas.events import Event
from schemas.mdc import BY_NAME
from schemas.records import Finding

CONFIG = DetectConfig.default()
LIMITS = [each.course for each in CONFIG.signals.values() if each.course is not None]
HR, PULSE, SPO2, NBP_SYS, NBP_DIAS, NBP_MEAN = (
    BY_NAME[name].code for name in ("hr", "pulse", "spo2", "nbpsys", "nbpdias", "nbpmean")
)
START_MS = 1_700_000_000_000

numbers = st.one_of(
    st.sampled_from([0.0, -0.0, 1e-9, 5e-324, 70.0, 70.1, 300.0, -30.0]),
    st.floats(-1e6, 1e6),
    st.integers(0, 3000).map(lambda n: n / 10),
)


def same(blocks: Sequence[Block]) -> list[bytes]:
    alone = [judge(*each) for each in blocks]
    together = judge_many(blocks)
    assert [track for track, _ in together] == [track for track, _ in alone]
    assert [list(broken) for _, broken in together] == [list(broken) for _, broken in alone]
    as_signals(blocks, alone)
    return [track for track, _ in alone]


def as_signals(blocks: Sequence[Block], alone: Sequence[tuple[bytes, Broken]]) -> None:
    """Judge the blocks as signals of devices are: by the crate where it is at work, and by columns."""
    tracks = np.frombuffer(b"".join(each.track for each in blocks)).reshape(len(blocks), TRACKED)
    samples, courses = np.array([each.samples for each in blocks]), Courses.of([b.limits for b in blocks])
    breaking = [number for number, (_, broken) in enumerate(alone) if broken]
    for judged in (judge_signals, signals_by_columns):
        known, found = judged(tracks, samples, courses, np.arange(len(blocks)))
        assert sorted(found) == breaking
        for number, (track, broken) in enumerate(alone):
            assert broken or known[number].tobytes() == track


blocks_of_one = st.lists(numbers, min_size=BLOCK, max_size=BLOCK)


@given(st.lists(st.tuples(st.lists(blocks_of_one, min_size=1, max_size=12), st.sampled_from(LIMITS))))
@settings(deadline=None)
def test_whatever_signals_show_is_judged_alike(made: list[tuple[list[list[float]], BlockLimits]]) -> None:
    known: list[tuple[bytes, float]] = [(new_track(), 0.0)] * len(made)
    for number in range(12):
        blocks = [
            Block(track, array("d", [last, *courses[number % len(courses)]]), limits)
            for (track, last), (courses, limits) in zip(known, made, strict=True)
        ]
        if blocks:
            known = [(t, b.samples[-1]) for t, b in zip(same(blocks), blocks, strict=True)]


def course(kind: int, level: float, number: int, rng: random.Random) -> float:
    """Make a sample of one of ten kinds of signal, most of them healthy."""
    noisy = level + rng.gauss(0, 1.2)
    match kind:
        case 0:
            return level
        case 1:
            return level + number * 0.3
        case 2:
            return float(round(noisy))
        case 3:
            return noisy + 100 * (rng.random() < 0.02)
        case 4:
            return round(noisy / 5) * 5 if number > 200 else noisy
        case 5:
            return level + 0.001 * rng.gauss(0, 1.2)
    return noisy


@given(
    st.integers(3, 2 * BLOCK).flatmap(
        lambda count: st.lists(
            st.tuples(st.lists(numbers, min_size=count, max_size=count), st.sampled_from(LIMITS)), max_size=12
        )
    )
)
@settings(deadline=None)
def test_blocks_of_any_length_are_judged_alike(made: list[tuple[list[float], BlockLimits]]) -> None:
    if not made:
        return
    known = [new_track()] * len(made)
    for _ in range(6):
        thresholds = np.frombuffer(b"".join(limits.packed for _, limits in made)).reshape(len(made), -1)
        after = columns_of(np.frombuffer(b"".join(known)).reshape(len(made), TRACKED))
        broken = judge_columns(
            after,
            thresholds_of(thresholds),
            columns_of(np.array([samples for samples, _ in made])),
            lambda number: judge(known[number], *made[number]),  # noqa: B023 - asked within this turn
        )
        alone = [judge(track, *each) for track, each in zip(known, made, strict=True)]
        as_signals([Block(t, array("d", s), c) for t, (s, c) in zip(known, made, strict=True)], alone)
        known = [track for track, _ in alone]
        assert after.T.tobytes() == b"".join(known)
        assert {number: list(each) for number, each in broken.items()} == {
            number: list(broke) for number, (_, broke) in enumerate(alone) if broke
        }


def test_long_courses_of_many_signals_are_judged_alike() -> None:
    rng, count = random.Random(5), 300
    tracks, levels = [new_track()] * count, [rng.uniform(50, 90) for _ in range(count)]
    lasts = list(levels)
    for number in range(150):
        blocks = []
        for at in range(count):
            made = [course(at % 10, levels[at], number, rng) for _ in range(BLOCK)]
            samples = [lasts[at], *(round(each, 1 + at % 3) for each in made)]
            if rng.random() < 0.01:
                tracks[at] = interrupted(tracks[at])
            levels[at] += rng.gauss(0, 0.3) + (70 - levels[at]) / 50
            lasts[at] = samples[-1]
            blocks.append(Block(tracks[at], array("d", samples), LIMITS[at % len(LIMITS)]))
        tracks = same(blocks)


def test_devices_have_as_many_signals_as_they_have() -> None:
    """Tables of devices by signals come back in their shape; `which` says whose limits are whose."""
    rng = np.random.default_rng(4)
    tracks = np.tile(np.frombuffer(new_track()), (5, 3, 1))
    samples = 70 + rng.normal(0, 1, (5, 3, BLOCK + 1))
    samples[3, 1] = 1e5 * np.arange(BLOCK + 1)
    which = np.broadcast_to(np.array([2, 0, 1]), (5, 3))
    courses = Courses.of(LIMITS[:3])
    for judged in (judge_signals, signals_by_columns):
        known, found = judged(tracks, samples, courses, which)
        assert known.shape == tracks.shape
        for device in range(5):
            for signal in range(3):
                block = tracks[device, signal].tobytes(), samples[device, signal].tolist()
                track, broken = judge(*block, LIMITS[which[device, signal]])
                assert (3 * device + signal in found) == bool(broken)
                assert broken or known[device, signal].tobytes() == track
        assert list(found)


def stream(devices: int, reports: int, seed: int) -> Iterable[VerifiedEvent]:
    """Reports of devices in turn; sensors go off, values run, leave their range, repeat and drift."""
    rng = random.Random(seed)
    cuff = [[120.0, 80.0, 93.0] for _ in range(devices)]
    offset = 0
    for number in range(reports):
        for device in range(devices):
            if rng.random() < 0.05:
                continue
            if rng.random() < 0.3:
                cuff[device] = [round(each + rng.gauss(0, 3), 1) for each in (120.0, 80.0, 93.0)]
            heart = round(70 + rng.gauss(0, 1.5 if device % 5 else 12) + number * (device % 7 == 0) / 2, 1)
            pulse = round(heart + rng.gauss(0, 0.5), 1) if rng.random() > 0.01 else 400.0
            values = {
                HR: 0.0 if rng.random() < 0.02 else heart,
                PULSE: 64.0 if device % 4 == 1 and number > 60 else pulse,
                SPO2: 100.0 if device % 3 == 0 else round(96 + rng.gauss(0, 0.3), 1),
                NBP_SYS: cuff[device][0],
                NBP_DIAS: cuff[device][1],
                NBP_MEAN: cuff[device][2],
            }
            offset += 1
            yield VerifiedEvent(
                Event(
                    PayloadKind.TELEMETRY,
                    f"did:key:z6Mk{device}",
                    1,
                    number + 1,
                    (START_MS + number * 1000) * 1000,
                    {"codes": list(values), "values": list(values.values())},
                ),
                offset.to_bytes(32, "big"),
                RawRecord("device.telemetry.raw", 3, offset, START_MS + number * 1000 + 20, None, None),
                0,
            )


def judged(batches: Iterable[Sequence[VerifiedEvent]], *, dumps: bool) -> tuple[list[Finding], list[bytes]]:
    """Judge batch after batch, with all states written and read between them where `dumps`."""
    detectors = TelemetryDetectors(CONFIG)
    states = {f"did:key:z6Mk{device}": detectors.new() for device in range(200)}
    found: list[Finding] = []
    for batch in batches:
        found += detectors.process(batch, states.__getitem__)
        if dumps:
            states = {name: detectors.load(detectors.dump(state)) for name, state in states.items()}
    return found, [detectors.dump(state) for state in states.values()]


def test_batches_of_many_devices_are_judged_as_event_after_event() -> None:
    events = list(stream(devices=MANY, reports=120, seed=3))
    one_by_one = judged(([each] for each in events), dumps=False)
    assert len({each.rule for each in one_by_one[0]}) >= 4
    assert judged([events], dumps=False) == one_by_one
    rng, at, batches = random.Random(8), 0, []
    while at < len(events):
        size = rng.choice((1, 7, 300, 2000))
        batches.append(events[at : at + size])
        at += size
    assert judged(batches, dumps=True) == one_by_one


def test_devices_without_a_signal_that_has_a_course_are_judged_as_alone() -> None:
    """Blood pressure by a cuff comes too seldom for one; some devices send nothing else."""

    def events(number: int) -> Iterable[VerifiedEvent]:
        for event in stream(devices=48, reports=60, seed=number):
            if int(event.event.device_id.removeprefix("did:key:z6Mk")) % 2:
                body = event.event.body
                event.event.body = {each: body[each][3:] for each in body}
            yield event

    made = list(events(6))
    one_by_one = judged(([each] for each in made), dumps=False)
    assert judged([made], dumps=False) == one_by_one
    assert judged((made[at : at + 500] for at in range(0, len(made), 500)), dumps=True) == one_by_one
