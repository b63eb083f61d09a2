"""The topics: one table of what exists, how it is kept, and what is sealed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from pipeline.settings import PipelineError, Settings
from schemas.envelope import PayloadKind

TELEMETRY_RAW = "device.telemetry.raw"
ACCESS_RAW = "device.access.raw"
LIFECYCLE_RAW = "device.lifecycle.raw"
RAW_TOPICS = {
    TELEMETRY_RAW: PayloadKind.TELEMETRY,
    ACCESS_RAW: PayloadKind.ACCESS,
    LIFECYCLE_RAW: PayloadKind.LIFECYCLE,
}
RAW_TOPIC_OF = {kind: topic for topic, kind in RAW_TOPICS.items()}

EVENTS = "device.events"
REJECTED = "device.rejected"
FINDINGS = "device.findings"
DECISIONS = "access.decisions"
PRINTS = "device.prints"
"""How changes of readings went: derived, of ingest for profile, and not sealed."""
REGISTRY = "identity.registry"
POLICIES = "access.policies"
FOLLOWED = (REGISTRY, POLICIES)
"""Every ingest worker holds all of these as tables."""
INTEGRITY = "integrity.findings"
ALERTS = "alerts"
CONTROLS = "alerts.control"
"""What authorities say about alerts: silences, acknowledgements, resolutions."""
CHECKPOINTS = "log.checkpoints"
ANCHORS = "log.anchors"
SEALED_TOPICS = (
    EVENTS,
    REJECTED,
    DECISIONS,
    FINDINGS,
    REGISTRY,
    POLICIES,
    INTEGRITY,
    ALERTS,
    CONTROLS,
    CHECKPOINTS,
)

_WEEK_MS = str(7 * 86400 * 1000)
_THREE_DAYS_MS = str(3 * 86400 * 1000)
_FOREVER = "-1"
_APPEND_TIME = {"message.timestamp.type": "LogAppendTime", "cleanup.policy": "delete"}

_MIN_IN_SYNC = "min.insync.replicas"
IN_SYNC = 2
"""Of three or more replicas so many must have a record before it is acknowledged: with one, what was
acknowledged can be lost with a single broker; with all, a single broker that is away stops every write."""


def changelog_of(source: str) -> str:
    """Name the compacted changelog that restores a stage's state for a source topic."""
    return f"{source}.changelog"


def stage_of(source: str) -> str:
    """Name the stage that keeps state of a source topic, and commits it with its offsets."""
    return {ALERTS: "route", DECISIONS: "profile", PRINTS: "profile"}.get(source, "ingest")


class TopicMismatchError(PipelineError):
    """A topic exists with a shape that breaks an invariant."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic: partitioned by device or single, and its broker settings."""

    name: str
    by_device: bool = True
    config: dict[str, str] = field(default_factory=dict)

    def partitions(self, settings: Settings) -> int:
        """Count partitions under these settings."""
        return settings.partitions if self.by_device else 1

    def config_with(self, replicas: int) -> dict[str, str]:
        """Return the broker settings for so many replicas."""
        return {**self.config, **({_MIN_IN_SYNC: str(IN_SYNC)} if replicas > IN_SYNC else {})}


def _sealed(name: str, *, by_device: bool, retention_ms: str) -> TopicSpec:
    return TopicSpec(name, by_device=by_device, config={**_APPEND_TIME, "retention.ms": retention_ms})


TOPICS = (
    # Patient-bearing values have finite retention; their leaves stay in the published tiles.
    *(TopicSpec(name, config={**_APPEND_TIME, "retention.ms": _WEEK_MS}) for name in RAW_TOPICS),
    _sealed(EVENTS, by_device=True, retention_ms=str(90 * 86400 * 1000)),
    _sealed(REJECTED, by_device=True, retention_ms=str(90 * 86400 * 1000)),
    _sealed(FINDINGS, by_device=True, retention_ms=_FOREVER),
    _sealed(DECISIONS, by_device=True, retention_ms=_FOREVER),
    _sealed(REGISTRY, by_device=False, retention_ms=_FOREVER),
    _sealed(POLICIES, by_device=False, retention_ms=_FOREVER),
    _sealed(INTEGRITY, by_device=False, retention_ms=_FOREVER),
    _sealed(ALERTS, by_device=False, retention_ms=_FOREVER),
    _sealed(CONTROLS, by_device=False, retention_ms=_FOREVER),
    # A checkpoint is a leaf as it is, and the entry of a tile holds at most 65,535 bytes.
    TopicSpec(
        CHECKPOINTS,
        by_device=False,
        config={**_APPEND_TIME, "retention.ms": _FOREVER, "max.message.bytes": "60000"},
    ),
    # One partition: any two devices must meet, and a pair's meetings come together.
    TopicSpec(PRINTS, by_device=False, config={**_APPEND_TIME, "retention.ms": _THREE_DAYS_MS}),
    TopicSpec(ANCHORS, by_device=False, config={**_APPEND_TIME, "retention.ms": _FOREVER}),
    *(
        TopicSpec(
            changelog_of(name),
            by_device=name != PRINTS,
            config={"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.3"},
        )
        for name in (*RAW_TOPICS, DECISIONS, PRINTS)
    ),
)


def apply(admin: AdminClient, settings: Settings, specs: Sequence[TopicSpec] = TOPICS) -> list[str]:
    """Create what is missing of `specs` and check what exists; return the names created.

    Raises TopicMismatchError where a topic has another partition count: growth would move devices
    between partitions and is refused.
    """
    existing = admin.list_topics(timeout=30).topics
    problems = check(admin, settings, specs, must_exist=False)
    if problems:
        raise TopicMismatchError("; ".join(problems))
    missing = [spec for spec in specs if spec.name not in existing]
    if not missing:
        return []
    futures = admin.create_topics(
        [
            NewTopic(
                spec.name,
                num_partitions=spec.partitions(settings),
                replication_factor=settings.replication_factor,
                config=spec.config_with(settings.replication_factor),
            )
            for spec in missing
        ],
        operation_timeout=30,
    )
    for future in futures.values():
        try:
            future.result(timeout=60)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # else another process was faster
                raise
    return [spec.name for spec in missing]


def check(
    admin: AdminClient, settings: Settings, specs: Sequence[TopicSpec] = TOPICS, *, must_exist: bool = True
) -> list[str]:
    """List every way in which the cluster's topics differ from `specs`; empty when all is well."""
    existing = admin.list_topics(timeout=30).topics
    problems = []
    present = []
    for spec in specs:
        if spec.name not in existing:
            if must_exist:
                problems.append(f"topic {spec.name} does not exist")
            continue
        present.append(spec)
        count, wanted = len(existing[spec.name].partitions), spec.partitions(settings)
        if count != wanted:
            problems.append(f"topic {spec.name} has {count} partitions, the table says {wanted}")
    resources = {ConfigResource(ResourceType.TOPIC, spec.name): spec for spec in present}
    if not resources:
        return problems
    for resource, future in admin.describe_configs(list(resources)).items():
        spec, found = resources[resource], future.result(timeout=30)
        problems.extend(
            f"topic {spec.name} has {key}={found[key].value}, needs {spec.config[key]}"
            for key in ("message.timestamp.type", "cleanup.policy")
            if key in spec.config and found[key].value != spec.config[key]
        )
        replicas = min(len(p.replicas) for p in existing[spec.name].partitions.values())
        in_sync = int(found[_MIN_IN_SYNC].value)
        if replicas > IN_SYNC and not IN_SYNC <= in_sync < replicas:
            problems.append(
                f"topic {spec.name} has {_MIN_IN_SYNC}={in_sync}, needs {IN_SYNC} for its {replicas} replicas"
            )
    return problems
