"""What an output does with alerts: one class a kind, made by `make_sink`.

A sink takes up to `most` alerts at once and returns when the receiver has taken all of them. After a failure
it is reset: connections are made anew and secrets are read again, so that a rotated one is used.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from pipeline.deliver.alertmanager import AlertmanagerSink
from pipeline.deliver.delivery import Delivery
from pipeline.deliver.hec import HecSink
from pipeline.deliver.syslog import SyslogSink
from pipeline.deliver.webhook import WebhookSink
from schemas.partyoutputs import Output


class Sink(Protocol):
    """Sends alerts to one receiver."""

    most: int
    """Alerts in one `send`."""

    async def send(self, deliveries: Sequence[Delivery]) -> None:
        """Return when the receiver has them all; raises DeliveryError or RefusedError: it may have some."""

    async def reset(self) -> None:
        """Drop connections and what was read of secrets."""


_MAKERS: dict[str, Callable[[Output, str], Sink]] = {
    "webhook": WebhookSink,
    "hec": HecSink,
    "syslog": SyslogSink,
    "alertmanager": AlertmanagerSink,
}


def make_sink(output: Output, log_name: str) -> Sink:
    """Make the sink of an output that pushes."""
    return _MAKERS[output.kind](output, log_name)
