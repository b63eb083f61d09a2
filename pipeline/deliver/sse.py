"""Server-sent events (WHATWG HTML, section 9.2): subscribers come to us, and say what they had last.

`GET /alerts`; the id of an event is the party's sequence. A browser's EventSource, or any client, sends the
last one that it had as `Last-Event-ID` when it comes back, and goes on behind it. `?from=N` asks for a number
by hand. Who says nothing goes on behind the last alert that anybody was sent here, which is kept as the
offset of the output's consumer group. Each connection reads for itself, so a slow one holds up nobody.

An event `gap` names numbers that are no longer kept, which only retention can cause.
"""

import asyncio
import hmac
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import structlog
from aiohttp import web
from confluent_kafka import KafkaException

from pipeline import metrics
from pipeline.deliver.delivery import UnreadableError, read_delivery
from pipeline.deliver.worker import SESSION_PAUSE_S, Shared, group_name
from pipeline.membership import group_of
from pipeline.parties import secret_of
from pipeline.partyread import PartyReader, sequence_of
from pipeline.patience import Trouble
from pipeline.settings import PipelineError
from processors.model import RawRecord
from schemas.partyoutputs import Output, is_loopback

log = structlog.get_logger()

R = TypeVar("R")

MAX_CLIENTS = 32
BATCH = 100
WAIT_S = 0.1
ALIVE_EVERY_S = 10.0
WRITE_TIMEOUT_S = 30.0
"""A client that takes nothing for so long is cut off; it comes back with its last id."""
COMMIT_EVERY_S = 0.5
MAX_DIGITS = 18


class SseServer:
    """Serves one party's alerts at one address until it is cancelled."""

    def __init__(self, shared: Shared, party: str, output: Output) -> None:
        self._shared, self.party, self._output = shared, party, output
        self.output = output.name
        self._labels = (party, output.name)
        self._group = group_of(shared.settings, group_name(party, output.name))
        self.trouble = Trouble()
        self.delivered = 0
        self.port = 0
        """Where it listens, once it does."""
        self._threads = ThreadPoolExecutor(MAX_CLIENTS + 1, f"sse-{party}")
        self._clients = 0
        self._position = 0
        self._secret = ""

    async def run(self) -> None:
        """Listen, and begin anew after a failure."""
        try:
            while True:
                try:
                    await self._serve()
                except (KafkaException, PipelineError, OSError) as error:
                    log.warning(
                        "an SSE output begins anew", party=self.party, output=self.output, error=str(error)
                    )
                    self.trouble.add(str(error))
                    metrics.DELIVERY_FAILING.labels(*self._labels).set(1)
                    await asyncio.sleep(SESSION_PAUSE_S)
        finally:
            self._threads.shutdown(wait=False)

    async def _serve(self) -> None:
        self._secret = secret_of(self._output.secret) if self._output.secret else ""
        host, port = self._output.listen or ("127.0.0.1", 0)
        app = web.Application()
        app.router.add_get("/alerts", self._alerts)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handler_cancellation=True)
        await runner.setup()
        try:
            # A port that is taken is another slot at work: it is tried again.
            await web.TCPSite(runner, host, port, ssl_context=self._tls()).start()
            self.port = runner.addresses[0][1]
            self.trouble.clear()
            metrics.DELIVERY_FAILING.labels(*self._labels).set(0)
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    def _tls(self) -> ssl.SSLContext | None:
        if not self._output.certificate:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._output.certificate, self._output.key)
        return context

    # ---- one subscriber --------------------------------------------------------------------------------

    async def _alerts(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        after = _asked_for(request)
        if self._clients >= MAX_CLIENTS:
            raise web.HTTPServiceUnavailable(headers={"Retry-After": "5"}, text="too many subscribers\n")
        self._clients += 1
        reader: PartyReader | None = None
        response: web.StreamResponse | None = None
        try:
            reader = await self._call(PartyReader, self._shared.settings, self.party, self._group)
            start = await self._call(self._start_of, reader, after)
            await self._call(reader.start_at, start)
            response = web.StreamResponse(
                headers={
                    "Content-Type": "text/event-stream",
                    "Cache-Control": "no-store",
                    "X-Accel-Buffering": "no",
                }
            )
            await response.prepare(request)
            await response.write(b"retry: 1000\n\n")
            with suppress(ConnectionError, TimeoutError):
                await self._stream(response, reader, after)
        except (KafkaException, PipelineError) as error:
            if response is None or not response.prepared:
                raise web.HTTPServiceUnavailable(text="Kafka does not answer\n") from error
            # A status cannot be said any more. An end can: the client comes back with its last id. Without
            # one it would wait for ever at a connection on which nothing comes.
            log.warning("a stream of events ends", party=self.party, output=self.output, error=str(error))
            return response
        else:
            return response
        finally:
            self._clients -= 1
            if reader is not None:
                self._threads.submit(reader.close)

    async def _stream(self, response: web.StreamResponse, reader: PartyReader, after: int | None) -> None:
        """Send what comes until the client leaves."""
        said_at, committed_at = time.monotonic(), 0.0
        last, sent_to = after, 0
        while True:
            records = await self._call(reader.next, BATCH, WAIT_S)
            now = time.monotonic()
            if records:
                text = b"".join(_event(record, last if n == 0 else None) for n, record in enumerate(records))
                await asyncio.wait_for(response.write(text), WRITE_TIMEOUT_S)
                last, said_at, sent_to = None, now, records[-1].offset + 1
                self._sent(records)
            elif now - said_at > ALIVE_EVERY_S:
                # A comment: it tells both sides that the connection is whole.
                await asyncio.wait_for(response.write(b": alive\n\n"), WRITE_TIMEOUT_S)
                said_at = now
            if sent_to > self._position and now - committed_at > COMMIT_EVERY_S:
                self._position, committed_at = sent_to, now
                await self._call(reader.commit, self._position)

    def _start_of(self, reader: PartyReader, after: int | None) -> int:
        low, _ = reader.bounds()
        if after is not None:
            return reader.place_of(after + 1)
        self._position = max(self._position, reader.position() or low)
        return max(low, self._position)

    def _sent(self, records: list[RawRecord]) -> None:
        self.delivered += len(records)
        metrics.DELIVERED.labels(*self._labels).inc(len(records))
        metrics.DELIVERED_SEQUENCE.labels(*self._labels).set(sequence_of(records[-1]))
        now = time.time()
        for record in records:
            metrics.DELIVERY_SECONDS.observe(max(0.0, now - record.append_ms / 1000))

    def _check(self, request: web.Request) -> None:
        if self._secret:
            given = request.headers.get("Authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self._secret}".encode()):
                raise web.HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"}, text="who are you?\n")
        elif not is_loopback((request.host or "").rsplit(":", 1)[0].strip("[]")):
            # A page in somebody's browser reaches loopback by a name of its own that resolves to it.
            raise web.HTTPForbidden(text="only by a name of loopback\n")

    async def _call(self, function: Callable[..., R], *arguments: Any) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


def _asked_for(request: web.Request) -> int | None:
    """Return the number behind which to go on; None where the client does not say."""
    asked = request.query.get("from")
    text = asked if asked is not None else request.headers.get("Last-Event-ID", "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS):
        raise web.HTTPBadRequest(text="Last-Event-ID and from are sequence numbers\n")
    return max(0, int(text) - 1) if asked is not None else int(text)


def _event(record: RawRecord, after: int | None) -> bytes:
    """Write one event, and before it the gap between `after` and its number."""
    try:
        delivery = read_delivery(record)
    except UnreadableError as error:
        log.error("a record of a party's topic is not ours", error=str(error))
        return b""
    gap = ""
    if after is not None and delivery.sequence > after + 1:
        gap = f'event: gap\ndata: {{"from":{after + 1},"to":{delivery.sequence - 1}}}\n\n'
    return f"{gap}id: {delivery.sequence}\nevent: alert\ndata: {delivery.body}\n\n".encode()
