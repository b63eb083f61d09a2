"""What correlate knows besides what it reads: where devices are, what people said, and what was told."""

from collections.abc import Callable
from dataclasses import replace

from confluent_kafka import KafkaException

from pipeline.controls import ControlFollower
from pipeline.kafkaread import read_all
from pipeline.registry import RegistryFollower
from pipeline.settings import Settings
from pipeline.topics import ALERTS
from pipeline.trust import load_trust, trust_path
from processors.correlate.controls import ControlTable
from processors.correlate.restoring import Restored
from processors.notices import Notice

TAIL = 20_000
"""So many of the newest alerts are read at a start: far more than are told before an acknowledgement."""


def read_told(settings: Settings) -> Restored:
    """Read the newest alerts; raises KafkaReadError or KafkaException."""
    return Restored(record.value or b"" for record in read_all(settings, ALERTS, newest=TAIL))


class Tables:
    """The registry and the controls, followed; poll them from one thread only."""

    def __init__(self, settings: Settings) -> None:
        trust = load_trust(trust_path(settings))
        self._settings = settings
        self._registry, self._controls = RegistryFollower(settings, trust), ControlFollower(settings, trust)

    @property
    def controls(self) -> ControlTable:
        """What people said, as of the last poll."""
        return self._controls.table

    def catch_up(self, on_progress: Callable[[str], None]) -> None:
        """Read both to their ends as of now; raises as `TableFollower.catch_up` does."""
        self._registry.catch_up(on_progress)
        self._controls.catch_up(on_progress)

    def poll(self) -> None:
        """Take what has arrived; while Kafka does not answer the last known view holds."""
        for follower in (self._registry, self._controls):
            try:
                follower.poll()
            except KafkaException:
                follower.try_catch_up(0.0)  # counts it, and says so once

    def placed(self, notice: Notice) -> Notice:
        """Add the ward of a notice's device, as far as the registry knows it."""
        subject = self._registry.table.subject(notice.device_id) if notice.device_id else None
        ward = subject.attributes.get("ward", "") if subject is not None else ""
        return replace(notice, ward=ward) if ward else notice

    def told(self) -> Restored:
        """Read the newest alerts; raises as `read_told` does."""
        return read_told(self._settings)

    def close(self) -> None:
        """Release the clients."""
        self._registry.close()
        self._controls.close()
