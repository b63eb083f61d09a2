"""Devices with noise, and where their prints meet, without a broker."""

from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

from processors.detect import DetectConfig, TelemetryDetectors
from processors.model import RawRecord, VerifiedEvent
from processors.samenoise import NoiseMemory, SameNoise
from schemas.envelope import PayloadKind
from schemas.events import Event
from schemas.noise import NoiseBlock, encode_noise
from schemas.records import Finding

RAW, PRINTS = "device.telemetry.raw", "device.prints"
CONFIG = DetectConfig.default()
START_MS = 1_700_000_000_000
INTERVAL_MS = 15_000
HR, RESP = 147842, 151562
ONE, TWO, THREE = (f"did:example:{name}" for name in ("1", "2", "3"))


def noise(seed: int, count: int) -> list[float]:
    """Made changes around 0, no two stretches alike."""
    rng = Random(seed)
    return [rng.gauss(0.0, 1.0) for _ in range(count)]


def reported(level: float, around: Sequence[float], slope: float = 0.0) -> list[float]:
    """What a device with this level reports: rounded to a tenth."""
    return [round(level + slope * at + each, 1) for at, each in enumerate(around)]


def events(
    device: str, values: Sequence[Any], code: int = HR, *, first: int = 0, interval_ms: int = INTERVAL_MS
) -> list[VerifiedEvent]:
    """One event a value, whose place is its row: `first` is the row of the first."""
    made = []
    for row, value in enumerate(values, first):
        append_ms = START_MS + row * interval_ms
        body = {"codes": [code], "values": [value]}
        made.append(
            VerifiedEvent(
                Event(PayloadKind.TELEMETRY, device, 1, row + 1, append_ms * 1000, body),
                bytes(32),
                RawRecord(RAW, 0, row, append_ms, None, None),
                0,
            )
        )
    return made


def blocks(made: Sequence[VerifiedEvent], *, reload_at: Iterable[int] = ()) -> list[NoiseBlock]:
    """The prints of one device's events; at these places its state goes through its bytes."""
    told: list[NoiseBlock] = []
    detectors = TelemetryDetectors(CONFIG, noise=told)
    state, places = detectors.new(), set(reload_at)
    for at, each in enumerate(made):
        if at in places:
            state = detectors.load(detectors.dump(state))
        detectors.process([each], {each.event.device_id: state}.__getitem__)
    return told


def records(told: Iterable[NoiseBlock]) -> list[RawRecord]:
    """Records of the topic, one a block, in order of time."""
    ordered = sorted(told, key=lambda each: (each.time_us, each.device_id))
    return [
        RawRecord(PRINTS, 0, offset, each.time_us // 1000, b"", encode_noise(RAW, 0, [each]))
        for offset, each in enumerate(ordered)
    ]


class Kept:
    """A changelog in memory: what a restart begins with."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    def commit(self, memory: NoiseMemory) -> None:
        self.values.update(memory.changes())
        memory.committed()

    def restarted(self, rule: SameNoise, topic: Sequence[RawRecord]) -> NoiseMemory:
        memory = NoiseMemory(self.values.items())
        for record in topic[memory.from_offset : memory.next_offset]:
            rule.recall(record, memory)
        return memory


def judged(
    topic: Sequence[RawRecord], *, restart_at: Iterable[int] = (), rule: SameNoise | None = None
) -> list[Finding]:
    """Judge records one by one; before these places all but the changelog and the topic is lost."""
    rule, kept, places = rule or SameNoise(CONFIG), Kept(), set(restart_at)
    memory, found = NoiseMemory(), []
    for at, record in enumerate(topic):
        if at in places:
            memory = kept.restarted(rule, topic)
        found += rule.process([record], memory).findings
        kept.commit(memory)
    return found
