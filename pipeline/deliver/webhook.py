"""Standard Webhooks (https://www.standardwebhooks.com): one signed POST an alert.

`webhook-id` is the alert's for the party, the same in every attempt; `webhook-timestamp` is the attempt's, as
the specification demands, so that a receiver can turn old requests away.
"""

import binascii
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks.webhooks import Webhook

from pipeline.deliver.delivery import Delivery, DeliveryError
from pipeline.deliver.targets import HttpTarget
from pipeline.parties import secret_of
from schemas.partyoutputs import Output, SecretRef

MIN_SECRET_BYTES = 24
"""The specification asks for 24 to 64."""


class WebhookSink:
    """Posts to an endpoint that verifies with the shared secret."""

    most = 1

    def __init__(self, output: Output, _log_name: str) -> None:
        self._output, self._target = output, HttpTarget(output)
        self._webhook: Webhook | None = None

    async def send(self, deliveries: Sequence[Delivery]) -> None:
        """See `Sink`."""
        for each in deliveries:
            now = datetime.now(UTC)
            headers = {
                "Content-Type": "application/json",
                "webhook-id": each.id,
                "webhook-timestamp": str(int(now.timestamp())),
                "webhook-signature": self._signer().sign(msg_id=each.id, timestamp=now, data=each.body),
                "attestream-party": each.party,
                "attestream-sequence": str(each.sequence),
            }
            await self._target.post(self._output.url, each.body.encode(), headers)

    async def reset(self) -> None:
        """See `Sink`."""
        self._webhook = None
        await self._target.reset()

    def _signer(self) -> Webhook:
        if self._webhook is None:
            reference = self._output.secret or SecretRef()
            secret = secret_of(reference)
            try:
                key = binascii.a2b_base64(secret.removeprefix("whsec_"), strict_mode=True)
            except binascii.Error:
                key = b""
            if len(key) < MIN_SECRET_BYTES:
                what = f"whsec_ and the base64 of {MIN_SECRET_BYTES} or more bytes"
                raise DeliveryError(f"the secret in {reference} is not {what}")
            self._webhook = Webhook(secret)
        return self._webhook
