"""Events judged by rounds of columns are judged as one after another, bit for bit, whatever they show."""

import gc
import math
import random
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from processors.detect import DetectConfig, TelemetryDetectors, TelemetryState, loose
from processors.detect.rows import Rows, cold_dtype, hot_dtype
from processors.detect.statebytes import HEAD, of_relations, of_signals
from processors.detect.telemetry_state import LEAST_DEVICES
from processors.detect.together import LEAST_ALIKE, MAX_TABLES, Tables
from processors.model import RawRecord, VerifiedEvent
from processors.splice import Splice
from schemas.envelope import PayloadKind
from schemas.events import Event
from schemas.mdc import BY_NAME
from schemas.noise import NoiseBlock
from schemas.records import Finding

CONFIG = DetectConfig.default()
OTHER = CONFIG.with_overrides({"signal": {"147842": {"high": 220.0, "stuck_after": 5}}})
START_MS = 1_700_000_000_000
NAMES = ("hr", "pulse", "resp", "spo2", "abpsys", "abpdias", "abpmean", "nbpsys")
CODES = [BY_NAME[name].code for name in NAMES]
LEVELS = (72.0, 72.0, 16.0, 95.0, 120.0, 70.0, 87.0, 118.0)
DEVICES = LEAST_DEVICES + 12
SPELLS = (
    "healthy", "healthy", "healthy", "constant", "off", "full", "out", "jump", "drift", "smooth", "replay",
    "unit", "codes", "missing", "twice", "unknown", "back", "leap", "behind", "faster", "odd", "huge",
)  # fmt: skip
"""What a device does for some reports."""


class Device:
    """Reports of one device: healthy for most of the time, with spells of anything else."""

    def __init__(self, number: int, rng: random.Random) -> None:
        self.id, self._rng = f"did:key:z6MkRow{number}", rng
        self._levels = [level + rng.uniform(-1, 1) for level in LEVELS]
        self._spell, self._left = "healthy", rng.randrange(60, 140)
        self._sent: list[list[float]] = []
        self._pace_ms, self._ahead_us, self._at_ms = 1000, 0, START_MS + number
        self._number = 0
        self._seldom = rng.random() < 0.3
        """Whether it sends some of its signals once in seven reports, as a cuff's pressure comes."""

    def report(self, offset: int) -> VerifiedEvent:
        """Return its next event."""
        rng = self._rng
        self._left -= 1
        if self._left < 0:
            self._spell = rng.choice(SPELLS) if self._spell == "healthy" else "healthy"
            self._left = rng.choice((1, 3, 9, 30)) if self._spell != "healthy" else rng.randrange(1, 60)
        self._levels = [
            level + rng.gauss(0, 0.2) + (usual - level) / 40
            for level, usual in zip(self._levels, LEVELS, strict=True)
        ]
        values = [round(level + rng.gauss(0, 0.8), 1) for level in self._levels]
        codes = list(CODES)
        self._change(values, codes)
        if self._seldom and self._number % 7:
            del values[2], codes[2], values[-1], codes[-1]
        self._sent.append(values)
        self._number += 1
        self._at_ms += self._pace_ms
        time_us = self._at_ms * 1000 + self._ahead_us
        late_ms = 40_000 if self._spell == "behind" else rng.randrange(5, 40)
        if self._spell == "back":
            time_us -= rng.choice((1, 10**7))
        if self._spell == "huge":
            time_us = rng.choice((2**62, -(2**62), 2**63 - 1))
        return VerifiedEvent(
            Event(
                PayloadKind.TELEMETRY, self.id, 1, self._number, time_us, {"codes": codes, "values": values}
            ),
            offset.to_bytes(32, "big"),
            RawRecord("device.telemetry.raw", 3, offset, self._at_ms + late_ms, None, None),
            0,
        )

    def _change(self, values: list[float], codes: list[int]) -> None:
        at = self._rng.randrange(len(values))
        change = _CHANGES.get(self._spell)
        if change is not None:
            change(self, values, codes, at)
        elif self._spell == "replay" and len(self._sent) > 60 and len(self._sent[-60]) == len(values):
            values[:] = self._sent[-60]
        elif self._spell == "drift":
            self._levels[0] += 1.5
        elif self._spell == "smooth":
            values[0] = self._levels[0] = self._levels[0] + 0.3
        elif self._spell == "leap" and self._left == 0:
            self._ahead_us += 20_000_000
        elif self._spell == "faster":
            self._pace_ms = self.pick(200, 1000)

    def pick(self, *choices: Any) -> Any:
        """Return one of them."""
        return self._rng.choice(choices)


def _put(values: list[float], at: int, value: float) -> None:
    values[at] = value


def _swap(values: list[float], codes: list[int]) -> None:
    values[0], values[1] = values[1], values[0]
    codes[0], codes[1] = codes[1], codes[0]


def _hold(values: list[float]) -> None:
    values[0], values[7] = 71.3, 118.0


def _leave_out(values: list[float], codes: list[int], at: int) -> None:
    del values[at], codes[at]


_CHANGES: Mapping[str, Callable[[Device, list[float], list[int], int], None]] = {
    "constant": lambda _d, values, _c, _at: _hold(values),
    "off": lambda device, values, _c, _at: _put(values, device.pick(0, 1, 4), 0.0),
    "full": lambda device, values, _c, _at: _put(values, 3, device.pick(100.0, 100.0, 99.5)),
    "out": lambda device, values, _c, at: _put(values, at, device.pick(-50.0, 999.0, 1e308, -0.0, 5e-324)),
    "odd": lambda device, values, _c, at: _put(values, at, device.pick(math.nan, math.inf, -math.inf)),
    "jump": lambda _d, values, _c, at: _put(values, at, values[at] + 60.0),
    "unit": lambda _d, values, _c, _at: _put(values, 4, values[4] * 0.133322),
    "codes": lambda _d, values, codes, _at: _swap(values, codes),
    "missing": lambda _d, values, codes, at: _leave_out(values, codes, at),
    "twice": lambda _d, _v, codes, _at: _put(codes, 1, codes[0]),  # type: ignore[arg-type]
    "unknown": lambda _d, _v, codes, at: _put(codes, at, 77),  # type: ignore[arg-type]
}


def stream(seed: int, reports: int, devices: int = DEVICES) -> Iterator[VerifiedEvent]:
    """Reports of devices, in turn but for some that say nothing or speak twice."""
    rng = random.Random(seed)
    all_devices = [Device(number, rng) for number in range(devices)]
    offset = 0
    for _ in range(reports):
        for device in all_devices:
            for _ in range(rng.choice((0, 1, 1, 1, 1, 1, 1, 1, 1, 2))):
                offset += 1
                yield device.report(offset)


class Judged(NamedTuple):
    """All that came of a stream, and how many times only a part of a state was written."""

    found: list[str]
    states: dict[str, bytes]
    noise: list[NoiseBlock]
    spliced: int


def judged(
    batches: Iterable[Sequence[VerifiedEvent]],
    changes: int = 0,
    *,
    restart: bool = False,
    is_written: bool = True,
    most_loose: int = loose.MOST_LOOSE,
) -> Judged:
    """Judge batch after batch; from event `changes` on half of the devices have another configuration.

    Where states are not written in between, those outside rows are objects all the time.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loose, "MOST_LOOSE", most_loose)
        return _judged(batches, changes, restart=restart, is_written=is_written)


def _judged(
    batches: Iterable[Sequence[VerifiedEvent]], changes: int, *, restart: bool, is_written: bool
) -> Judged:
    seen = 0

    def config_of(device_id: str) -> DetectConfig:
        return OTHER if int(device_id[-1]) % 2 else CONFIG

    def overriding():  # type: ignore[no-untyped-def]
        return config_of if changes and seen >= changes else None

    noise: list[NoiseBlock] = []
    detectors = TelemetryDetectors(CONFIG, overriding, noise=noise)
    states: dict[str, TelemetryState] = {}
    found: list[Finding] = []
    bases: dict[str, bytes] = {}
    """As last written whole."""
    kept: dict[str, bytes] = {}
    rng = random.Random(8)
    spliced = 0
    for batch in batches:
        for each in batch:
            states.setdefault(each.event.device_id, detectors.new())
        found += detectors.process(batch, states.__getitem__)
        seen += len(batch)
        if not is_written:
            continue
        changed = dict.fromkeys(each.event.device_id for each in batch)
        whole = [rng.random() < 0.05 or name not in bases for name in changed]
        written = detectors.dump_changes([states[name] for name in changed], whole)
        for name, is_whole, data in zip(changed, whole, written, strict=True):
            spliced += isinstance(data, Splice)
            if isinstance(data, Splice):
                assert not is_whole
                kept[name] = data.applied(bases[name])
            else:
                kept[name] = bases[name] = data
        assert sum(state.is_loose for state in states.values()) <= loose.MOST_LOOSE
        if restart:
            assert detectors.dump_all(list(states.values())) == [kept[name] for name in states]
            states = {name: detectors.load(kept[name]) for name in states}
    # Some of what is compared is not a number, which equals nothing: hence the texts.
    return Judged(
        list(map(repr, found)),
        {name: detectors.dump(state) for name, state in states.items()},
        noise,
        spliced,
    )


def cut(
    events: Sequence[VerifiedEvent], sizes: Sequence[int], rng: random.Random
) -> list[list[VerifiedEvent]]:
    """Cut a stream into batches of such sizes."""
    batches, at = [], 0
    while at < len(events):
        size = rng.choice(sizes)
        batches.append(list(events[at : at + size]))
        at += size
    return batches


@settings(max_examples=6, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(st.integers(0, 2**32), st.booleans(), st.sampled_from((0, 5, loose.MOST_LOOSE)))
def test_rounds_of_columns_judge_as_one_event_after_another(
    seed: int, restart: bool, most_loose: int
) -> None:
    events = list(stream(seed, reports=230))
    # Alone a state never lives in a row; and where the configuration changes, a batch ends.
    changes = len(events) * 3 // 4
    rng = random.Random(seed)
    one_by_one = judged(([each] for each in events), changes, is_written=False)
    parts = (events[:changes], events[changes:])
    batches = [batch for part in parts for batch in cut(part, (3, 60, 200, 900, 2500), rng)]
    found, states, noise, _ = judged(batches, changes, restart=restart, most_loose=most_loose)
    assert found == one_by_one.found
    assert states == one_by_one.states
    assert noise == one_by_one.noise
    assert len(noise) > 20
    rules = {text.split("rule='")[1].split("'")[0] for text in found}
    assert len(rules) >= 8, rules


def test_healthy_events_are_judged_by_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    judge, left = Tables.judge, []

    def counting(self: Tables, *arguments: object) -> object:
        result = judge(self, *arguments)  # type: ignore[arg-type]
        left.append(len(result.numbers))
        return result

    monkeypatch.setattr(Tables, "judge", counting)
    rng = random.Random(4)
    devices = [Device(number, rng) for number in range(DEVICES)]
    batches = [
        [device.report(number * DEVICES + at) for at, device in enumerate(devices)] for number in range(58)
    ]
    found, _, _, spliced = judged(batches)
    assert found == []
    # Until a device has one whole block and what comes with it, it is judged alone; then hardly ever.
    assert sum(left[28:]) < 0.02 * DEVICES * (58 - 28)
    assert spliced > 0.5 * DEVICES * (58 - 28)


@pytest.mark.parametrize(("more", "stays"), [(1, True), (3, True), (30, False)])
def test_who_has_sent_a_little_more_than_others_stays_in_its_row(
    more: int, stays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only one with many more events in a batch is judged alone, where rounds would be of it only."""
    moved: list[int] = []
    move_out = Rows.move_out

    def counting(self: Rows, state: TelemetryState) -> None:
        moved.append(state.row)
        move_out(self, state)

    rng = random.Random(4)
    devices = [Device(number, rng) for number in range(DEVICES)]
    detectors = TelemetryDetectors(CONFIG)
    states = {device.id: detectors.new() for device in devices}
    for number in range(30):
        batch = [device.report(number * DEVICES + at) for at, device in enumerate(devices)]
        assert detectors.process(batch, states.__getitem__) == []
    assert states[devices[0].id].rows is not None
    monkeypatch.setattr(Rows, "move_out", counting)
    batch = [device.report(9000 + at) for at, device in enumerate(devices)]
    batch += [devices[0].report(9900 + at) for at in range(more)]
    detectors.process(batch, states.__getitem__)
    assert (moved == []) == stays


def of_one_signal(device: int, number: int, value: float) -> VerifiedEvent:
    """A report once a second of heart rate only."""
    time_ms = START_MS + number * 1000
    body = {"codes": (CODES[0],), "values": array("d", [value])}
    return VerifiedEvent(
        Event(PayloadKind.TELEMETRY, f"did:key:z6MkRow{device}", 1, number + 1, time_ms * 1000, body),
        bytes(32),
        RawRecord("device.telemetry.raw", 3, number * DEVICES + device, time_ms + 20, None, None),
        0,
    )


@pytest.mark.parametrize("now_off", [[70.0, 70.0], [0.0, 0.0]])
@pytest.mark.parametrize("repeated", [70.0, 0.0])
def test_a_value_of_a_run_may_come_to_mean_off_and_zero_has_two_signs(
    now_off: list[float], repeated: float
) -> None:
    signal = {"low": -10.0, "high": 300.0, "off": [-10.0, -9.0]}
    before = CONFIG.with_overrides({"signal": {str(CODES[0]): signal}})
    after = CONFIG.with_overrides({"signal": {str(CODES[0]): {**signal, "off": now_off}}})

    def run(size: int) -> tuple[list[str], list[bytes]]:
        rng, config = random.Random(3), before
        found: list[str] = []
        detectors = TelemetryDetectors(CONFIG, lambda: lambda _device: config)
        states = {f"did:key:z6MkRow{device}": detectors.new() for device in range(DEVICES)}
        for number in range(56):
            held = math.copysign(repeated, -1.0) if repeated == 0.0 and number % 2 else repeated
            values = [round(rng.gauss(75, 1), 1) if number < 34 else held for _ in range(DEVICES)]
            if number == 40:
                config = after
                states = {name: detectors.load(detectors.dump(state)) for name, state in states.items()}
            batch = [
                of_one_signal(device, number, abs(v) if repeated else v) for device, v in enumerate(values)
            ]
            for at in range(0, DEVICES, size):
                found += map(repr, detectors.process(batch[at : at + size], states.__getitem__))
        return found, detectors.dump_all(list(states.values()))

    assert run(DEVICES) == run(1)


def test_relations_with_one_first_signal_are_judged_one_after_another() -> None:
    again = {"kind": "equal", "codes": [CODES[1], CODES[0]], "tolerance": 3.0, "spread": 0.2}
    config = CONFIG.with_overrides({"relation": {"again": again}})
    assert [each.codes[0] for each in config.relations].count(CODES[1]) == 2
    events = list(stream(12, reports=90))

    def run(batches: Iterable[Sequence[VerifiedEvent]]) -> tuple[list[str], list[bytes]]:
        detectors = TelemetryDetectors(config)
        states: dict[str, TelemetryState] = {each.event.device_id: detectors.new() for each in events}
        found = [repr(each) for batch in batches for each in detectors.process(batch, states.__getitem__)]
        return found, detectors.dump_all(list(states.values()))

    assert run(cut(events, (DEVICES * 3,), random.Random(1))) == run([each] for each in events)


def test_tables_of_a_configuration_that_is_over_are_given_up() -> None:
    rng = random.Random(7)
    config = CONFIG
    detectors = TelemetryDetectors(CONFIG, lambda: lambda _device: config)
    states = {f"did:key:z6MkRow{device}": detectors.new() for device in range(DEVICES)}
    for number in range(6 * 30):
        if number % 30 == 0:
            config = CONFIG.with_overrides({"signal": {str(CODES[0]): {"stuck_after": 12 + number}}})
        batch = [of_one_signal(device, number, round(rng.gauss(75, 1), 1)) for device in range(DEVICES)]
        detectors.process(batch, states.__getitem__)
        own = detectors._tables
        assert own is None or len(own._tables) <= 3
    assert any(state.rows is not None for state in states.values())


def test_a_batch_of_which_nothing_was_accepted_is_one_too() -> None:
    batches = cut(list(stream(6, reports=40)), (DEVICES * 3,), random.Random(1))
    with_none: list[list[VerifiedEvent]] = [each for batch in batches for each in ([], batch)]
    assert judged(with_none) == judged(batches)


def test_who_shows_something_in_every_batch_does_not_move_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[TelemetryState] = []
    move_in = Rows.move_in

    def counting(self: Rows, states: Sequence[TelemetryState]) -> None:
        moves.extend(states)
        move_in(self, states)

    monkeypatch.setattr(Rows, "move_in", counting)
    rng = random.Random(5)
    devices = [Device(number, rng) for number in range(DEVICES)]
    batches = []
    for number in range(56):
        batch = [device.report(number * DEVICES + at) for at, device in enumerate(devices)]
        if number > 24 and number % 2:
            for each in batch:
                each.event.body["codes"][:2] = reversed(each.event.body["codes"][:2])
        batches.append(batch)
    judged(batches)
    assert DEVICES < len(moves) <= 5 * DEVICES


def test_a_state_in_a_row_is_written_as_one_in_objects_and_moves_out_as_it_moved_in() -> None:
    detectors = TelemetryDetectors(CONFIG, noise=[])
    states: dict[str, TelemetryState] = {}
    for batch in cut(list(stream(9, reports=70)), (DEVICES * 3,), random.Random(1)):
        detectors.process(batch, lambda device: states.setdefault(device, detectors.new()))
    inside = [state for state in states.values() if state.rows is not None]
    assert len(inside) > DEVICES / 2
    for state in inside:
        data, rows = detectors.dump(state), state.rows
        assert isinstance(rows, Rows)
        rows.move_out(state)
        assert state.signals
        assert detectors.dump(state) == data == detectors.dump(detectors.load(data))


def test_a_table_that_most_have_left_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processors.detect.rows._LEAST_ROOM", 8)
    rng = random.Random(11)
    devices = [Device(number, rng) for number in range(8 * LEAST_DEVICES)]
    healthy = [
        [device.report(number * len(devices) + at) for at, device in enumerate(devices)]
        for number in range(50)
    ]
    # Later few are left to speak, and of those most show something once.
    few = [batch[: 2 * LEAST_DEVICES] for batch in healthy[30:]]
    for each in few[1][: LEAST_DEVICES + 20]:
        each.event.body["codes"][:2] = reversed(each.event.body["codes"][:2])
    batches = healthy[:30] + few
    detectors = TelemetryDetectors(CONFIG, noise=[])
    states: dict[str, TelemetryState] = {}
    found: list[Finding] = []
    room = []
    for number, batch in enumerate(batches):
        if number == 30:
            states = {each.event.device_id: states[each.event.device_id] for each in batch}
            gc.collect()
        for each in batch:
            states.setdefault(each.event.device_id, detectors.new())
        found += detectors.process(batch, states.__getitem__)
        detectors.dump_changes(list(states.values()), [False] * len(states))
        tables = {state.rows for state in states.values() if state.rows is not None}
        room.append(sum(len(table.hot) for table in tables))
    assert max(room[:30]) >= len(devices) > 3 * max(room[33:]) > 0
    alone = judged(([each] for batch in batches for each in batch), is_written=False)
    assert list(map(repr, found)) == alone.found
    assert {name: detectors.dump(state) for name, state in states.items()} == {
        name: alone.states[name] for name in states
    }


def test_who_forgets_a_state_gives_its_row_back() -> None:
    detectors = TelemetryDetectors(CONFIG)
    tables: set[Rows] = set()
    for _ in range(3):
        states: dict[str, TelemetryState] = {}
        for batch in cut(list(stream(3, reports=60)), (DEVICES * 2,), random.Random(1)):
            for each in batch:
                states.setdefault(each.event.device_id, detectors.new())
            detectors.process(batch, states.__getitem__)
        tables |= {state.rows for state in states.values() if state.rows is not None}
        assert sum(rows.used for rows in tables) == sum(state.rows is not None for state in states.values())
        states.clear()
        gc.collect()
        assert sum(rows.used for rows in tables) == 0
    own = detectors._tables
    assert own is not None
    assert sum(len(rows.hot) for rows in own._tables.values()) < 4 * DEVICES


def test_devices_with_codes_of_their_own_make_no_tables_without_end() -> None:
    rng = random.Random(2)
    detectors = TelemetryDetectors(CONFIG)
    orders = [rng.sample(range(len(CODES)), len(CODES)) for _ in range(MAX_TABLES + 6)]
    devices = [Device(number, rng) for number in range(LEAST_ALIKE * len(orders))]
    states = {device.id: detectors.new() for device in devices}
    for number in range(12):
        batch = []
        for at, device in enumerate(devices):
            event, order = device.report(number * len(devices) + at), orders[at // LEAST_ALIKE]
            body: Mapping[str, list[float]] = event.event.body
            if len(body["values"]) == len(order):
                body["codes"][:] = [body["codes"][n] for n in order]
                body["values"][:] = [body["values"][n] for n in order]
            batch.append(event)
        detectors.process(batch, states.__getitem__)
    own = detectors._tables
    assert own is not None
    assert 5 < len(own._tables) <= MAX_TABLES
    assert any(state.rows is not None for state in states.values())


@pytest.mark.parametrize("signals", [1, 2, 3, 7, 8, 11])
@pytest.mark.parametrize("relations", [0, 1, 2, 3])
def test_a_row_is_the_bytes_of_a_state(signals: int, relations: int) -> None:
    by_report, by_block = of_signals(signals)
    assert hot_dtype(signals).itemsize == HEAD.size + by_report.size
    assert cold_dtype(signals, relations).itemsize == by_block.size + of_relations(relations).size
    assert HEAD.size % 8 == by_report.size % 8 == by_block.size % 8 == of_relations(relations).size % 8 == 0
