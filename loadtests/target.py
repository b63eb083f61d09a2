"""What is measured, and with which load."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loadtests.processes import Pids, Ports


@dataclass(frozen=True, slots=True)
class Target:
    """What is measured: names of topics, the group, where logs are published, its processes."""

    properties: Mapping[str, Any]
    """Kafka client settings, with bootstrap.servers."""
    raw: Mapping[str, str]
    """Raw topics by kind of event."""
    events: str
    rejected: str
    checkpoints: str
    anchors: str
    alerts: str
    partitions: int
    group: str
    log_name: str
    log: str
    """Folder of the published logs; empty where they are elsewhere."""
    pids: Pids
    ports: Ports
    absent: Mapping[str, str] = field(default_factory=dict)
    """Legs that cannot be measured, and why."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to send."""

    rate: float
    """Records a second; 0: as fast as it goes."""
    first: int = 0
    count: int = 2**62
    seconds: float = 0.0
    warmup: int = 0
    producer: Mapping[str, str] = field(default_factory=dict)
    drain_s: float = 60.0
    anchored: bool = True
    """Wait until all is anchored."""
    most_lag: int = 2**62
    """Send no more once so many raw records wait: the rate is not sustained, and more would only wait too."""
