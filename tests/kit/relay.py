"""A relay in front of a real broker, which can have it name no broker, as a fenced one does for a moment.

The broker has to advertise the relay's address, so that clients stay behind it.
"""

import asyncio
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.local.files import LOOPBACK, free_port
from pipeline.local.kafka import Broker, start
from pipeline.local.process import stop

METADATA = 3
FIRST_COMPACT = 9
"""From this version of the Metadata API on lengths are written as varints (KIP-482)."""
NO_BROKERS = b"\x01"
"""A compact array of no elements."""


class Relay:
    """Passes all on by frames; while `names_none` is set answers to Metadata requests have no brokers."""

    def __init__(self) -> None:
        self.names_none = False
        self.named_none = 0
        """How many such answers were given."""
        self.broker_port = 0
        self.port = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="relay")

    @contextmanager
    def open(self) -> Iterator[None]:
        self._thread.start()
        self._ready.wait(10)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, LOOPBACK, 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.1))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked: dict[int, int] = {}
        """Versions of the Metadata requests that wait for an answer, by their correlation ids."""
        try:
            there, back = await asyncio.open_connection(LOOPBACK, self.broker_port)
        except OSError:
            writer.close()
            return

        def request(body: bytes) -> bytes:
            key, version, correlation = struct.unpack_from(">hhi", body)
            if key == METADATA:
                asked[correlation] = version
            return body

        def response(body: bytes) -> bytes:
            version = asked.pop(struct.unpack_from(">i", body)[0], None)
            if version is None or not self.names_none:
                return body
            assert version >= FIRST_COMPACT
            self.named_none += 1
            return without_brokers(body)

        await asyncio.gather(_pass_on(reader, back, request), _pass_on(there, writer, response))


async def _pass_on(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, change: Callable[[bytes], bytes]
) -> None:
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            (size,) = struct.unpack(">i", await source.readexactly(4))
            body = change(await source.readexactly(size))
            target.write(struct.pack(">i", len(body)) + body)
            await target.drain()
    target.close()


def without_brokers(body: bytes) -> bytes:
    """Return a Metadata response (correlation id, tags, throttle time, brokers, ...) with an empty list."""
    begin = 4 + 1 + 4
    count, at = _varint(body, begin)
    for _ in range(count - 1):
        at = _past_string(body, at + 4)  # node id, host
        at = _past_string(body, at + 4)  # port, rack
        tags, at = _varint(body, at)
        assert tags == 0
    return body[:begin] + NO_BROKERS + body[at:]


def _past_string(body: bytes, at: int) -> int:
    length, at = _varint(body, at)
    return at + max(0, length - 1)


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


@contextmanager
def relayed_kafka(data_dir: Path) -> Iterator[Relay]:
    """Run a broker of its own behind a relay for the length of the block."""
    relay = Relay()
    with relay.open():
        relay.broker_port = free_port()
        broker = Broker(data_dir, port=relay.broker_port)
        broker.extra_properties = {"advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{relay.port}"}
        with broker.owned():
            broker.prepare()
            process = start(broker)
            try:
                yield relay
            finally:
                stop(process, 10.0)
