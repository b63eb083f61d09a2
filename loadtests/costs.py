"""What a run of the stack has cost, measured: the constants of the cost model, read from one committed file.

`attestream loadtest costs` writes such a file; `loadtests/sizing.py` reckons with it.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loadtests.errors import LoadTestError
from schemas.strictjson import load_object

FORMAT = "attestream costs 1"
SHIPPED = Path(__file__).with_name("data") / "costs.json"
"""The figures that come with the package."""
MAX_BYTES = 1 << 20

Figure = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=500)]


class CostsError(LoadTestError):
    """A file holds no measured costs."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Origin(_Part):
    """When, where and how the figures came about."""

    date: Text
    command: Text
    cpu: Text
    cores: int = Field(ge=1)
    python: Text
    load_before: Figure
    """Processes that wanted to run when it began: above zero others were at work, too."""
    loop_ns: Figure
    """CPU time of a step of a plain loop beside it, to compare machines and days by."""


class Mix(_Part):
    """What was sent."""

    devices: int = Field(ge=1)
    rate: Figure
    """Events a second, all together."""
    seconds: Figure
    event_bytes: Figure
    """Of an envelope, on average."""
    access_share: Figure
    lifecycle_share: Figure
    partitions: int = Field(ge=1)


class StageCost(_Part):
    """One process: what it takes for nothing, and what each event or leaf adds."""

    idle_cores: Figure
    cpu_us: Figure


class Stages(_Part):
    """CPU time by stage. That of seal is for a leaf, all others' for an event of the whole fleet."""

    ingest_wheel: StageCost
    ingest_crate: StageCost | None
    """None: the crate was not installed."""
    seal: StageCost
    profile: StageCost
    correlate: StageCost
    anchor: StageCost
    broker: StageCost


class KafkaCost(_Part):
    """Bytes in the logs of one replica, as they also go over the wire."""

    raw_overhead: Figure
    """Of a record in a raw topic, beside the envelope."""
    events_overhead: Figure
    """Of a record in `device.events`, beside the envelope."""
    decision: Figure
    """Of an access event, in `access.decisions`."""
    findings: Figure
    """Of an event, in `device.findings`, averaged over a fleet without faults."""
    prints: Figure
    """Of an event, in `device.prints`."""
    changelog: Figure
    """Of an event, in the changelogs, as written."""
    changelog_kept: Figure
    """Of a device, in the changelogs after compaction."""
    checkpoint: Figure
    """Of a shard's checkpoint in `log.checkpoints`."""


class Leaves(_Part):
    """What is sealed, and how large."""

    decisions_per_access: Figure
    findings_per_event: Figure
    entry_bytes: Figure
    """Of a leaf in its entry bundle."""


class Memory(_Part):
    """Resident memory."""

    ingest_base_mib: Figure
    registry_bytes: Figure
    """Of a registered device, in every worker of ingest."""
    state_bytes: Figure
    """Of a device whose state a worker has in memory."""
    others_mib: Figure
    """Of seal, profile, correlate and anchor together."""
    broker_mib: Figure


class Costs(_Part):
    """All figures of one measurement."""

    format: Literal["attestream costs 1"]
    origin: Origin
    mix: Mix
    stages: Stages
    kafka: KafkaCost
    leaves: Leaves
    memory: Memory
    rocksdb_bytes: Figure
    """Of a device's state in the worker's working copy, key included."""


def read_costs(path: Path = SHIPPED) -> Costs:
    """Read measured costs; raises CostsError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise CostsError(f"{path} is longer than any file of costs")
        return Costs.model_validate(load_object(data))
    except OSError as error:
        raise CostsError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CostsError(f"{path} holds no measured costs: {where}: {first['msg']}") from error
    except ValueError as error:
        raise CostsError(f"{path} is not JSON: {error}") from error


def write_costs(path: Path, costs: Costs) -> None:
    """Write them for people and programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(costs.model_dump_json(indent=1) + "\n", encoding="utf-8")
