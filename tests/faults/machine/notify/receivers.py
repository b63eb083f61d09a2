"""Receivers that keep all they are sent, and that go away, fail or refuse when they are told to."""

import contextlib
import http.client
import json
import random
import socket
import threading
from types import TracebackType
from typing import Self

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.faults.machine.notify.delivered import Arrival
from tests.kit.receivers import Endpoint, Request, endpoint, free_port

READ_S = 15.0
"""An SSE server says that it lives every 10 s."""
COME_BACK_S = 0.2
Answer = tuple[int, dict[str, str], str]
FAILURES: tuple[Answer, ...] = (
    (500, {}, "broken"), (503, {"Retry-After": "1"}, "later"), (429, {}, "too many"), (404, {}, "where?"),
    (302, {"Location": "http://127.0.0.1:1/"}, ""),
)  # fmt: skip
"""None of them says that the alert itself is at fault."""
REFUSAL: Answer = (400, {}, "not this one")


class WebhookReceiver:
    """A context manager: an endpoint at one port that verifies what it is sent."""

    def __init__(self, secret: str, rng: random.Random) -> None:
        self.arrivals: list[Arrival] = []
        self.mode = ""
        """`errors`; `loses_answers`: it has the alert and says that it failed; `refuses` the next number."""
        self._webhook, self._rng = Webhook(secret), rng
        self._refuses = ""
        self._port = free_port()
        self._up: contextlib.ExitStack | None = None

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    @property
    def url(self) -> str:
        """Where it is, or will be again."""
        return f"http://127.0.0.1:{self._port}/hook"

    def up(self) -> None:
        """Listen."""
        if self._up is None:
            with contextlib.ExitStack() as stack:
                made = stack.enter_context(endpoint(self._port))
                made.answer = lambda request: self._answer(made, request)
                self._up = stack.pop_all()

    def down(self) -> None:
        """Refuse connections."""
        if self._up is not None:
            self._up.close()
            self._up = None

    def heal(self) -> None:
        """Be there and take everything."""
        self.mode, self._refuses = "", ""
        self.up()

    def _answer(self, made: Endpoint, request: Request) -> Answer:
        made.requests.clear()
        headers = {name.lower(): value for name, value in request.headers.items()}
        sequence, fault = headers.get("attestream-sequence", ""), ""
        try:
            self._webhook.verify(request.body, headers)
        except WebhookVerificationError as error:
            fault = str(error) or repr(error)
        answer: Answer = (200, {}, "")
        is_taken = True
        match self.mode:
            case "errors":
                answer, is_taken = self._rng.choice(FAILURES), False
            case "loses_answers" if self._rng.random() < 0.5:
                answer = (500, {}, "it is here all the same")
            case "refuses":
                self._refuses = self._refuses or sequence
                if sequence == self._refuses:
                    answer, is_taken = REFUSAL, False
        self.arrivals.append(
            Arrival(headers.get("webhook-id", ""), sequence, request.body, is_taken, answer == REFUSAL, fault)
        )
        return answer


class SseReceiver:
    """A context manager: a client that comes back with the last number that it had."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.port = free_port()
        self._last = ""
        self._is_away = threading.Event()
        self._ends = threading.Event()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="sse-client")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        self.down()
        self._thread.join()

    def up(self) -> None:
        """Come back."""
        self._is_away.clear()

    def down(self) -> None:
        """Leave in the middle of whatever is being sent."""
        self._is_away.set()
        connected = self._socket
        if connected is not None:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        while not self._ends.wait(COME_BACK_S):
            if not self._is_away.is_set():
                with contextlib.suppress(OSError, http.client.HTTPException):
                    self._listen()

    def _listen(self) -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=READ_S)) as peer:
            peer.connect()
            self._socket = peer.sock
            if self._last:
                peer.request("GET", "/alerts", headers={"Last-Event-ID": self._last})
            else:
                peer.request("GET", "/alerts?from=1")
            response = peer.getresponse()
            fields: dict[str, str] = {}
            while response.status == 200 and (line := response.readline()):
                name, colon, value = line.decode().rstrip("\n").partition(": ")
                if colon:
                    fields[name] = value
                elif not line.strip():
                    self._take(fields)
                    fields = {}

    def _take(self, fields: dict[str, str]) -> None:
        if "event" not in fields:
            return  # a comment, or how soon to come back
        sequence, body = fields.get("id", ""), fields.get("data", "")
        fault = "" if fields["event"] == "alert" else f"event {fields['event']}: {body}"
        self.arrivals.append(Arrival(_id_of(body), sequence, body, fault=fault))
        self._last = sequence or self._last


def _id_of(body: str) -> str:
    try:
        return str(json.loads(body)["data"]["id"])
    except (ValueError, KeyError, TypeError):
        return ""
