"""Syslog (RFC 5424) over TLS (RFC 5425): one message an alert, the OCSF event as its text.

Syslog has no acknowledgement. An alert counts as delivered when the receiver's TCP has acknowledged its bytes
(asked of the kernel, where it tells). What was sent in the `RESEND_S` before a connection broke is sent again
in the next one, because the receiver may have died with it unread; its id and sequence are the same.
"""

import asyncio
import fcntl
import json
import struct
import termios
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from pipeline.deliver.delivery import Delivery, DeliveryError, rfc3339
from pipeline.deliver.targets import CONNECT_S, TIMEOUT_S, resolve, tls_context
from processors.ocsf import reading
from schemas.partyoutputs import Output

RESEND_S = 5.0
MAX_RESENT = 1000
FACILITY = 13
"""Log audit."""
_SEVERITY = {"informational": 6, "low": 5, "medium": 4, "high": 3, "critical": 2, "fatal": 1, "unknown": 4}
_BOM = b"\xef\xbb\xbf"
_POLL_S = 0.005


def message_of(delivery: Delivery, log_name: str, sd_id: str) -> bytes:
    """Write an alert as one syslog message."""
    priority = FACILITY * 8 + _SEVERITY[delivery.severity]
    host = "".join(each if "!" <= each <= "~" else "-" for each in log_name)[:255] or "-"
    parameters = {
        "id": delivery.id,
        "party": delivery.party,
        "sequence": str(delivery.sequence),
        "place": delivery.place,
        "rule": reading.rule(delivery.alert),
    }
    told = "".join(f' {name}="{_escaped(value)}"' for name, value in parameters.items())
    head = f"<{priority}>1 {rfc3339(delivery.time_ms)} {host} attestream - alert [{sd_id}{told}] "
    text = json.dumps(delivery.alert, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return head.encode("utf-8", "replace") + _BOM + text.encode("utf-8", "replace")


def framed(message: bytes) -> bytes:
    """Frame by counting octets (RFC 5425, section 4.3)."""
    return b"%d %b" % (len(message), message)


def _escaped(value: str) -> str:
    for special in ("\\", '"', "]"):
        value = value.replace(special, "\\" + special)
    return value.replace("\n", " ")


class SyslogSink:
    """Keeps one TLS connection to the receiver."""

    most = 100

    def __init__(self, output: Output, log_name: str) -> None:
        self._output, self._log_name = output, log_name
        self._host, self._port = output.address or ("", 0)
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self._lost_at: float | None = None
        self._sent: deque[tuple[float, bytes]] = deque(maxlen=MAX_RESENT)

    async def send(self, deliveries: Sequence[Delivery]) -> None:
        """See `Sink`."""
        frames = [framed(message_of(each, self._log_name, self._output.sd_id)) for each in deliveries]
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if self._writer is None or self._lost_at is not None:
                    await self._connect()
                await self._write(frames)
        except (OSError, TimeoutError, EOFError) as error:
            self._lost_at = self._lost_at or time.monotonic()
            raise DeliveryError(f"{type(error).__name__}: {error}") from error
        now = time.monotonic()
        self._sent.extend((now, frame) for frame in frames)

    async def reset(self) -> None:
        """See `Sink`; what was sent lately is kept, to be sent again."""
        if self._listening is not None:
            self._listening.cancel()
        writer, self._writer, self._listening = self._writer, None, None
        if writer is not None:
            self._lost_at = self._lost_at or time.monotonic()
            writer.close()
            with suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), CONNECT_S)

    async def _connect(self) -> None:
        await self.reset()
        again = [frame for sent_at, frame in self._sent if sent_at > (self._lost_at or 0.0) - RESEND_S]
        places = await resolve(self._host, self._port, self._output.allow)
        context = tls_context(self._output)
        failure: OSError | None = None
        for family, address in places:
            try:
                reader, self._writer = await asyncio.open_connection(
                    address, self._port, family=family, ssl=context, server_hostname=self._host,
                    ssl_handshake_timeout=CONNECT_S,
                )  # fmt: skip
                break
            except OSError as error:
                failure = error
        else:
            raise failure or DeliveryError(f"{self._host} has no address")
        # All of it is in the kernel's hands when drain returns.
        self._writer.transport.set_write_buffer_limits(high=1, low=0)
        self._lost_at = None
        self._listening = asyncio.create_task(self._listen(reader))
        await self._write(again)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Notice the end of the connection at once: a receiver has nothing to say."""
        with suppress(OSError):
            while await reader.read(1024):
                continue
        self._lost_at = self._lost_at or time.monotonic()

    async def _write(self, frames: Sequence[bytes]) -> None:
        writer = self._writer
        if writer is None or not frames:
            return
        writer.writelines(frames)
        await writer.drain()
        while self._lost_at is None and _unacknowledged(writer):  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(_POLL_S)
        await asyncio.sleep(0)  # lets an end that has come be heard
        if self._lost_at is not None:
            raise EOFError("the receiver closed the connection")


def _unacknowledged(writer: asyncio.StreamWriter) -> int:
    """Count bytes that the receiver's TCP has not acknowledged; 0 where the kernel does not tell."""
    connection = writer.get_extra_info("socket")
    if connection is None:
        raise EOFError("the connection is closed")
    try:
        answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except OSError:
        return 0
    return int(struct.unpack("i", answer)[0])
