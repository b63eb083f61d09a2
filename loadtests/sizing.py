"""What a fleet needs, reckoned from what a run has cost (`loadtests/costs.py`): the cost model.

Everything follows from two rates, events and leaves a second, from the number of devices, and from the
intervals of checkpoints and anchors. Costs are linear in events; what is counted in pieces (workers,
partitions, machines) is rounded up. Pure: no clock, no files.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from loadtests.costs import Costs, StageCost
from loadtests.sizeplan import DAY_S, Fleet

MONTH_S = 30 * DAY_S
MIB = 2.0**20

UTILIZATION = 0.6
"""Of a core that a worker, and of the cores that a machine, is planned to use: the rest is for peaks,
restores and catching up."""
RAW_DAYS, PRINTS_DAYS = 7.0, 3.0
"""As the table of topics has it."""
CACHED_DEVICES = 100_000
"""States that a worker of ingest keeps in memory (setting `cached_devices`)."""
LEAST_PARTITIONS = 8
PARTITIONS_A_WORKER = 2
"""Partitions cannot be added later, workers can: so twice as many of either as the rate needs."""
TILE_WIDTH, HASH_BYTES = 256, 32
SHARD_YEARS = 1.0
"""Partial tiles are written for each level of a tree of so many years, were the fleet one shard."""
PRICED_S = (1.0, 5.0, 10.0, 60.0, 300.0)
"""Checkpoint intervals of the table of prices, beside the one that was asked for."""


@dataclass(frozen=True, slots=True)
class Family:
    """Topics that are kept alike; bytes are those of all replicas."""

    name: str
    bytes_a_day: float
    retention_days: float | None
    """None: for ever."""
    bytes_kept: float
    """At the end of the retention; of what is kept for ever, after a year."""


@dataclass(frozen=True, slots=True)
class Price:
    """What checkpoints at one interval cost in an object store."""

    checkpoint_interval_s: float
    writes_a_month: float
    dollars_a_month: float


@dataclass(frozen=True, slots=True)
class Sized:
    """What the fleet needs."""

    events_a_second: float
    event_bytes: float
    leaves_a_second: float
    cores: Mapping[str, float | None]
    """By stage; None: not measured. Of the two verifiers of ingest one is at work."""
    cores_with_wheel: float
    cores_with_crate: float | None
    workers: Mapping[str, int | None]
    """Processes of ingest, with either verifier, and of seal."""
    partitions: int
    machines: int
    """For all but the brokers, with the wheel's verifier."""
    brokers: int
    worker_mib: float
    """Of a worker of ingest, with the wheel's verifier."""
    others_mib: float
    kafka: tuple[Family, ...]
    kafka_bytes_a_day: float
    kafka_bytes_kept: float
    ingest_rocksdb_bytes: float
    seal_rocksdb_bytes_a_day: float
    tile_objects_a_day: float
    tile_bytes_a_day: float
    object_writes: Price
    prices: tuple[Price, ...]
    anchors_a_month: float
    anchor_dollars_a_month: float
    network_in: float
    """Bytes a second into the brokers from devices and stages."""
    network_between: float
    """Bytes a second from broker to broker, for the further replicas."""
    network_out: float
    """Bytes a second from the brokers to the stages."""


def size(fleet: Fleet, costs: Costs) -> Sized:
    """Reckon; raises PlanError for a fleet out of bounds."""
    fleet.check()
    return _Reckoning(fleet, costs).result()


class _Reckoning:
    """One reckoning: the rates that all else follows from."""

    def __init__(self, fleet: Fleet, costs: Costs) -> None:
        self._fleet, self._costs = fleet, costs
        self._events = fleet.devices * fleet.rate
        self._event_bytes = fleet.event_bytes or costs.mix.event_bytes
        self._decisions = self._events * fleet.access_share * costs.leaves.decisions_per_access
        self._findings = self._events * costs.leaves.findings_per_event
        self._leaves = self._events + self._decisions + self._findings
        slope = self._events * costs.stages.ingest_wheel.cpu_us / 1e6
        self._workers = _workers(slope, costs.stages.ingest_wheel)
        self._sealers = _workers(self._leaves * costs.stages.seal.cpu_us / 1e6, costs.stages.seal)
        wanted = PARTITIONS_A_WORKER * max(self._workers, self._sealers)
        self._partitions = max(LEAST_PARTITIONS, 1 << (wanted - 1).bit_length())

    def result(self) -> Sized:
        fleet, costs, memory = self._fleet, self._costs, self._costs.memory
        cores, crate = self._cores(), costs.stages.ingest_crate
        rest = sum(each or 0.0 for name, each in cores.items() if not name.startswith("ingest"))
        wheel = (cores["ingest, wheel"] or 0.0) + rest
        with_crate = cores["ingest, crate"]
        families = self._families()
        produced = sum(family.bytes_a_day for family in families) / fleet.replication / DAY_S
        intervals = sorted({*PRICED_S, fleet.checkpoint_interval_s})
        broker_cores = cores["broker"] or 0.0
        planned = fleet.cores_per_machine * UTILIZATION
        anchors = MONTH_S / fleet.anchor_interval_s * self._share_of_turns(fleet.anchor_interval_s)
        return Sized(
            events_a_second=self._events,
            event_bytes=self._event_bytes,
            leaves_a_second=self._leaves,
            cores=cores,
            cores_with_wheel=wheel,
            cores_with_crate=None if with_crate is None else with_crate + rest,
            workers={
                "ingest, wheel": self._workers,
                "ingest, crate": _workers(self._events * crate.cpu_us / 1e6, crate) if crate else None,
                "seal": self._sealers,
            },
            partitions=self._partitions,
            machines=math.ceil((wheel - broker_cores) / planned),
            brokers=max(fleet.replication, math.ceil(broker_cores / planned)),
            worker_mib=memory.ingest_base_mib + self._worker_bytes() / MIB,
            others_mib=memory.others_mib,
            kafka=families,
            kafka_bytes_a_day=sum(family.bytes_a_day for family in families),
            kafka_bytes_kept=sum(family.bytes_kept for family in families),
            ingest_rocksdb_bytes=fleet.devices * costs.rocksdb_bytes,
            seal_rocksdb_bytes_a_day=self._tile_bytes_a_day(),
            tile_objects_a_day=self._full_tiles() * DAY_S,
            tile_bytes_a_day=self._tile_bytes_a_day(),
            object_writes=self._price(fleet.checkpoint_interval_s),
            prices=tuple(self._price(each) for each in intervals),
            anchors_a_month=anchors,
            anchor_dollars_a_month=anchors * fleet.message_price,
            network_in=produced,
            network_between=produced * (fleet.replication - 1),
            network_out=self._consumed(),
        )

    def _cores(self) -> dict[str, float | None]:
        """Idle cores of each process, and CPU time for what it does."""
        stages = self._costs.stages
        crate = stages.ingest_crate

        def of(stage: StageCost, rate: float, processes: int = 1) -> float:
            return stage.idle_cores * processes + rate * stage.cpu_us / 1e6

        slope = None if crate is None else self._events * crate.cpu_us / 1e6
        return {
            "ingest, wheel": of(stages.ingest_wheel, self._events, self._workers),
            "ingest, crate": of(crate, self._events, _workers(slope, crate)) if crate and slope else None,
            "seal": of(stages.seal, self._leaves, self._sealers),
            "profile": of(stages.profile, self._events),
            "correlate": of(stages.correlate, self._events),
            "anchor": of(stages.anchor, self._events),
            # What else is replicated a broker takes as if a stage had sent it once more, and nobody read it.
            "broker": of(stages.broker, self._events * (1 + (self._fleet.replication - 1) / 2)),
        }

    def _worker_bytes(self) -> float:
        """Every worker knows the whole registry, and has states of its own devices, up to a bound."""
        memory, devices = self._costs.memory, self._fleet.devices
        own = min(CACHED_DEVICES, devices / self._workers)
        return devices * memory.registry_bytes + own * memory.state_bytes

    def _families(self) -> tuple[Family, ...]:
        fleet, kafka = self._fleet, self._costs.kafka
        day, events = DAY_S * fleet.replication, self._events
        checkpoints = self._dirty_shards(fleet.anchor_interval_s) / fleet.anchor_interval_s
        rows = (
            ("raw", events * (self._event_bytes + kafka.raw_overhead), RAW_DAYS),
            ("accepted", events * (self._event_bytes + kafka.events_overhead), fleet.retention_days),
            ("decisions", events * fleet.access_share * kafka.decision, None),
            ("findings", events * kafka.findings, None),
            ("prints of noise", events * kafka.prints, PRINTS_DAYS),
            ("checkpoints", checkpoints * kafka.checkpoint, None),
        )
        made = [
            Family(name, rate * day, days, rate * day * (365.0 if days is None else days))
            for name, rate, days in rows
        ]
        kept = fleet.devices * kafka.changelog_kept * fleet.replication
        return (*made, Family("changelogs, compacted", events * kafka.changelog * day, None, kept))

    def _consumed(self) -> float:
        """Bytes a second that stages read: raw by ingest, sealed topics by seal and by their readers."""
        by_name = {
            family.name: family.bytes_a_day / self._fleet.replication / DAY_S for family in self._families()
        }
        readers = {
            "raw": 1,
            "accepted": 1,
            "decisions": 3,
            "findings": 2,
            "prints of noise": 1,
            "checkpoints": 2,
        }
        return sum(by_name[name] * times for name, times in readers.items())

    def _full_tiles(self) -> float:
        """Objects a second that never change again: entry bundles, and tiles of all levels."""
        return self._leaves * (1 / TILE_WIDTH + 1 / (TILE_WIDTH - 1))

    def _tile_bytes_a_day(self) -> float:
        hashes = HASH_BYTES * TILE_WIDTH / (TILE_WIDTH - 1)
        return self._leaves * (self._costs.leaves.entry_bytes + hashes) * DAY_S

    def _shards(self) -> tuple[tuple[int, float], ...]:
        """How many shards there are of each kind, and leaves a second of one of them."""
        count = self._partitions
        return (
            (count, self._events / count),
            (count, self._decisions / count),
            (count, self._findings / count),
        )

    def _dirty_shards(self, interval_s: float) -> float:
        """How many shards have grown within an interval, on average, where events come independently."""
        return sum(count * -math.expm1(-leaves * interval_s) for count, leaves in self._shards())

    def _share_of_turns(self, interval_s: float) -> float:
        """In how many of the anchor's turns anything is new."""
        return -math.expm1(-self._leaves * interval_s)

    def _writes(self, interval_s: float) -> float:
        """Objects a second: full tiles once; at each publication of a shard its checkpoint, its entry bundle,
        and a partial tile of each level.
        """
        publication = 2 + _levels(self._leaves * 365 * DAY_S * SHARD_YEARS)
        turn_s = max(interval_s, self._fleet.anchor_interval_s)
        epoch_log = self._share_of_turns(turn_s) / turn_s
        return self._full_tiles() + (self._dirty_shards(interval_s) / interval_s + epoch_log) * publication

    def _price(self, interval_s: float) -> Price:
        writes = self._writes(interval_s) * MONTH_S
        return Price(interval_s, writes, writes / 1000 * self._fleet.put_price)


def _workers(cores: float, cost: StageCost) -> int:
    """How many processes of one core each do this, planned to `UTILIZATION`."""
    # One that is idle for half of what is planned is a machine too slow for any plan.
    return max(1, math.ceil(cores / max(UTILIZATION / 2, UTILIZATION - cost.idle_cores)))


def _levels(leaves: float) -> float:
    """How many levels of tiles a tree of so many leaves has, as a smooth figure: log 256 of it."""
    return max(1.0, math.log(max(1.0, leaves), TILE_WIDTH))
