"""Notices a client that knows no broker any more, which a new client mends.

A broker that stood still for longer than its session is no member of its own cluster for a moment, and names
no broker to whoever asks where a topic is. librdkafka then lets go of every broker that it knew, those of
`bootstrap.servers` too, and asks nobody any more: for good, without an error (librdkafka issue 5301, met with
2.16.0). Its statistics tell.
"""

import threading
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, Message, Producer
from confluent_kafka.admin import AdminClient

from pipeline.settings import PipelineError

LOOK_EVERY_MS = 5000
LOOKS = 2
"""So many in a row must say so: a client that begins to look for brokers anew has none for a moment."""
_BROKERS = ('"source":"learned"', '"source":"configured"')
"""Those that can be asked; the other kinds stand for a group's coordinator and for the client itself."""


class BrokerlessClientError(PipelineError):
    """The client library has let go of all brokers, and does not look for them again."""


class _Watch:
    """What a client's statistics said last; not the client itself, which ends when nothing refers to it."""

    def __init__(self) -> None:
        self._looks = 0

    @property
    def is_brokerless(self) -> bool:
        """Tell whether no broker is left."""
        return self._looks >= LOOKS

    def look(self, statistics: str) -> None:
        """Take the statistics, in librdkafka's JSON."""
        has_brokers = any(source in statistics for source in _BROKERS)
        self._looks = 0 if has_brokers else self._looks + 1

    def check(self) -> None:
        """Raise BrokerlessClientError where no broker is left."""
        if self.is_brokerless:
            raise BrokerlessClientError("the client library has let go of all brokers")

    def config(self) -> dict[str, Any]:
        """Return the properties that make a client tell."""
        return {"statistics.interval.ms": LOOK_EVERY_MS, "stats_cb": self.look}


class WatchedConsumer(Consumer):
    """Raises BrokerlessClientError where nothing can arrive any more, after handing out what has arrived."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._watch = _Watch()
        super().__init__({**self._watch.config(), **config})

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        """Consume as `Consumer` does."""
        messages = super().consume(num_messages, timeout)
        if not messages:
            self._watch.check()
        return messages

    def poll(self, timeout: float = -1) -> Message | None:
        """Poll as `Consumer` does."""
        message = super().poll(timeout)
        if message is None:
            self._watch.check()
        return message

    def close(self) -> None:
        """Close as `Consumer` does; one that reaches nobody waits in vain for its group, and so aside."""
        if self._watch.is_brokerless:
            threading.Thread(target=super().close, name="brokerless-close", daemon=True).start()
        else:
            super().close()


class _Polled:
    """What admin client and producer have in common: a loop calls `check` now and then."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._watch = _Watch()
        super().__init__({**self._watch.config(), **config})  # type: ignore[call-arg]  # of the client

    def check(self) -> None:
        """Serve callbacks as `poll(0)` does; raises BrokerlessClientError where none will come any more."""
        self.poll(0)  # type: ignore[attr-defined]  # of the client
        self._watch.check()


class WatchedAdmin(_Polled, AdminClient):
    """An admin client: until `check` is called what its statistics tell waits."""


class WatchedProducer(_Polled, Producer):
    """A producer, whose statistics may be turned off."""
