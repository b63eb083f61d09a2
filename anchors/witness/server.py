"""A witness over HTTP (https://c2sp.org/tlog-witness): add-checkpoint, and the newest checkpoint of a log.

It binds loopback unless told otherwise: what a client is to reach belongs behind a server that speaks TLS.
Requests are bounded in number, size and time; none can stop the server.
"""

import io
import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

import structlog

from anchors.bounded import BoundedHttpServer, with_deadline
from anchors.errors import WitnessConfigError, WitnessStoreError
from anchors.witness.addcheckpoint import MAX_BODY_BYTES, PATH
from anchors.witness.witness import Answer, Witness

MAX_CONNECTIONS = 64
REQUEST_TIMEOUT_S = 10.0
"""For waiting on a kept connection and reading the next request there, together."""
STOP_POLL_S = 0.05

_LATEST = re.compile(r"/([0-9a-f]{64})/checkpoint", re.ASCII)
_LENGTH = re.compile(r"[0-9]{1,9}", re.ASCII)

log = structlog.get_logger("anchors.witness")


@dataclass(frozen=True, slots=True)
class WitnessHandle:
    """A running witness."""

    host: str
    port: int
    stop: Callable[[], None]
    """Take no more requests. The memory stays open: it is the caller's."""

    @property
    def url(self) -> str:
        """The submission prefix, for a policy."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def serve(witness: Witness, host: str = "127.0.0.1", port: int = 0) -> WitnessHandle:
    """Start, and return once the port answers; port 0 takes a free one. Raises WitnessConfigError."""
    try:
        server = _Server((host, port), witness)
    except OSError as error:
        raise WitnessConfigError(f"{host}:{port} cannot be listened on: {error.strerror}") from error
    threading.Thread(target=server.serve_forever, args=(STOP_POLL_S,), name="witness", daemon=True).start()

    def stop() -> None:
        server.shutdown()
        server.server_close()

    return WitnessHandle(host, server.server_address[1], stop)


def run(witness: Witness, host: str, port: int, on_ready: Callable[[WitnessHandle], None]) -> None:
    """Serve until SIGTERM or SIGINT; to be called from a process's main thread."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    handle = serve(witness, host, port)
    try:
        on_ready(handle)
        ended.wait()
    finally:
        handle.stop()


class _Server(BoundedHttpServer):
    def __init__(self, address: tuple[str, int], witness: Witness) -> None:
        self.witness = witness
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler, MAX_CONNECTIONS)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = REQUEST_TIMEOUT_S
    server_version = "attestream-witness"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.rfile: io.BufferedReader
        self.rfile, self._reader = with_deadline(self.connection, self.rfile, 0.0)

    def handle_one_request(self) -> None:
        self._reader.deadline_s = time.monotonic() + REQUEST_TIMEOUT_S
        super().handle_one_request()

    def do_POST(self) -> None:
        if self.path != f"/{PATH}":
            self._respond_and_close(Answer(404, b"not found\n"))
            return
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not _LENGTH.fullmatch(length):
            self._respond_and_close(Answer(411, b"the request needs a Content-Length\n"))
        elif int(length) > MAX_BODY_BYTES:
            self._respond_and_close(Answer(413, b"the request is too long\n"))
        else:
            body = self.rfile.read(int(length))
            if len(body) < int(length):
                self.close_connection = True
            else:
                self._respond(self._answer(lambda: self.server.witness.add_checkpoint(body)))

    def do_GET(self) -> None:
        # A body is not read; what follows on the connection cannot be told from it.
        found = _LATEST.fullmatch(self.path)
        if found is None:
            self._respond_and_close(Answer(404, b"not found\n"))
        else:
            self._respond_and_close(self._answer(lambda: self.server.witness.latest(found[1])))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """The framework's own refusals: an unreadable request, or another method."""
        status = 405 if code == 501 else code
        self._respond_and_close(Answer(status, f"{message or 'no'}\n".encode()))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """What was cosigned or refused is logged where it is decided."""

    def _answer(self, decide: Callable[[], Answer]) -> Answer:
        try:
            return decide()
        except WitnessStoreError as error:
            log.error("the witness cannot remember, so it does not sign", error=str(error))
            return Answer(503, b"the witness's memory fails\n")
        except Exception as error:  # noqa: BLE001 - one request must never end the service
            log.error("request failed", path=self.path[:200], error=repr(error))
            return Answer(500, b"internal error\n")

    def _respond_and_close(self, answer: Answer) -> None:
        self.close_connection = True
        self._respond(answer)

    def _respond(self, answer: Answer) -> None:
        self.connection.settimeout(REQUEST_TIMEOUT_S)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)
