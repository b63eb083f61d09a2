"""Each leg is timed from the intended moment to what the observer saw, and says what did not come so far."""

from pathlib import Path
from typing import Any

import numpy as np

from loadtests.ledger import ACCEPTED, REJECTED, Verdicts
from loadtests.legs import Run, legs_of, offsets_of
from loadtests.openloop import UNSET, Sent
from loadtests.sightings import NEVER, Alert, EpochLeaf, Lag, Sightings, Steps

MS = 1_000_000
EVENTS, REJECTIONS = "device.events", "device.rejected"


def steps(*pairs: tuple[int, int]) -> Steps:
    return Steps([at * MS for at, _ in pairs], [value for _, value in pairs])


def seen() -> Sightings:
    """Events at offsets 0, 1 and 3 (2 is a marker); sealed up to 1 and later up to 3."""
    return Sightings(
        stable={(EVENTS, 0): steps((0, 0), (10, 3), (20, 5)), (REJECTIONS, 0): steps((0, 0), (12, 2))},
        covered={(EVENTS, 0): steps((100, 1), (200, 3))},
        epoch=[EpochLeaf(2, (EVENTS, 0), 1), EpochLeaf(5, (EVENTS, 0), 3)],
        anchored=steps((1000, 3), (3000, 6)),
        alerts=[Alert(500 * MS, {"device.rejected/0": "0", "device.findings/0": "9"})],
        lag=[Lag(0, 3, 1)],
    )


def run(sightings: Sightings, **changes: Any) -> Run:
    times = np.array([0, 1, 2, 3]) * MS
    given: dict[str, Any] = {
        # Due at 0, 1, 2 and 3 ms, sent half a millisecond late each.
        "sent": Sent(0, 0, 1000.0, times + MS // 2, times + MS, np.arange(4), np.zeros(4, np.int32)),
        "verdicts": Verdicts(
            np.array([ACCEPTED, ACCEPTED, ACCEPTED, REJECTED], np.int8),
            np.zeros(4, np.int32),
            np.array([0, 1, 3, 0], np.int64),
        ),
        "forged": np.array([False, False, False, True]),
        "devices": np.zeros(4, np.int32),
        "sightings": sightings,
        "events": EVENTS,
        "rejected": REJECTIONS,
        "warmup": 0,
        "absent": {},
        "attacked": np.zeros(0, np.int32),
    }
    return Run(**{**given, **changes})


def test_each_leg_from_the_intended_moment() -> None:
    legs = legs_of(run(seen()))
    assert legs["delayed"].took_ns.tolist() == [MS // 2] * 4
    assert legs["published"].took_ns.tolist() == [MS // 2] * 4
    assert (legs["accepted"].took_ns // MS).tolist() == [10, 9, 18]
    assert (legs["rejected"].took_ns // MS).tolist() == [9]
    assert (legs["checkpoint"].took_ns // MS).tolist() == [100, 99, 198]
    assert (legs["anchored"].took_ns // MS).tolist() == [1000, 999, 2998]
    assert (legs["alert"].took_ns // MS).tolist() == [497]
    assert all(leg.missing == 0 for leg in legs.values())


def test_what_did_not_come_so_far_is_counted_and_not_timed() -> None:
    sightings = seen()
    sightings.anchored = steps((1000, 3))
    sightings.alerts = []
    legs = legs_of(run(sightings))
    assert (len(legs["anchored"].took_ns), legs["anchored"].missing) == (2, 1)
    assert (len(legs["alert"].took_ns), legs["alert"].missing) == (0, 1)


def test_a_leg_that_does_not_run_says_why() -> None:
    leg = legs_of(run(seen(), absent={"anchored": "the stage anchor does not run"}))["anchored"]
    assert leg.to_json()["not_measured"] == "the stage anchor does not run"
    assert (len(leg.took_ns), leg.missing) == (0, 0)


def test_the_warm_up_counts_for_nothing() -> None:
    legs = legs_of(run(seen(), warmup=2))
    assert len(legs["accepted"].took_ns) == 1
    assert len(legs["published"].took_ns) == 2


def test_only_the_first_attack_on_a_ward_is_timed() -> None:
    verdicts = Verdicts(
        np.full(4, REJECTED, np.int8), np.zeros(4, np.int32), np.array([0, 1, 2, 3], np.int64)
    )
    forged, devices = np.ones(4, bool), np.array([0, 3, 8, 9], np.int32)
    legs = legs_of(run(seen(), verdicts=verdicts, forged=forged, devices=devices))
    # Device 3 is of device 0's ward; of the other ward's first no alert tells.
    assert (len(legs["alert"].took_ns), legs["alert"].missing) == (1, 1)


def test_a_ward_that_an_earlier_run_attacked_is_not_timed() -> None:
    assert len(legs_of(run(seen(), attacked=np.array([7], np.int32)))["alert"].took_ns) == 0
    assert len(legs_of(run(seen(), attacked=np.array([8], np.int32)))["alert"].took_ns) == 1


def test_a_record_that_was_never_sent_has_no_latency() -> None:
    sent = Sent(
        0, 0, 1000.0, np.array([0, UNSET]), np.array([5, UNSET]), np.array([0, UNSET]), np.zeros(2, np.int32)
    )
    verdicts = Verdicts(np.array([ACCEPTED, 0], np.int8), np.zeros(2, np.int32), np.zeros(2, np.int64))
    legs = legs_of(
        run(seen(), sent=sent, verdicts=verdicts, forged=np.zeros(2, bool), devices=np.zeros(2, np.int32))
    )
    assert len(legs["published"].took_ns) == 1


def test_sightings_are_kept_in_a_file(tmp_path: Path) -> None:
    seen().save(tmp_path / "seen.json")
    assert Sightings.load(tmp_path / "seen.json") == seen()


def test_steps_only_rise() -> None:
    found = Steps()
    assert [found.saw(value, at) for at, value in enumerate((5, 5, 4, 9))] == [True, False, False, True]
    assert found.first_reaching(np.array([1, 5, 6, 10])).tolist() == [0, 0, 3, NEVER]


def test_covers_are_read() -> None:
    assert offsets_of("12-14,44") == [12, 13, 14, 44]
    assert offsets_of("x,-3,7") == [7]
