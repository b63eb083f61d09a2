"""Notices that a topic is not the one that a worker began with: deleted, and made anew under its name.

The client library follows a name. A worker that goes on after its topic was made anew would put two
histories into one tree or table, unless the new topic happens to be shorter than its place. So Kafka's ids of
topics are asked for now and then; the answer is taken when it is there, and never waited for.
"""

import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from pipeline.kafka import CALL_TIMEOUT_S


class TopicWatch:
    """Compares the ids of topics with those that were there at the beginning."""

    def __init__(self, admin: AdminClient, every_s: float) -> None:
        self._admin, self._every_s = admin, every_s
        self.begin({})

    def begin(self, ids: Mapping[str, str]) -> None:
        """Forget what was asked; from here on these are the right ids."""
        self._ids = dict(ids)
        self._asked: dict[str, Future[Any]] = {}
        self._asked_at = time.monotonic()

    def look(self) -> dict[str, str]:
        """Return why a topic is another one, by topic and once each; asks anew when it is time."""
        found = {}
        for topic, answer in [(t, a) for t, a in self._asked.items() if a.done()]:
            del self._asked[topic]
            try:
                now = str(answer.result().topic_id)
            except KafkaException:
                continue  # asked again later; a topic that is gone cannot be read either
            if now != self._ids[topic]:
                found[topic] = f"the topic was recreated: its id is {now}, it was {self._ids[topic]}"
                del self._ids[topic]
        if not self._asked and self._ids and time.monotonic() - self._asked_at >= self._every_s:
            self._asked_at = time.monotonic()
            wanted = TopicCollection(sorted(self._ids))
            self._asked = self._admin.describe_topics(wanted, request_timeout=CALL_TIMEOUT_S)
        return found
