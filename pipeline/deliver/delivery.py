"""One alert on its way to one party: what every output says of it, and how an output says no.

A repeat carries the same id and sequence, and the same body: nothing in it is of the moment of sending.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from blake3 import blake3

from pipeline.settings import PipelineError
from processors.model import RawRecord
from schemas.errors import FormatError
from schemas.strictjson import load_object

MESSAGE_TYPE = "attestream.alert"
_ID_BYTES = 16
_SEVERITIES = {1: "informational", 2: "low", 3: "medium", 4: "high", 5: "critical", 6: "fatal"}


class DeliveryError(PipelineError):
    """The receiver did not take an alert, and may take it later."""

    def __init__(self, why: str, retry_after_s: float | None = None) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s
        """When it asked to be tried again."""


class RefusedError(PipelineError):
    """The receiver will not take this alert, however often it is sent."""


class UnreadableError(FormatError):
    """A record of a party's topic is not one that route wrote."""


@dataclass(frozen=True)
class Delivery:
    """An alert as route wrote it to a party's topic."""

    party: str
    sequence: int
    ce_id: str
    place: str
    """Where it stands in the sealed topic: `attestream prove` takes it."""
    alert: dict[str, Any] = field(repr=False)
    """The OCSF event."""
    record: RawRecord = field(repr=False)

    @cached_property
    def id(self) -> str:
        """An id without dots, as Standard Webhooks demands; it follows from the alert's own."""
        framed = f"{self.party}\n{dict(self.record.headers).get('ce_source')!r}\n{self.ce_id}"
        return f"alert_{blake3(framed.encode()).digest(_ID_BYTES).hex()}"

    @property
    def time_ms(self) -> int:
        """Broker time of the last record that the alert tells of; that of its routing where it says none."""
        found = self.alert.get("time")
        is_time = isinstance(found, int) and 0 <= found < 253_402_300_800_000
        return found if is_time else self.record.append_ms  # type: ignore[return-value]

    @property
    def severity(self) -> str:
        """OCSF's name of its severity, in lower case."""
        found = self.alert.get("severity_id")
        return _SEVERITIES.get(found, "unknown") if isinstance(found, int) else "unknown"

    @cached_property
    def document(self) -> dict[str, Any]:
        """What webhooks and SSE carry: the shape that Standard Webhooks recommends."""
        topic, partition, offset = self.place.rsplit("/", 2)
        return {
            "type": MESSAGE_TYPE,
            "timestamp": rfc3339(self.time_ms),
            "data": {
                "id": self.id,
                "party": self.party,
                "sequence": self.sequence,
                "ce_id": self.ce_id,
                "place": {"topic": topic, "partition": int(partition), "offset": int(offset)},
                "finding": self.alert,
            },
        }

    @cached_property
    def body(self) -> str:
        """The document as JSON."""
        return json.dumps(self.document, sort_keys=True, separators=(",", ":"))


def read_delivery(record: RawRecord) -> Delivery:
    """Read a record of `alerts.<party>`; raises UnreadableError."""
    headers = dict(record.headers)
    try:
        place = (headers["source"] or b"").decode()
        _, partition, offset = place.rsplit("/", 2)
        int(partition), int(offset)
        return Delivery(
            party=(headers["party"] or b"").decode(),
            sequence=int(headers["party.sequence"] or b""),
            ce_id=(headers.get("ce_id") or b"").decode(),
            place=place,
            alert=load_object(record.value or b""),
            record=record,
        )
    except (KeyError, ValueError) as error:
        where = f"{record.topic}/{record.partition}/{record.offset}"
        raise UnreadableError(f"{where} was not written by route: {error!r}") from error


def rfc3339(time_ms: int) -> str:
    """Write a moment in UTC with milliseconds."""
    seconds, milliseconds = divmod(time_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"
