"""Splunk's HTTP Event Collector: alerts as events, many in one request.

What HEC answers means that the event was accepted, not that it was indexed: its acknowledgements by channel
are not asked for. Where an indexer may lose what it accepted, the sequence shows it.
"""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from pipeline.deliver.delivery import Delivery, DeliveryError
from pipeline.deliver.targets import HttpTarget
from pipeline.parties import secret_of
from schemas.partyoutputs import Output, SecretRef

EVENT_PATH = "/services/collector/event"
SOURCE_TYPE = "attestream:alert"


class HecSink:
    """Posts batches of events with the collector's token."""

    most = 100

    def __init__(self, output: Output, log_name: str) -> None:
        self._output, self._log_name, self._target = output, log_name, HttpTarget(output)
        has_path = urlsplit(output.url).path.strip("/")
        self._url = output.url if has_path else output.url.rstrip("/") + EVENT_PATH

    async def send(self, deliveries: Sequence[Delivery]) -> None:
        """See `Sink`."""
        body = "\n".join(json.dumps(self._event(each), sort_keys=True) for each in deliveries)
        token = secret_of(self._output.secret or SecretRef())
        headers = {"Authorization": f"Splunk {token}", "Content-Type": "application/json"}
        answer = await self._target.post(self._url, body.encode(), headers)
        try:
            code = json.loads(answer).get("code")
        except (ValueError, AttributeError):
            code = None
        if code != 0:
            raise DeliveryError(f"the collector did not answer with code 0: {answer[:120]!r}")

    async def reset(self) -> None:
        """See `Sink`."""
        await self._target.reset()

    def _event(self, delivery: Delivery) -> dict[str, Any]:
        event = {
            "time": delivery.time_ms / 1000,
            "host": self._log_name,
            "source": "attestream",
            "sourcetype": SOURCE_TYPE,
            "event": delivery.document["data"],
            "fields": {
                "party": delivery.party,
                "sequence": str(delivery.sequence),
                "id": delivery.id,
                "place": delivery.place,
                "severity": delivery.severity,
            },
        }
        return {**event, "index": self._output.index} if self._output.index else event
