"""The same noise in the real record: what the injected copies show, and that nobody else meets."""

import pytest

from processors.samenoise import NoiseMemory, SameNoise
from schemas.noise import NoiseBlock
from tests.eval.anomalies import ANOMALIES
from tests.eval.record import CONTINUOUS, clean, half
from tests.eval.trials import run_trial
from tests.kit.noisy import CONFIG, HR, blocks, events, records

STRETCHES = 4
EVER = CONFIG.with_overrides({"same_noise": {"apart_s": 1e8}})
"""Every print is compared with every other."""
ANOMALY = ANOMALIES["same_noise"]


def stretches() -> list[list[NoiseBlock]]:
    """Devices that report, at the same time, each another stretch of the record, and each backwards."""
    rows = half() * 2 // STRETCHES
    parts = [clean()[at * rows : (at + 1) * rows] for at in range(STRETCHES)]
    return [
        [
            block
            for code in CONTINUOUS
            for block in blocks(
                events(
                    f"did:example:{number}",
                    [each.value(code) or 0.0 for each in part],
                    code,
                    interval_ms=60_000,
                )
            )
        ]
        for number, part in enumerate([*parts, *(part[::-1] for part in parts)])
    ]


def test_independent_stretches_of_the_record_never_meet() -> None:
    told = [block for one in stretches() for block in one]
    assert {found.code for each in told for found in each.prints} >= {HR}
    noticed = SameNoise(EVER).process(records(told), NoiseMemory())
    assert noticed.prints > 500
    assert (noticed.meetings, noticed.findings) == (0, [])


@pytest.mark.parametrize("seed", ["1/0", "1/1", "1/2"])
def test_a_copy_of_the_noise_is_found_and_names_both(seed: str) -> None:
    injected, alarms = run_trial(ANOMALY, ANOMALY.detectable, seed)
    (alarm,) = [each for each in alarms if each.rule == "same_noise"]
    devices = {each.device for each in injected.readings}
    assert {alarm.device, alarm.finding.parameters["other"]} == devices
    assert injected.start_us < alarm.time_us
