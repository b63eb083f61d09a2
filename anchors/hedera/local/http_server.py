"""A small HTTP server around the mirror's answers: GET only, bounded connections, time and size.

Whatever a client sends, the answer is JSON with a 4xx status at worst; no request can stop the server.
"""

import json
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog

from anchors.bounded import BoundedHttpServer
from anchors.hedera.local.rest import MirrorApi
from anchors.hedera.local.rest_filters import RestError

MAX_CONNECTIONS = 64
IDLE_TIMEOUT_S = 10

log = structlog.get_logger("anchors.hedera.local")


class MirrorHttpServer(BoundedHttpServer):
    """Serves a `MirrorApi` on 127.0.0.1; connections beyond the bound wait to be accepted."""

    def __init__(self, port: int, api: MirrorApi) -> None:
        self.api = api
        super().__init__(("127.0.0.1", port), _Handler, MAX_CONNECTIONS)


class _Handler(BaseHTTPRequestHandler):
    server: MirrorHttpServer
    protocol_version = "HTTP/1.1"
    timeout = IDLE_TIMEOUT_S
    server_version = "attestream-local-mirror"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one request."""
        try:
            address = urlsplit(self.path)
            status, body = 200, self.server.api.answer(unquote(address.path), address.query)
        except RestError as error:
            status, body = error.status, _status(error.message)
        except ValueError:
            status, body = 400, _status("Invalid request")
        except Exception as error:  # noqa: BLE001 - one bad request must never end the service
            log.error("mirror request failed", path=self.path[:200], error=repr(error))
            status, body = 500, _status("Internal error")
        self._respond(status, body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """The framework's own refusals: an unreadable request, or a method other than GET."""
        status = 405 if code == 501 else code
        self.close_connection = True
        self._respond(status, _status(message or "Invalid request"))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Requests are not logged: a follower polls every second."""

    def _respond(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)


def _status(message: str) -> dict[str, Any]:
    return {"_status": {"messages": [{"message": message}]}}
