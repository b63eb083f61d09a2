"""What wards and devices set otherwise: read or refused whole, and what a change of it does to states."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.detect import ConfigError, ConfigOf, DetectConfig, Overrides, TelemetryDetectors
from processors.detect.overrides import MAX_BYTES, MAX_DEVICES, MAX_SIGNALS, MAX_WARDS, TABLES
from processors.model import RawRecord, VerifiedEvent
from schemas.envelope import PayloadKind
from schemas.events import Event
from schemas.mdc import BY_NAME
from schemas.records import Finding

BASE = DetectConfig.default()
DEVICE = "did:key:z6MkDevice"
HR, SPO2, ABP = (BY_NAME[name].code for name in ("hr", "spo2", "abpsys"))
EXTRA = 999_001
NURSERY = f"[ward.nursery.signal.{HR}]\nlow = 40.0\nhigh = 320.0\nstuck_after = 30\n"
OWN = f'[device."{DEVICE}".signal.{HR}]\nstuck_after = 90\n'


def test_a_ward_and_a_device_override_field_by_field_and_have_digests_of_their_own() -> None:
    overrides = Overrides.parse(NURSERY + OWN, BASE)
    a, b = (overrides.config_of(each, "nursery") for each in (DEVICE, "did:key:b"))
    elsewhere = overrides.config_of(DEVICE, "ICU-2")
    assert (a.signals[HR].high, a.signals[HR].stuck_after) == (320.0, 90)
    assert (b.signals[HR].high, b.signals[HR].stuck_after) == (320.0, 30)
    assert (elsewhere.signals[HR].high, elsewhere.signals[HR].stuck_after) == (300.0, 90)
    assert overrides.config_of("did:key:b", "") is BASE
    assert len({a.digest, b.digest, elsewhere.digest, BASE.digest}) == 4
    assert Overrides.parse(NURSERY + OWN, BASE).config_of(DEVICE, "nursery").digest == a.digest


def test_the_same_is_the_same_object_also_in_the_next_document() -> None:
    first = Overrides.parse(NURSERY + OWN, BASE)
    kept = first.config_of(DEVICE, "nursery"), first.config_of("did:key:b", "nursery")
    assert first.config_of(DEVICE, "nursery") is kept[0]
    more = Overrides.parse(NURSERY + OWN + "[ward.icu.replay]\nwindow_h = 30.0", BASE, first)
    assert more.config_of("did:key:b", "nursery") is kept[1]
    assert more.config_of(DEVICE, "nursery") is kept[0]
    other = Overrides.parse(NURSERY + OWN.replace("90", "91"), BASE, more)
    assert other.config_of("did:key:b", "nursery") is kept[1]
    assert other.config_of(DEVICE, "nursery").signals[HR].stuck_after == 91


def test_what_is_equal_and_not_the_same_is_read_anew() -> None:
    one = "[ward.nursery.signal.1]\nlow = {}\nhigh = 2\n"
    first = Overrides.parse(one.format("1") + OWN, BASE)
    kept = first.config_of(DEVICE, "nursery").digest
    with pytest.raises(ConfigError, match="low must be a finite number"):
        Overrides.parse(one.format("true") + OWN, BASE, first)
    next_one, anew = (Overrides.parse(one.format("1.0") + OWN, BASE, each) for each in (first, None))
    assert next_one.config_of(DEVICE, "nursery").digest == anew.config_of(DEVICE, "nursery").digest != kept


def many(kind: str, number: int) -> str:
    return "".join(f'[{kind}."did:{each}".replay]\nwindow_h = 9\n' for each in range(number))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "nothing is set"),
        ("[ward", "not TOML"),
        ("ward = 1", r"expected \[ward.NAME"),
        ("[[ward]]\nx = 1", r"expected \[ward.NAME"),
        ("[ward.a]", r"\[ward.a\] must be a table that sets something"),
        ("[ward]\na = 3", r"\[ward.a\] must be a table"),
        ("[signal.147842]\nlow = 1", r"\[signal\] is unknown"),
        ('[ward."".replay]\nwindow_h = 1', "name of 0 characters"),
        (f'[ward."{"x" * 129}".replay]\nwindow_h = 1', "name of 129 characters"),
        ("[device.pump7.replay]\nwindow_h = 1", r"\[device.pump7\] is not the DID"),
        (many("ward", MAX_WARDS + 1), "names 65, allowed are 64"),
        (many("device", MAX_DEVICES + 1), "names 257, allowed are 256"),
        ("# " + "x\n" * MAX_BYTES, "bytes, allowed are 49152"),
        ("ward." + "a." * 300 + "b = 1", "line 1 has"),
        ("[ward.a.signals.147842]\nlow = 1", r"\[ward.a.signals\] cannot be set .* only .*signal"),
        ("[ward.a.access.repeated_failed_access]\nwindow_s = 1", r"\[ward.a.access\] cannot be set"),
        ("[ward.a.fleet]\ndevices = 400", r"\[ward.a.fleet\] cannot be set"),
        ("[ward.a.replay]\nwindow = 1", r"\[ward.a.replay\] window cannot be set: window_h"),
        ("[ward.a.replay]\nwindow_h = 0", r"ward.a: \[replay\] window_h must be above 0"),
        ("[ward.a.relation.pulse]\nkind = 'mean'", r"\[ward.a.relation.pulse\] kind cannot be set"),
        ("[ward.a.relation.other]\ntolerance = 1", "tolerance cannot be set: no such table"),
        ("[ward.a.relation.pulse]\ntolerance = -1", r"ward.a: \[relation.pulse\] tolerance must be above"),
        ("[ward.a.signal.147842]\nhigh = 320.0", r"\[ward.a.signal.147842\] low and high come together"),
        ("[ward.a.signal.147842]\nlow = 9.0\nhigh = 1.0", r"ward.a: \[signal.147842\] low 9.0 must be below"),
        ("[ward.a.signal.147842]\nlo = 9.0", r"ward.a: \[signal.147842\] has unknown fields \['lo'\]"),
        ("[ward.a.signal.0147842]\nnoise = 9.0", "without leading zeros"),
        ("[ward.a.signal.HR]\nnoise = 9.0", r"\[ward.a.signal.HR\] is not an MDC code"),
        ("[ward.a.signal.999001]\nnoise = 9.0", r"ward.a: \[signal.999001\] low must be a finite number"),
        ("[ward.a.signal]\n147842 = 1", r"\[ward.a.signal.147842\] must be a table"),
        ("[ward.a.signal.147842]\nnoise = 1e10", r"\[ward.a.signal.147842\] noise must be"),
        ("[ward.a.signal.147842]\nnoise = 1e-10", "noise must be"),
        ("[ward.a.signal.147842]\nnoise = nan", "noise must be"),
        ("[ward.a.signal.147842]\nnoise = 2026-11-30", "noise must be"),
        ("[ward.a.signal.147842]\nstuck_after = " + "9" * 400, "stuck_after must be"),
        ("[ward.a.signal.147842]\noff = [[1]]", "off must be"),
        ("[ward.a.signal.147842]\nnoise.x = 1", "noise must be"),
        ("x = " + "[\n" * 20_000, "not TOML"),
    ],
)
def test_a_document_at_fault_is_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Overrides.parse(text, BASE)


def test_too_many_signals_are_refused() -> None:
    text = "".join(f"[ward.a.signal.{code}]\nlow = 1\nhigh = 2\n" for code in range(1, MAX_SIGNALS + 2))
    with pytest.raises(ConfigError, match=r"\[ward.a.signal\] has 33 codes"):
        Overrides.parse(text, BASE)


@given(st.text())
def test_any_text_is_one_error_or_a_document(text: str) -> None:
    try:
        Overrides.parse(text, BASE)
    except ConfigError:
        return


numbers = st.one_of(
    st.integers(-3, 12_000), st.floats(0.01, 320.0), st.floats(), st.sampled_from(["true", "1e400", '"x"'])
)
values = st.one_of(
    numbers.map(str), st.lists(numbers.map(str), max_size=3).map(lambda each: f"[{', '.join(each)}]")
)
PLAIN = {name: BASE.tables[name] for name in TABLES if name not in ("signal", "relation")}
RELATIONS = BASE.tables["relation"]
SIGNAL_FIELDS = sorted({field for table in BASE.tables["signal"].values() for field in table})
SIGNAL_FIELDS += ["low", "high"] * 4  # which limit each other, so they are tried most
codes = st.sampled_from([HR, SPO2, ABP, EXTRA])


@st.composite
def setting(draw: st.DrawFn) -> str:
    """One table with one field of any kind that a document may set, with any value."""
    kind = draw(st.sampled_from(["range", "signal", "relation", "table"]))
    if kind == "range":
        low = draw(st.floats(0.5, 400.0))
        return f"signal.{draw(codes)} = {{ low = {low}, high = {low + draw(st.floats(0.5, 100.0))} }}"
    if kind == "signal":
        return f"signal.{draw(codes)}.{draw(st.sampled_from(SIGNAL_FIELDS))} = {draw(values)}"
    if kind == "relation":
        name = draw(st.sampled_from(sorted(RELATIONS)))
        return f"relation.{name}.{draw(st.sampled_from(sorted(RELATIONS[name])))} = {draw(values)}"
    name = draw(st.sampled_from(sorted(PLAIN)))
    return f"{name}.{draw(st.sampled_from(sorted(PLAIN[name])))} = {draw(values)}"


def accepted(texts: list[str], header: str) -> list[str]:
    """Those of single settings that are taken by themselves."""

    def is_taken(text: str) -> bool:
        try:
            Overrides.parse(header + text, BASE)
        except ConfigError:
            return False
        return True

    return [text for text in dict.fromkeys(texts) if is_taken(text)]


@settings(max_examples=50)
@given(st.lists(setting(), min_size=6, max_size=10), st.lists(setting(), min_size=6, max_size=10))
def test_whatever_is_taken_makes_sense_together(of_ward: list[str], of_device: list[str]) -> None:
    header = f'[device."{DEVICE}"]\n'
    wards = [
        Overrides.parse(f"[ward.a]\n{each}", BASE).ward_tables for each in accepted(of_ward, "[ward.a]\n")
    ]
    devices = [Overrides.parse(header + each, BASE).device_tables for each in accepted(of_device, header)]
    for ward in wards:
        for device in devices:
            assert Overrides(BASE, ward, device).config_of(DEVICE, "a").digest != BASE.digest


# ---- what a change does to states -------------------------------------------------------------------


def event(offset: int, readings: dict[int, float], device_id: str = DEVICE) -> VerifiedEvent:
    body = {"codes": list(readings), "values": list(readings.values())}
    ms = 1_700_000_000_000 + offset * 60_000
    return VerifiedEvent(
        Event(PayloadKind.TELEMETRY, device_id, 1, offset + 1, ms * 1000, body),
        offset.to_bytes(32, "big"),
        RawRecord("device.telemetry.raw", 3, offset, ms, None, None),
        0,
    )


def judged(
    events: list[VerifiedEvent], config_of: Callable[[int], DetectConfig]
) -> tuple[list[Finding], TelemetryDetectors, object]:
    """Judge event by event, the configuration of each by its number."""
    now = [BASE]
    in_force: ConfigOf = lambda _device: now[0]  # noqa: E731 - so that its type is checked
    detectors = TelemetryDetectors(BASE, lambda: in_force)
    state = detectors.new()
    found: list[Finding] = []
    for number, each in enumerate(events):
        now[0] = config_of(number)
        found += detectors.process([each], lambda _device: state)
    return found, detectors, state


def without_config(found: list[Finding]) -> list[Finding]:
    return [replace(each, parameters={**each.parameters, "config": ""}) for each in found]


readings = st.dictionaries(
    st.sampled_from([HR, SPO2, ABP]),
    st.one_of(
        st.integers(600, 900).map(lambda tenths: tenths / 10), st.sampled_from([0.0, 71.0, 100.0, 400.0])
    ),
    max_size=3,
)


@settings(max_examples=60)
@given(st.lists(readings, max_size=100), st.sets(st.integers(0, 99), max_size=12))
def test_an_equal_configuration_in_another_object_changes_nothing(
    samples: list[dict[int, float]], cuts: set[int]
) -> None:
    events = [event(i, each) for i, each in enumerate(samples)]
    first = Overrides.parse(NURSERY, BASE).config_of(DEVICE, "nursery")
    second = Overrides.parse(NURSERY, BASE).config_of(DEVICE, "nursery")
    assert first is not second
    expected, detectors, whole = judged(events, lambda _number: first)
    found, _, state = judged(events, lambda n: first if sum(cut <= n for cut in cuts) % 2 else second)
    assert repr(found) == repr(expected)
    assert detectors.dump(state) == detectors.dump(whole)  # type: ignore[arg-type]


@settings(max_examples=60)
@given(st.lists(readings, max_size=100), st.sets(st.integers(0, 99), max_size=12))
def test_switching_forgets_only_the_signal_that_a_configuration_does_not_know(
    samples: list[dict[int, float]], cuts: set[int]
) -> None:
    text = f'[device."{DEVICE}".signal.{EXTRA}]\nlow = 0.0\nhigh = 10.0\nstuck_after = 4'
    more = Overrides.parse(text, BASE).config_of(DEVICE, "")
    events = [event(i, {**each, EXTRA: float(i % 20)}) for i, each in enumerate(samples)]
    expected, _, whole = judged(events, lambda _number: BASE)
    found, detectors, state = judged(events, lambda n: more if sum(cut <= n for cut in cuts) % 2 else BASE)
    known = [each for each in without_config(found) if each.parameters.get("code") != str(EXTRA)]
    assert repr(known) == repr(without_config(expected))
    # Back at the defaults the states are the same to the byte.
    now, detectors_now = copy.deepcopy(state), TelemetryDetectors(BASE)
    last = [event(len(samples), {HR: 70.0})]
    assert isinstance(detectors, TelemetryDetectors)
    for each in (now, whole):
        detectors_now.process(last, lambda _device, each=each: each)  # type: ignore[misc]
    assert detectors_now.dump(now) == detectors_now.dump(whole)  # type: ignore[arg-type]


def test_what_is_open_about_a_signal_that_is_judged_no_more_ends_once_also_after_a_restart() -> None:
    text = f'[device."{DEVICE}".signal.{EXTRA}]\nlow = 0.0\nhigh = 10.0'
    more = Overrides.parse(text, BASE).config_of(DEVICE, "")
    events = [event(i, {HR: 70.0 + i, EXTRA: 50.0}) for i in range(4)]
    found, detectors, _ = judged(events, lambda number: more if number < 2 else BASE)
    opened, cleared = found
    assert (opened.status.value, cleared.status.value, cleared.rule) == ("OPENED", "CLEARED", "bounds")
    assert (opened.id, cleared.parameters["config"]) == (cleared.id, BASE.digest)
    assert "is not judged any more" in cleared.explanation
    _, _, state = judged(events[:2], lambda _number: more)
    again = detectors.load(detectors.dump(state))  # type: ignore[arg-type]
    assert TelemetryDetectors(BASE).process(events[2:], lambda _device: again) == [cleared]


def test_devices_of_many_wards_in_one_batch_are_judged_as_each_alone() -> None:
    text = f"[ward.loud.signal.{HR}]\nnoise = 60.0\nspread = 60.0\nmax_change = 200.0\n{NURSERY}"
    overrides = Overrides.parse(text, BASE)
    wards = ("", "loud", "nursery")
    ward_of = {f"did:key:{number}": wards[number % 3] for number in range(300)}
    in_force: ConfigOf = lambda device: overrides.config_of(device, ward_of[device])  # noqa: E731
    detectors = TelemetryDetectors(BASE, lambda: in_force)

    def value(device: int, number: int) -> float:
        return 70.0 + (device * 7 + number * 13) % 11 / 10 + (60.0 if number % 9 == device % 9 else 0.0)

    events = [
        event(number, {HR: value(device, number)}, f"did:key:{device}")
        for number in range(48)
        for device in range(300)
    ]
    together, alone = ({each: detectors.new() for each in ward_of} for _ in range(2))
    found = detectors.process(events, together.__getitem__)
    assert all(each.parameters["config"] == in_force(each.device_id).digest for each in found)
    assert {ward_of[each.device_id] for each in found if each.rule == "rate_of_change"} == {"", "nursery"}
    assert found == [each for one in events for each in detectors.process([one], alone.__getitem__)]
    assert [detectors.dump(each) for each in together.values()] == [
        detectors.dump(each) for each in alone.values()
    ]


wild = st.one_of(
    st.floats(),
    st.sampled_from([0.0, 5e-324, 1e308, -1e308, 71.3]),
    st.floats(60.0, 90.0).map(lambda v: v // 1),
)


@settings(max_examples=60)
@given(
    st.lists(setting(), max_size=20),
    st.lists(st.dictionaries(st.sampled_from([HR, SPO2, ABP, EXTRA]), wild), max_size=60),
)
def test_no_limits_that_are_taken_make_a_reading_raise(
    texts: list[str], samples: list[dict[int, float]]
) -> None:
    events = [event(i, each) for i, each in enumerate(samples)]
    for text in accepted(texts, "[ward.a]\n"):
        config = Overrides.parse(f"[ward.a]\n{text}", BASE).config_of(DEVICE, "a")
        judged(events, lambda _number, config=config: config)  # type: ignore[misc]


def test_a_confusion_of_units_ends_where_no_unit_is_left_to_confuse() -> None:
    config = Overrides.parse(f'[device."{DEVICE}".signal.{ABP}]\nunits = []', BASE).config_of(DEVICE, "")
    values = [120.0 + i % 3 for i in range(12)] + [15.9, 16.1, 16.0, 16.2, 16.0, 16.1]
    events = [event(i, {ABP: value}) for i, value in enumerate(values)]
    found, _, _ = judged(events, lambda number: BASE if number < 14 else config)
    assert [(each.status.value, each.rule) for each in found if each.rule == "unit_confusion"] == [
        ("OPENED", "unit_confusion"),
        ("CLEARED", "unit_confusion"),
    ]
