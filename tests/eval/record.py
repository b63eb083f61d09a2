"""The real ICU record as one device would send it; its first half is for tuning, its second is scored."""

from array import array
from dataclasses import dataclass
from functools import cache, cached_property
from random import Random
from statistics import median

from loadtests.vitals import ROW_INTERVAL_S, rows
from processors.model import RawRecord, VerifiedEvent
from schemas.envelope import PayloadKind
from schemas.events import Event
from schemas.mdc import BY_NAME

DEVICE, OTHER_DEVICE = "did:key:z6MkEvaluated", "did:key:z6MkBesideIt"
TOPIC, PARTITION = "device.telemetry.raw", 0
START_US = 1_700_000_000_000_000
INTERVAL_US = ROW_INTERVAL_S * 1_000_000
DAY_US = 86_400_000_000
# How long a reading is on its way to the broker: a hospital's network and a client that sends in batches.
LATENCY_MS = (20, 250)
HR, PULSE, SPO2, RESP = (BY_NAME[name].code for name in ("hr", "pulse", "spo2", "resp"))
CUFF = tuple(BY_NAME[name].code for name in ("nbpsys", "nbpdias", "nbpmean"))
CONTINUOUS = (HR, PULSE, SPO2, RESP)
"""Signals with enough of the record on. The arterial line is connected for its last 8 minutes only."""
_CONSISTENCY = 1.4826  # of the median absolute deviation with the standard deviation of a normal law


@dataclass(frozen=True)
class Reading:
    """One accepted telemetry event: its place, the broker's and the device's time, MDC codes and values."""

    device: str
    offset: int
    append_ms: int
    device_us: int
    codes: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def time_us(self) -> int:
        """The broker's time."""
        return self.append_ms * 1000

    @cached_property
    def event(self) -> VerifiedEvent:
        """As the detectors get it; made once, since most readings are shared by all trials."""
        body = {"codes": self.codes, "values": array("d", self.values)}
        return VerifiedEvent(
            Event(PayloadKind.TELEMETRY, self.device, 1, self.offset + 1, self.device_us, body),
            self.offset.to_bytes(32, "big"),
            RawRecord(TOPIC, PARTITION, self.offset, self.append_ms, None, None),
            0,
        )

    def value(self, code: int) -> float | None:
        """The value of a signal, None where the event has none."""
        return self.values[self.codes.index(code)] if code in self.codes else None

    def is_on(self, code: int) -> bool:
        """Whether a signal of the record is measured: zeros are sensors that are off."""
        return bool(self.value(code))

    def replaced(self, code: int, value: float) -> "Reading":
        """The same event with another value of one signal, in the record's resolution of a tenth."""
        values = list(self.values)
        values[self.codes.index(code)] = round(value, 1)
        return Reading(self.device, self.offset, self.append_ms, self.device_us, self.codes, tuple(values))

    def moved(self, *, append_us: int = 0, device_us: int = 0) -> "Reading":
        """The same event later by the broker's clock, the device's clock, or both."""
        return Reading(
            self.device,
            self.offset,
            self.append_ms + append_us // 1000,
            self.device_us + device_us,
            self.codes,
            self.values,
        )


def half() -> int:
    """The first row that is scored."""
    return len(rows()) // 2


@cache
def clean() -> tuple[Reading, ...]:
    """The whole record as `DEVICE` sends it, one event a minute."""
    return _sent(DEVICE, list(range(len(rows()))))


@cache
def beside() -> tuple[Reading, ...]:
    """A second device at the same time: each half of the record, backwards."""
    middle, end = half(), len(rows())
    return _sent(OTHER_DEVICE, [*range(middle - 1, -1, -1), *range(end - 1, middle - 1, -1)])


def _sent(device: str, places: list[int]) -> tuple[Reading, ...]:
    rng = Random(f"latency of {device}")
    record, sent = rows(), []
    for number, place in enumerate(places):
        device_us = START_US + number * INTERVAL_US
        append_ms = device_us // 1000 + rng.randint(*LATENCY_MS)
        row = record[place]
        sent.append(Reading(device, number, append_ms, device_us, row.codes, row.values))
    return tuple(sent)


@cache
def spread(code: int) -> float:
    """The signal's robust standard deviation (1.4826 MAD) while it is on, in its unit, from the first half.

    The unit of strength of an injected anomaly, so that signals can be pooled.
    """
    values = [value for each in clean()[: half()] if (value := each.value(code))]
    middle = median(values)
    return _CONSISTENCY * median(abs(value - middle) for value in values)


@cache
def noise(code: int) -> float:
    """The robust standard deviation of a signal's change from minute to minute, from the first half."""
    pairs = zip(clean()[: half() - 1], clean()[1 : half()], strict=True)
    changes = [b - a for one, two in pairs if (a := one.value(code)) and (b := two.value(code))]
    return _CONSISTENCY * median(abs(change) for change in changes)


@cache
def eight_signals() -> tuple[Reading, ...]:
    """The scored half with eight signals in every event, as a monitor with a cuff sends it.

    The cuff's last result is repeated until the next, as many monitors do; that also makes eight of seven.
    """
    held, made = 120.0, []
    for reading in clean()[half() :]:
        held = reading.value(CUFF[0]) or held
        pairs = [pair for pair in zip(reading.codes, reading.values, strict=True) if pair[0] not in CUFF]
        codes, values = zip(*pairs, (CUFF[0], held), strict=True)
        made.append(
            Reading(reading.device, reading.offset, reading.append_ms, reading.device_us, codes, values)
        )
    return tuple(made)
