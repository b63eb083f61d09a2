"""The simulated fleet: deterministic, valid, and made of the record's real figures."""

from collections import Counter, defaultdict

from loadtests import vitals
from loadtests.fleet import CLEAN, NURSES, Fleet, Monitor, Outgoing, again, device_identity, ward_of
from schemas.ed25519 import check_public_key, verify_batch
from schemas.envelope import PayloadKind, decode_envelope, pae, pae_prefix
from schemas.events import Event, decode_event

AUDIENCE = "log.example"
START_US = 1_700_000_000_000_000
SECOND_US = 1_000_000


def fleet(seed: int = 7) -> Fleet:
    return Fleet(20, audience=AUDIENCE, seed=seed, start_us=START_US, rate_hz=4.0)


def sent(seconds: int = 20, seed: int = 7) -> list[Outgoing]:
    return list(fleet(seed).due(START_US + seconds * SECOND_US))


def decode(record: Outgoing) -> Event:
    return decode_event(record.kind, decode_envelope(record.value).payload)


def test_same_seed_same_bytes_and_another_seed_other_keys() -> None:
    assert sent() == sent()
    assert {r.key for r in sent(seed=8)}.isdisjoint(r.key for r in sent())


def test_asking_in_small_steps_gives_the_same_as_in_one() -> None:
    simulated = fleet()
    stepped = [r for step in range(1, 201) for r in simulated.due(START_US + step * SECOND_US // 10)]
    assert stepped == sent(20)


def test_every_record_is_a_valid_event_under_its_devices_signature() -> None:
    simulated = fleet()
    keys = {m.device_id: m.identity.public_key for m in simulated.monitors}
    for key in keys.values():
        check_public_key(key)
    for record in simulated.due(START_US + 20 * SECOND_US):
        event = decode(record)
        envelope = decode_envelope(record.value)
        message = pae(pae_prefix(record.kind, AUDIENCE), envelope.payload)
        assert verify_batch([keys[event.device_id]], [message], [envelope.signatures[0].signature]) == [True]
        assert record.key == event.device_id.encode()
        assert (record.meaning, record.partition) == (CLEAN, None)


def test_whoever_logs_in_is_of_the_monitors_ward() -> None:
    nurses = [f"did:example:{number}" for number in range(len(NURSES))]
    ward = {nurse: ward_of(number) for number, nurse in enumerate(nurses)}
    simulated = Fleet(50, audience=AUDIENCE, seed=7, start_us=START_US, nurses=nurses)
    of = {m.device_id: m.ward for m in simulated.monitors}
    events = map(decode, simulated.due(START_US + 60 * SECOND_US))
    seen = {(e.body["subject"], e.device_id) for e in events if e.kind is PayloadKind.ACCESS}
    assert {subject for subject, _ in seen} == set(nurses)
    assert all(ward[subject] == of[device] for subject, device in seen)


def test_sequences_rise_by_one_per_device_and_kind() -> None:
    counters: dict[tuple[str, PayloadKind], int] = defaultdict(int)
    for record in sent():
        event = decode(record)
        counters[event.device_id, event.kind] += 1
        assert event.sequence == counters[event.device_id, event.kind]
        assert event.boot == 1


def test_rate_and_mix() -> None:
    kinds = Counter(record.kind for record in sent(20))
    assert kinds[PayloadKind.TELEMETRY] == 20 * 4 * 20
    assert kinds[PayloadKind.LIFECYCLE] >= 2 * 20
    assert 20 <= kinds[PayloadKind.ACCESS] <= 60


def test_each_device_reports_the_record_from_its_own_place_and_wraps_around() -> None:
    length = len(vitals.rows())
    simulated = fleet()
    starts = set()
    for index, monitor in enumerate(simulated.monitors):
        place = index * length // 20
        event = decode(monitor.reading(START_US))
        assert (tuple(event.body["codes"]), tuple(event.body["values"])) == (
            vitals.rows()[place].codes,
            vitals.rows()[place].values,
        )
        starts.add(place)
    assert len(starts) == 20
    last = Monitor(device_identity(7, 0), AUDIENCE, place=length - 1)
    last.reading(START_US)
    assert last.peek() == again(vitals.rows()[0], 1, 0)


def test_a_record_that_begins_anew_is_near_the_first_and_never_the_same() -> None:
    rows = vitals.rows()
    laps = [rows, *([again(row, lap, place) for place, row in enumerate(rows)] for lap in range(1, 8))]
    seen: set[tuple[tuple[float, ...], ...]] = set()
    for lap in laps:
        for place, row in enumerate(lap):
            assert row.codes == rows[place].codes
            assert all(abs(a - b) < 0.6 for a, b in zip(row.values, rows[place].values, strict=True))
        windows = {tuple(row.values for row in lap[at : at + 6]) for at in range(len(lap) - 5)}
        windows = {window for window in windows if len(set(window)) == 6}
        assert not windows & seen
        seen |= windows


def test_nobody_clean_fails_often_enough_to_look_like_an_attacker() -> None:
    failures: Counter[str] = Counter()
    for record in sent(300):
        if record.kind is PayloadKind.ACCESS:
            event = decode(record)
            failures[event.device_id] += event.body["outcome"] == "FAILED"
    assert 0 < max(failures.values()) < 5


def test_a_silenced_monitor_sends_nothing_and_the_others_go_on() -> None:
    simulated = fleet()
    list(simulated.due(START_US + SECOND_US))
    simulated.monitors[3].silenced = True
    later = Counter(record.device_id for record in simulated.due(START_US + 3 * SECOND_US))
    assert simulated.monitors[3].device_id not in later
    assert len(later) == 19


def test_time_is_the_devices_claim_and_never_runs_back() -> None:
    times = [decode(record).time_us for record in sent()]
    assert times == sorted(times)
    assert times[0] >= START_US
    assert times[-1] < START_US + 20 * SECOND_US


def test_a_device_whose_seed_nobody_else_has() -> None:
    assert len({device_identity(7, index).seed for index in range(500)}) == 500
    assert "seed" not in repr(device_identity(7, 0))
