"""Ingest's steps on one telemetry topic without a broker: judge, states, outputs, changelog, RocksDB."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from loadtests.corpusevents import Record, identity_of
from loadtests.corpusplan import Plan, device_ward
from loadtests.errors import LoadTestError
from loadtests.fleet import KEY_ID
from loadtests.pace import loop_ns, uncollected
from loadtests.processes import MIB
from pipeline import outputs
from pipeline.authority import NewKey
from pipeline.devices import PartitionStates, keep_most
from pipeline.loadtest.site import MONITOR, SILENCE_S
from pipeline.settings import Settings
from pipeline.statestore import ChangelogPosition, Partition, StateStore
from pipeline.topics import REGISTRY, TELEMETRY_RAW, changelog_of
from processors.authenticate import Authenticate, TimeLimits
from processors.detect import DetectConfig, SilenceRule, TelemetryDetectors
from processors.judge import Judge
from processors.model import Outcome, RawRecord
from processors.registry import Registry
from schemas.codec import CODEC
from schemas.ed25519 import public_key
from schemas.envelope import PayloadKind, SignedEnvelope
from schemas.partition import partition_of
from schemas.records import Headers
from schemas.signing import SigningIdentity
from schemas.trust import TrustRoot

ARRIVES_MS = 20
"""After the event's own time."""
AUTHORITY = SigningIdentity("authority", "authority", bytes(range(32)))


@dataclass(frozen=True, slots=True)
class AtDevices:
    """What an event cost at one number of devices and one size of batch; times are CPU time in us."""

    devices: int
    batch: int
    events: int
    """That were measured."""
    cpu_us: float
    """Mean of all events with which every device completes a block."""
    beside_us: float
    """What an event of a small fleet cost in between; 0 where none was asked for."""
    judge_us: float
    outputs_us: float
    changes_us: float
    """Writing states as records."""
    store_us: float
    """RocksDB, with what it does behind the scenes."""
    touched: float
    """States written, for an event: 1 where no device comes twice in a batch."""
    state_bytes: float
    """Of a device in the working copy, key included."""
    changelog_bytes: float
    """Key and value of a changelog record."""
    registry_rss: float
    """Resident bytes of a registered device."""
    kept: int
    """Devices whose states are kept in memory."""
    state_rss: float
    """Resident bytes of one of them."""
    rss_mib: float
    """Of the process in the end, with the records at hand and any small fleet beside."""
    loop_ns: float

    def to_json(self) -> dict[str, Any]:
        """Members by name, rounded."""
        return {name: round(value, 2) for name, value in asdict(self).items()}


class Counted:
    """In place of a producer: counts the records and bytes that it is given."""

    def __init__(self) -> None:
        self.records = self.bytes = 0

    def produce(
        self,
        topic: str,  # noqa: ARG002
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int = -1,  # noqa: ARG002
        headers: Headers | None = None,  # noqa: ARG002
    ) -> None:
        """Count a record."""
        self.records += 1
        self.bytes += len(value or b"") + len(key or b"")


class Loop:
    """Ingest's steps on one telemetry topic."""

    def __init__(self, plan: Plan, folder: Path, batch: int) -> None:
        settings = Settings(data_dir=folder, log_name=plan.log_name, silence_after_s=SILENCE_S)
        self._keys = [public_key(identity_of(plan, number).seed) for number in range(plan.devices)]
        self._dids = [identity_of(plan, number).did.encode() for number in range(plan.devices)]
        self._places = [partition_of(did, settings.partitions) for did in self._dids]
        known = _rss()
        registry = _registry(plan, self._dids, self._keys)
        self._registry_rss = max(0.0, (_rss() - known) / plan.devices)
        noise: list[Any] = []
        detectors = TelemetryDetectors(DetectConfig.default(), noise=noise)
        limits = TimeLimits(round(settings.max_ahead_s * 1e6), round(settings.max_behind_s * 1e6))
        self._judge = Judge(
            Authenticate(PayloadKind.TELEMETRY, plan.log_name, settings.partitions, limits),
            detectors,
            registry,
            lambda: True,
            SilenceRule(settings.silence_after_s),
            noise=noise,
        )
        self._store = StateStore(folder / "rocksdb")
        self._states = {
            (TELEMETRY_RAW, number): PartitionStates((TELEMETRY_RAW, number), self._store, detectors)
            for number in range(settings.partitions)
        }
        self._most = settings.cached_devices
        self._kept = min(plan.devices, self._most)
        self._plan, self._batch = plan, batch
        self._offsets = dict.fromkeys(self._states, 0)
        self._written = 0
        self._rss_before_states = _rss()
        self._steps: list[tuple[float, ...]] = []
        self._touched = self._events = self._changelog_bytes = 0
        self._loops: list[float] = []

    def feed(self, events: Sequence[Record], *, is_measured: bool) -> None:
        """Work off some rounds of events; raises LoadTestError where one is not accepted."""
        sums = [0.0] * 4
        with uncollected():
            for at in range(0, len(events), self._batch):
                part = events[at : at + self._batch]
                sums = [total + each for total, each in zip(sums, self._step(part), strict=True)]
        if is_measured:
            self._steps.append(tuple(each / len(events) * 1e6 for each in sums))
            self._loops.append(loop_ns())
        else:
            self._touched = self._events = self._changelog_bytes = 0

    def _step(self, events: Sequence[Record]) -> tuple[float, ...]:
        """Judge, write and keep a batch; return the CPU seconds of judging, outputs, changes and store."""
        batches = self._batches(events)
        producer, writes = Counted(), []
        times = [time.process_time()]
        judged = self._judge.process_all([(batch, self._states[place]) for place, batch in batches.items()])
        outcomes = dict(zip(batches, judged, strict=True))
        times.append(time.process_time())
        for place, outcome in outcomes.items():
            _put(producer, place, outcome)
        times.append(time.process_time())
        for place in outcomes:
            for key, value in self._states[place].changes():
                producer.produce(changelog_of(place[0]), value, key)
                writes.append((place, key, value))
        times.append(time.process_time())
        self._store.write(
            writes, {place: ChangelogPosition("scale", self._offsets[place]) for place in outcomes}
        )
        keep_most(self._states.values(), self._most)
        times.append(time.process_time())
        accepted = sum(len(outcome.accepted) for outcome in outcomes.values())
        if accepted != len(events):
            why = next((o.rejected[0].detail for o in outcomes.values() if o.rejected), "")
            raise LoadTestError(f"{len(events) - accepted:,} of {len(events):,} events were rejected: {why}")
        self._events, self._touched = self._events + accepted, self._touched + len(writes)
        self._changelog_bytes += sum(len(key) + len(value) for _place, key, value in writes)
        return tuple(later - earlier for earlier, later in pairwise(times))

    def _batches(self, events: Sequence[Record]) -> dict[Partition, list[RawRecord]]:
        found: dict[Partition, list[RawRecord]] = {}
        first_ms = self._plan.first_us // 1000 + ARRIVES_MS
        for _kind, device, value in events:
            place = (TELEMETRY_RAW, self._places[device])
            offset, self._offsets[place] = self._offsets[place], self._offsets[place] + 1
            arrived_ms = first_ms + self._written * 1000 // self._plan.devices
            self._written += 1
            found.setdefault(place, []).append(
                RawRecord(*place, offset, arrived_ms, self._dids[device], value)
            )
        return found

    @property
    def cpu_us(self) -> float:
        """CPU time of an event that was measured; 0 where none was."""
        return sum(map(sum, self._steps)) / len(self._steps) if self._steps else 0.0

    def result(self, beside_us: float = 0.0) -> AtDevices:
        """Put what was measured together."""
        kept = sum(len(k) + len(v) for place in self._states for k, v in self._store.items(place))
        judged, put, changed, stored = (
            sum(each) / len(self._steps) for each in zip(*self._steps, strict=True)
        )
        return AtDevices(
            devices=self._plan.devices,
            batch=self._batch,
            events=self._events,
            cpu_us=self.cpu_us,
            beside_us=beside_us,
            judge_us=judged,
            outputs_us=put,
            changes_us=changed,
            store_us=stored,
            touched=self._touched / self._events,
            state_bytes=kept / self._plan.devices,
            changelog_bytes=self._changelog_bytes / max(1, self._touched),
            registry_rss=self._registry_rss,
            kept=self._kept,
            state_rss=max(0.0, (_rss() - self._rss_before_states) / self._kept),
            rss_mib=_rss() / MIB,
            loop_ns=median(self._loops),
        )

    def close(self) -> None:
        """Let the working copy go."""
        self._store.close()


def _put(producer: Counted, place: Partition, outcome: Outcome) -> None:
    """Make the records of an outcome, as ingest does."""
    outputs.accept(producer.produce, outcome.accepted)
    for finding in outcome.findings:
        outputs.report(producer.produce, place[1], finding)
    outputs.tell_noise(producer.produce, place, outcome.noise)


def _registry(plan: Plan, dids: Sequence[bytes], keys: Sequence[bytes]) -> Registry:
    """Make the table of signed entries that a worker would have read."""
    table = Registry(TrustRoot(plan.log_name, public_key(bytes(32)), {"authority": AUTHORITY.public_key}))
    for number, (did, key) in enumerate(zip(dids, keys, strict=True)):
        entry = {
            "subject": did.decode(),
            "version": 1,
            "previous_digest": b"",
            "action": "REGISTER",
            "time": plan.first_us,
            "key": NewKey(KEY_ID, key).to_entry(),
            "revoked_key_id": None,
            "compromised_since": None,
            "attributes": {**MONITOR, "ward": device_ward(number)},
        }
        payload = CODEC.encode(PayloadKind.REGISTRY_ENTRY.value, entry)
        signature = AUTHORITY.sign(PayloadKind.REGISTRY_ENTRY, plan.log_name, payload)
        value = SignedEnvelope(payload, (signature,)).encode()
        table.apply(RawRecord(REGISTRY, 0, number, plan.first_us // 1000, did, value))
    if len(table) != plan.devices:
        raise LoadTestError(f"{len(table):,} of {plan.devices:,} devices were registered")
    return table


def _rss() -> int:
    return psutil.Process().memory_info().rss
