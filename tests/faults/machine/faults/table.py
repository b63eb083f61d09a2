"""One table of all kinds of fault, with how often each is drawn and whether the world survives it."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.faults.machine.faults import (
    broker,
    overtaken,
    processes,
    registry,
    state,
    storage,
    topics,
    zombies,
)
from tests.faults.machine.world import World

Inject = Callable[[World, Random], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault; `inject` returns when the fault has struck, and `World.heal` takes it back."""

    inject: Inject
    weight: float = 1.0
    ends_world: bool = False
    """A shard or a stage legally stops for good: nothing else follows in this world."""


FAULTS: dict[str, Fault] = {
    "kill_ingest": Fault(processes.kill_ingest, 2.0),
    "kill_seal": Fault(processes.kill_seal, 2.0),
    "kill_everything": Fault(processes.kill_everything),
    "kill_ingest_at": Fault(processes.kill_ingest_at, 3.0),
    "kill_seal_at": Fault(processes.kill_seal_at, 3.0),
    "fail_ingest_at": Fault(processes.fail_ingest_at),
    "pause_ingest": Fault(processes.pause_ingest),
    "pause_seal": Fault(processes.pause_seal),
    "rebalance_ingest": Fault(processes.rebalance_ingest, 2.0),
    "rebalance_seal": Fault(processes.rebalance_seal, 2.0),
    "drain": Fault(processes.drain),
    "clock_step": Fault(processes.clock_step),
    "zombie_ingest": Fault(zombies.zombie_ingest),
    "zombie_ingest_transaction": Fault(zombies.zombie_ingest_transaction, 1.5),
    "zombie_ingest_tick": Fault(zombies.zombie_ingest_tick),
    "zombie_ingest_overtaken": Fault(overtaken.zombie_ingest_overtaken),
    "zombie_ingest_holds_back": Fault(overtaken.zombie_ingest_holds_back),
    "zombie_seal_overtaken": Fault(overtaken.zombie_seal_overtaken),
    "zombie_seal": Fault(zombies.zombie_seal),
    "zombie_seal_at": Fault(zombies.zombie_seal_at),
    "pause_broker": Fault(broker.pause_broker),
    "pause_broker_past_timeouts": Fault(broker.pause_broker_past_timeouts, 0.7),
    "kill_broker": Fault(broker.kill_broker),
    "commit_in_doubt": Fault(broker.commit_in_doubt),
    "lose_rocksdb": Fault(state.lose_rocksdb, 1.5),
    "roll_back_rocksdb": Fault(state.roll_back_rocksdb),
    "corrupt_rocksdb": Fault(state.corrupt_rocksdb),
    "registry_grows": Fault(registry.registry_grows),
    "registry_lags": Fault(registry.registry_lags),
    "registry_stops": Fault(registry.registry_stops),
    "trim_sealed": Fault(topics.trim_sealed),
    "trim_unsealed": Fault(topics.trim_unsealed, 0.5, ends_world=True),
    "recreate_topic": Fault(topics.recreate_topic, 0.5, ends_world=True),
    "trim_raw": Fault(topics.trim_raw),
    "recreate_changelog": Fault(topics.recreate_changelog, 0.5),
    **{
        # What the small disk of a broker was made for is done: there its log would fill it for good.
        kind: Fault(inject, weight, ends_world=kind == "full_disk_under_broker")
        for kind, (inject, weight) in storage.STORAGE_FAULTS.items()
        if kind != "full_disk_under_broker" or storage.can_mount()
    },
}
