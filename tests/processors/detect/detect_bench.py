"""CPU of all telemetry rules for an event of eight signals: `python -m tests.processors.detect.detect_bench`.

Eight signals of one bedside monitor, all on, one report a second with one decimal: the first half of the
real record gives heart rate, pulse, respiration and saturation where all four are on, and the arterial
pressures and a temperature are made from a seeded walk, since the record has none there. Prints the median
of several runs, in us of CPU for an event.
"""

import argparse
import random
import time
from collections.abc import Sequence
from statistics import median

from loadtests.vitals import rows
from processors.detect import DetectConfig, TelemetryDetectors, TelemetryState
from processors.model import RawRecord, VerifiedEvent
from schemas.envelope import PayloadKind
from schemas.events import Event
from schemas.mdc import BY_NAME

SEED = 7
_MEASURED = tuple(BY_NAME[name].code for name in ("hr", "pulse", "resp", "spo2"))
_MADE = tuple(BY_NAME[name].code for name in ("abpsys", "abpdias", "abpmean", "nbpmean"))


def events(count: int) -> Sequence[VerifiedEvent]:
    """Make `count` events of one device, deterministic."""
    rng = random.Random(SEED)
    on = [values for row in rows()[: len(rows()) // 2] if (values := _all_on(row.codes, row.values))]
    systolic, diastolic = 120.0, 70.0
    made = []
    for number in range(count):
        systolic += rng.gauss(0, 1) + (120 - systolic) / 20
        diastolic += rng.gauss(0, 0.7) + (70 - diastolic) / 20
        mean = diastolic + (systolic - diastolic) / 3 + rng.gauss(0, 0.5)
        pressures = [round(each, 1) for each in (systolic, diastolic, mean, mean + rng.gauss(0, 1))]
        body = {"codes": [*_MEASURED, *_MADE], "values": [*on[number % len(on)], *pressures]}
        time_us = 1_700_000_000_000_000 + number * 1_000_000
        made.append(
            VerifiedEvent(
                Event(PayloadKind.TELEMETRY, "did:key:z6MkBench", 1, number + 1, time_us, body),
                bytes(32),
                RawRecord(
                    "device.telemetry.raw", 0, number, time_us // 1000 + rng.randint(5, 50), None, None
                ),
                0,
            )
        )
    return made


def _all_on(codes: Sequence[int], values: Sequence[float]) -> list[float] | None:
    found = dict(zip(codes, values, strict=True))
    picked = [found.get(code, 0.0) for code in _MEASURED]
    return picked if all(picked) else None


def us_per_event(made: Sequence[VerifiedEvent]) -> float:
    """CPU of one run over the events, in us for each."""
    detectors = TelemetryDetectors(DetectConfig.default())
    states: dict[str, TelemetryState] = {"did:key:z6MkBench": detectors.new()}
    started = time.process_time_ns()
    detectors.process(made, states.__getitem__)
    return (time.process_time_ns() - started) / 1000 / len(made)


def main() -> None:
    """Print the median and the runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    made = events(options.events)
    taken = [us_per_event(made) for _ in range(options.runs)]
    detectors = TelemetryDetectors(DetectConfig.default())
    state = detectors.new()
    found = detectors.process(made, lambda _device: state)
    print(f"{median(taken):.2f} us an event of 8 signals (median of {options.runs} runs)")
    print("runs: " + ", ".join(f"{each:.2f}" for each in taken))
    print(f"state: {len(detectors.dump(state))} bytes; findings: {len(found)}")


if __name__ == "__main__":
    main()
