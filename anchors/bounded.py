"""Peers that are slow or hostile: reads that share one deadline, and a server of so many connections at most.

A socket's own time-out begins anew with every byte, so that a peer which sends one now and then holds a
thread for as long as it likes.
"""

import io
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class DeadlineReader(io.RawIOBase):
    """Reads a socket up to `deadline_s` (monotonic), however many reads that takes; then TimeoutError."""

    def __init__(self, connection: socket.socket, raw: io.RawIOBase, deadline_s: float) -> None:
        super().__init__()
        self._connection, self._raw = connection, raw
        self.deadline_s = deadline_s

    def readable(self) -> bool:
        """See RawIOBase."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what is there, or wait for it as long as the deadline allows."""
        left_s = self.deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the peer is too slow")
        self._connection.settimeout(left_s)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Let go of the socket."""
        self._raw.close()
        super().close()


def with_deadline(
    connection: socket.socket, reader: io.BufferedIOBase, deadline_s: float
) -> tuple[io.BufferedReader, DeadlineReader]:
    """Put a deadline on a socket's buffered reader, which must not have been read from yet."""
    raw = DeadlineReader(connection, reader.detach(), deadline_s)
    return io.BufferedReader(raw), raw


class BoundedHttpServer(ThreadingHTTPServer):
    """Serves each connection in a thread; connections beyond the bound wait to be accepted."""

    daemon_threads = True
    block_on_close = False

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], max_connections: int
    ) -> None:
        self._free = threading.BoundedSemaphore(max_connections)
        self.request_queue_size = max_connections
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a connection's thread once one is free."""
        self._free.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away or was too slow is its own affair."""
