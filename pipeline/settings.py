"""Settings of every process: environment `ATTESTREAM_*`, then options of the command line.

Kafka client settings pass through, weakest first: `KAFKA_*` variables (KAFKA_SECURITY_PROTOCOL becomes
security.protocol), a `--command-config` properties file, `-X key=value`.
"""

import json
import os
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path, user_state_path
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Everything that an operator can set, with units in the names."""

    model_config = SettingsConfigDict(env_prefix="ATTESTREAM_", extra="forbid")

    data_dir: Path = Field(default_factory=lambda: user_state_path("attestream"))
    """State, keys, published logs, and the local stack's files."""
    cache_dir: Path = Field(default_factory=lambda: user_cache_path("attestream"))
    """What can be downloaded or made again: Kafka's jars and its start-up cache."""
    log_name: str = "attestream.local"
    """Name of the log: origin of its checkpoints and audience of every signature."""
    bootstrap_servers: str = ""
    """Kafka; empty means the local stack of data_dir."""
    partitions: int = 8
    """Of every topic keyed by device; fixed when the topics are created."""
    replication_factor: int = 1
    local_kafka_for_long: bool = False
    """Let the local broker's JVM compile what runs for minutes anew and better. It then takes a third less
    CPU time, and more than that in its first minute."""

    batch_records: int = 10_000
    """Most records in one transaction, where a worker has fallen behind; fewer where they take a second."""
    cached_devices: int = 100_000
    """States that a worker of ingest keeps in memory, some 7 KB a device; others are read from disk."""
    session_timeout_s: float = 10.0
    """A worker that the group has not heard of for so long loses its partitions."""
    transaction_timeout_s: float = 10.0
    """The broker aborts a transaction left open so long: what a killed worker blocks at most."""
    tick_interval_s: float = 0.5
    """How often time alone (silence, the registry's freshness) is looked at."""
    topic_check_s: float = 60.0
    """How often a worker looks whether its topics were deleted and made anew."""
    registry_fresh_s: float = 5.0
    """The registry view is stale when its high watermark was not reached for so long."""
    silence_after_s: float = 30.0
    """A device that reported is silent after so long without a telemetry event."""
    max_ahead_s: float = 300.0
    """How far a device's clock may be ahead of the broker's."""
    max_behind_s: float = 30 * 86400.0
    """How old a device's time may be on arrival: buffered events are welcome."""

    checkpoint_interval_s: float = 1.0
    """A shard's checkpoint is signed at most so often, and only on change."""
    partial_tile_grace_s: float = 600.0
    """Partial tiles are kept so long after the full tile is published."""
    anchor_interval_s: float = 10.0
    """How often changed shards go into the epoch log and its root to the ledger."""

    same_noise: bool = True
    """Look for devices that report the same noise. False where devices replay one record on purpose, as a
    simulated fleet does."""

    monitor_log: str = ""
    """Folder or http(s) address of the published logs that the monitor follows; empty: those of data_dir."""
    monitor_interval_s: float = 0.5
    """How often it looks at every checkpoint."""
    monitor_recheck_s: float = 3.0
    """How often the newest entries, tiles and records are read once more."""
    monitor_patience_s: float = 7.0
    """What should be there (a leaf, a tile, a published tree) is missed after so long."""
    monitor_outage_s: float = 60.0
    """A log of which no shard grows is told after so long: its sealer is away."""
    monitor_scrub_s: float = 86400.0
    """Every old entry, tile and record is read again within so long."""
    monitor_scrub_leaves_per_s: float = 20000.0
    """Never faster than this, even where that pass then takes longer."""

    group_wait_s: float = 0.1
    """So long a new group of findings waits for more before it becomes an alert."""
    group_interval_s: float = 10.0
    """So long it waits before what was added to it is told."""
    repeat_interval_s: float = 14400.0
    """What lasts and nobody has acknowledged is told again after so long."""
    resolve_after_s: float = 300.0
    """An alert of something that does not last is over when nothing was heard of it for so long."""
    incident_devices: int = Field(default=5, ge=2)
    """From so many devices of one ward, or against which one person turns, alerts are one incident."""

    deliver_give_up_s: float = 86400.0
    """An alert that an output could not deliver within so long of its routing is kept apart."""

    witness_policy: Path | None = None
    """C2SP tlog-policy: who cosigns the epoch log, and how many are enough; None: the trust file's."""
    witness_deadline_s: float = 5.0
    """How long an anchor waits for the quorum."""
    witness_required: bool = False
    """What then: True, no anchor without a quorum; False, anchor, and tell that it was missed."""

    ledger_nodes: dict[str, str] = Field(default_factory=dict)
    """Hedera nodes as {account: host:port}; empty means the local stack's service."""
    ledger_mirror_url: str = ""
    ledger_operator: str = "0.0.2"
    ledger_topic: str = ""
    """HCS topic id; empty: the anchor stage creates one and remembers it."""
    ledger_call_timeout_s: float = 5.0
    """Bound of one call to one node, and of one request to the mirror."""
    ledger_valid_s: int = Field(default=120, ge=1, le=180)
    """How long a signed anchor may be submitted; networks take no less than 15."""
    ledger_resubmit_s: float = 15.0
    """An anchor that a node took and no mirror shows after so long is submitted again, the same bytes."""

    kafka: dict[str, str] = Field(default_factory=dict)
    """Further Kafka client properties, in librdkafka's names."""

    def stack_file(self) -> dict[str, Any]:
        """Read what the local stack wrote about itself; empty where none ran here."""
        path = self.data_dir / "stack.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def bootstrap(self) -> str:
        """Where Kafka is; raises UsageError with the way out when nobody said."""
        servers = self.bootstrap_servers or str(self.stack_file().get("bootstrap_servers", ""))
        if not servers:
            message = (
                f"no Kafka known for {self.data_dir}: start the local one with `attestream up`, "
                "or name yours with --bootstrap-servers"
            )
            raise UsageError(message)
        return servers

    def kafka_properties(self) -> dict[str, str]:
        """Merge pass-through properties: KAFKA_* variables, then files and -X."""
        from_env = {
            name[len("KAFKA_") :].lower().replace("_", "."): value
            for name, value in os.environ.items()
            if name.startswith("KAFKA_") and name not in _NOT_CLIENT_SETTINGS
        }
        return {**from_env, **self.kafka}


_NOT_CLIENT_SETTINGS = frozenset(
    {"KAFKA_HOME", "KAFKA_OPTS", "KAFKA_HEAP_OPTS", "KAFKA_JVM_PERFORMANCE_OPTS"}
)


class PipelineError(Exception):
    """The exception family of `pipeline`."""


class UsageError(PipelineError):
    """The user can mend it; printed as one line, without a traceback."""


def read_properties(path: Path) -> dict[str, str]:
    """Read a Java-style properties file as Kafka's own tools take with --command-config."""
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith(("#", "!")):
            continue
        key, separator, value = text.partition("=")
        if not separator:
            message = f"{path} line {number}: expected key=value"
            raise UsageError(message)
        found[key.strip()] = value.strip()
    return found


def parse_assignments(pairs: list[str]) -> dict[str, str]:
    """Read `-X key=value` options."""
    found = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            message = f"-X {pair}: expected key=value"
            raise UsageError(message)
        found[key] = value
    return found
