"""Follows `identity.registry` as a global table: every worker holds all of it and knows its offset.

*Fresh* means: the position equalled a high watermark that was asked for at most N seconds ago.
"""

import time
from pathlib import Path

from confluent_kafka import KafkaError, TopicPartition

from pipeline.kafka import CALL_TIMEOUT_S, consumer, to_record
from pipeline.settings import PipelineError, Settings, UsageError
from pipeline.topics import REGISTRY
from processors.registry import Registry
from schemas.errors import FormatError
from schemas.trust import TrustRoot, parse_trust

_PARTITION = TopicPartition(REGISTRY, 0)


class RegistryLagError(PipelineError):
    """The registry could not be read to its high watermark in time."""


def trust_path(settings: Settings) -> Path:
    """Where this deployment's trust file is."""
    return settings.data_dir / "trust.json"


def load_trust(path: Path) -> TrustRoot:
    """Read a trust file; a missing or bad one is the user's to mend."""
    try:
        return parse_trust(path.read_bytes())
    except OSError as error:
        message = f"cannot read the trust file {path}: {error.strerror}"
        raise UsageError(message) from error
    except FormatError as error:
        message = f"{path}: {error}"
        raise UsageError(message) from error


class RegistryFollower:
    """Owns a consumer of the registry topic and the table that it fills."""

    def __init__(self, settings: Settings, trust: TrustRoot) -> None:
        self.table = Registry(trust)
        self._settings = settings
        self._consumer = consumer(
            settings, f"{trust.log_name}.registry-readers", **{"enable.partition.eof": True}
        )
        self._consumer.assign([TopicPartition(REGISTRY, 0, 0)])
        self._reached_at: float | None = None

    def poll(self) -> None:
        """Apply what has arrived, without waiting."""
        while self._take(0.0):
            continue

    def is_fresh(self) -> bool:
        """Tell whether the table was complete at a moment within the configured bound."""
        if self._reached_at is None:
            return False
        return time.monotonic() - self._reached_at <= self._settings.registry_fresh_s

    def catch_up(self, timeout_s: float = CALL_TIMEOUT_S) -> None:
        """Read to the high watermark as of now; raises RegistryLagError when that takes too long."""
        asked_at = time.monotonic()
        _low, high = self._consumer.get_watermark_offsets(_PARTITION, timeout=timeout_s, cached=False)
        deadline = asked_at + timeout_s
        while self.table.offset < high:
            self._take(0.05)
            if time.monotonic() > deadline:
                message = f"{REGISTRY} stands at {self.table.offset} of {high} after {timeout_s:.0f} s"
                raise RegistryLagError(message)
        self._reached_at = asked_at

    def close(self) -> None:
        """Release the consumer."""
        self._consumer.close()

    def _take(self, timeout_s: float) -> int:
        messages = self._consumer.consume(1000, timeout_s)
        for message in messages:
            error = message.error()
            if error is None:
                self.table.apply(to_record(message))
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the public name of the code
                self.table.offset = max(self.table.offset, message.offset() or 0)
            else:
                to_record(message)  # raises with the error's text
        return sum(1 for m in messages if m.error() is None)
