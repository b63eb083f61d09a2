"""Prometheus Alertmanager, API v2: a finding is one alert there, from its Create to its Close.

Labels make an alert's identity, so they hold only what all messages of a finding share. An alert that nobody
closes (a rejection has no end) resolves there `HOLD_S` after its last message.
"""

import json
import time
from collections.abc import Sequence
from typing import Any

from pipeline.deliver.delivery import Delivery, rfc3339
from pipeline.deliver.targets import HttpTarget
from pipeline.parties import secret_of
from processors.ocsf import Activity, reading
from schemas.partyoutputs import Output

ALERTS_PATH = "/api/v2/alerts"
HOLD_S = 4 * 3600


class AlertmanagerSink:
    """Posts batches of alerts."""

    most = 50

    def __init__(self, output: Output, log_name: str) -> None:
        self._output, self._log_name, self._target = output, log_name, HttpTarget(output)
        self._url = output.url.rstrip("/") + ALERTS_PATH

    async def send(self, deliveries: Sequence[Delivery]) -> None:
        """See `Sink`."""
        headers = {"Content-Type": "application/json"}
        if self._output.secret is not None:
            headers["Authorization"] = f"Bearer {secret_of(self._output.secret)}"
        # Of one finding the last message counts: in one request they would be put in any order.
        newest = {reading.cause(each.alert) or each.id: each for each in deliveries}
        body = json.dumps([self._alert(each) for each in newest.values()])
        await self._target.post(self._url, body.encode(), headers)

    async def reset(self) -> None:
        """See `Sink`."""
        await self._target.reset()

    def _alert(self, delivery: Delivery) -> dict[str, Any]:
        start_ms = delivery.alert.get("start_time")
        starts = min(start_ms, delivery.time_ms) if isinstance(start_ms, int) else delivery.time_ms
        is_closed = reading.activity(delivery.alert) is Activity.CLOSE
        ends = max(delivery.time_ms, starts + 1) if is_closed else round((time.time() + HOLD_S) * 1000)
        labels = {
            "alertname": reading.rule(delivery.alert) or "attestream",
            "severity": delivery.severity,
            "finding": reading.cause(delivery.alert) or delivery.id,
            "device": reading.text(delivery.alert, "device", "uid"),
            "log": self._log_name,
        }
        annotations = {
            "summary": reading.title(delivery.alert),
            "description": reading.text(delivery.alert, "message"),
            "id": delivery.id,
            "sequence": str(delivery.sequence),
            "place": delivery.place,
        }
        return {
            "labels": {name: value for name, value in labels.items() if value},
            "annotations": annotations,
            "startsAt": rfc3339(max(0, starts)),
            "endsAt": rfc3339(ends),
        }
