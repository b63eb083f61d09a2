"""CPU of all telemetry rules for an event of eight signals: `python -m tests.processors.detect.detect_bench`.

Eight signals of bedside monitors, all on, one report a second with one decimal: the first half of the
real record, begun at another place by each, gives heart rate, pulse, respiration and saturation where all
four are on, and four pressures are made from a seeded walk, since the record has none there. Prints the
median of several runs, in us of CPU for an event.
"""

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from statistics import median

from loadtests.pace import loop_ns
from loadtests.vitals import rows
from processors.detect import DetectConfig, TelemetryDetectors
from processors.detect.blocks import BLOCK
from processors.model import RawRecord, VerifiedEvent
from schemas.envelope import PayloadKind
from schemas.events import decode_event, encode_event
from schemas.mdc import BY_NAME

Sent = tuple[bytes, RawRecord]
"""An event's payload, and the record that holds it."""
SEED = 7
WARM_BLOCKS = 6
"""Not measured: what is usual is then known. A device's first block costs more than its later ones."""
_MEASURED = tuple(BY_NAME[name].code for name in ("hr", "pulse", "resp", "spo2"))
_MADE = tuple(BY_NAME[name].code for name in ("abpsys", "abpdias", "abpmean", "nbpmean"))


def sent(devices: int, reports: int) -> Sequence[Sent]:
    """Make `reports` events of each device, in turn; deterministic."""
    made = [list(_sent_by(device, reports)) for device in range(devices)]
    return [of_one[number] for number in range(reports) for of_one in made]


def decoded(payloads: Sequence[Sent]) -> Sequence[VerifiedEvent]:
    """Decode them."""
    return [
        VerifiedEvent(decode_event(PayloadKind.TELEMETRY, payload), bytes(32), source, 0)
        for payload, source in payloads
    ]


def _sent_by(device: int, reports: int) -> Iterator[Sent]:
    rng = random.Random(SEED + device)
    on = [values for row in rows()[: len(rows()) // 2] if (values := _all_on(row.codes, row.values))]
    systolic, diastolic, begin = 120.0, 70.0, rng.randrange(len(on))
    for number in range(reports):
        systolic += rng.gauss(0, 1) + (120 - systolic) / 20
        diastolic += rng.gauss(0, 0.7) + (70 - diastolic) / 20
        mean = diastolic + (systolic - diastolic) / 3 + rng.gauss(0, 0.5)
        pressures = [round(each, 1) for each in (systolic, diastolic, mean, mean + rng.gauss(0, 1))]
        time_us = 1_700_000_000_000_000 + number * 1_000_000
        payload = encode_event(
            PayloadKind.TELEMETRY,
            {
                "device_id": f"did:key:z6MkBench{device}",
                "boot": 1,
                "sequence": number + 1,
                "time": time_us,
                "codes": [*_MEASURED, *_MADE],
                "values": [*on[(begin + number) % len(on)], *pressures],
            },
        )
        arrived_ms = time_us // 1000 + rng.randint(5, 50)
        yield payload, RawRecord("device.telemetry.raw", 0, number, arrived_ms, None, None)


def _all_on(codes: Sequence[int], values: Sequence[float]) -> list[float] | None:
    found = dict(zip(codes, values, strict=True))
    picked = [found.get(code, 0.0) for code in _MEASURED]
    return picked if all(picked) else None


def us_per_event(payloads: Sequence[Sent], devices: int, batch: int) -> tuple[float, float]:
    """CPU of one run in us: for an event, and for writing the state of a device after it.

    A batch is decoded right before it is judged, as ingest does, and that is not counted.
    """
    detectors = TelemetryDetectors(DetectConfig.default())
    states = {f"did:key:z6MkBench{device}": detectors.new() for device in range(devices)}
    warm, taken = devices * BLOCK * WARM_BLOCKS, 0
    detectors.process(decoded(payloads[:warm]), states.__getitem__)
    for at in range(warm, len(payloads), batch):
        events = decoded(payloads[at : at + batch])
        started = time.process_time_ns()
        detectors.process(events, states.__getitem__)
        taken += time.process_time_ns() - started
    started = time.process_time_ns()
    detectors.dump_all(list(states.values()))
    dumped = time.process_time_ns() - started
    return taken / 1000 / (len(payloads) - warm), dumped / 1000 / devices


def main() -> None:
    """Print the medians and the runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=500)
    parser.add_argument("--reports", type=int, default=200, help="of each device")
    parser.add_argument("--batch", type=int, default=2000, help="events that are judged together")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    made = sent(options.devices, options.reports)
    runs = [(*us_per_event(made, options.devices, options.batch), loop_ns()) for _ in range(options.runs)]
    taken, dumped, pace = zip(*runs, strict=True)
    detectors = TelemetryDetectors(DetectConfig.default())
    state = detectors.new()
    found = detectors.process(decoded(made[:: options.devices]), lambda _device: state)
    print(f"{median(taken):.2f} us an event of 8 signals (median of {options.runs} runs)")
    print("runs: " + ", ".join(f"{each:.2f}" for each in taken))
    print(f"a step of a plain loop beside them: {median(pace):.0f} ns")
    print(
        f"state: {len(detectors.dump(state))} bytes, written in {median(dumped):.2f} us; "
        f"findings: {len(found)}"
    )


if __name__ == "__main__":
    main()
