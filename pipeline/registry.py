"""Follows `identity.registry` as a global table: every worker holds all of it and knows its offset.

*Fresh* means: the position equalled a high watermark that was asked for at most N seconds ago.
"""

import time

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from pipeline.kafka import CALL_TIMEOUT_S, consumer, to_record
from pipeline.settings import PipelineError, Settings
from pipeline.topics import REGISTRY
from processors.registry import Registry
from schemas.trust import TrustRoot

log = structlog.get_logger()

_PARTITION = TopicPartition(REGISTRY, 0)
RETRY_S = 0.1


class RegistryLagError(PipelineError):
    """The registry could not be read to its high watermark in time."""


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
        deadline = asked_at + timeout_s
        high = self._high_watermark(deadline)
        while self.table.offset < high:
            self._take(0.05)
            if time.monotonic() > deadline:
                raise RegistryLagError(
                    f"{REGISTRY} stands at {self.table.offset} of {high} after {timeout_s:.0f} s"
                )
        self._reached_at = asked_at

    def _high_watermark(self, deadline: float) -> int:
        while True:
            left_s = max(0.1, deadline - time.monotonic())
            try:
                offsets = self._consumer.get_watermark_offsets(_PARTITION, timeout=left_s, cached=False)
            except KafkaException:
                # A leader that moves or is just being elected answers a moment later.
                if time.monotonic() + RETRY_S > deadline:
                    raise
                time.sleep(RETRY_S)
            else:
                if offsets is not None:
                    return int(offsets[1])
                raise RegistryLagError(f"nobody says how far {REGISTRY} goes")

    def try_catch_up(self, timeout_s: float) -> bool:
        """Catch up if that is possible now; else say so in the log and keep the last known view."""
        try:
            self.catch_up(timeout_s)
        except (KafkaException, RegistryLagError) as error:
            log.warning("registry cannot be read up, judging by the last known view", error=str(error))
            return False
        return True

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
