"""The alert scene: a security operations centre that is told twice, and of which one half fails at a time.

A signed parties file subscribes one party with two outputs. Its webhook receiver verifies every request and
refuses connections for a while; its client of server-sent events is cut off and returns with the last id
that it had. Both are in this process, on loopback; what they are told comes from the real stages.
"""

import asyncio
import base64
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from pipeline.demo.notified import PARTY
from pipeline.local.files import LOOPBACK
from pipeline.parties import enforce, has_parties, newest_version, parties_path, read_parties, sign_parties
from pipeline.settings import Settings, UsageError
from pipeline.trust import authority_identity, init_local

WEBHOOK, SSE = "demo-webhook", "demo-sse"
OUTPUTS = (WEBHOOK, SSE)
OUTAGE_S = 20.0
AWAY_S = 5.0
SECRET_BYTES = 32
READY_S = 10.0
STOP_S = 10.0
AGAIN_S = 0.25


@dataclass(slots=True)
class Inbox:
    """What one output brought so far. Written by the subscribers' thread; `numbers` is only added to."""

    numbers: set[int] = field(default_factory=set)
    highest: int = 0
    repeats: int = 0
    faults: list[str] = field(default_factory=list)
    """What no output may do: a signature that does not verify, numbers that go down."""
    away_s: float = 0.0
    """How long nobody was there to be told."""
    missed: int = 0
    """Alerts that came meanwhile."""
    caught_up_s: float | None = None
    """From the return until the last of them was there; None: not yet."""
    _goal: int = 0
    _returned_s: float = 0.0

    def back(self, away_s: float, before: int, newest: int) -> None:
        """Note the return after so long; `before` was the last number then, `newest` is the party's now."""
        self.away_s, self.missed = away_s, max(0, newest - before)
        self._goal, self._returned_s = newest, time.monotonic()
        if self.highest >= newest:
            self.caught_up_s = 0.0

    def take(self, number: int) -> None:
        """Note an alert by the party's number."""
        if number in self.numbers:
            self.repeats += 1
        elif number < self.highest:
            self.faults.append(f"number {number} came behind {self.highest}")
        self.numbers.add(number)
        self.highest = max(self.highest, number)
        if self._returned_s and self.caught_up_s is None and self.highest >= self._goal:
            self.caught_up_s = time.monotonic() - self._returned_s


class Subscribers:
    """A webhook receiver and an SSE client in a thread; ports stay reserved while nobody listens at them."""

    def __init__(self, secret: str) -> None:
        self.inboxes = {name: Inbox() for name in OUTPUTS}
        self.newest: Callable[[], int] = lambda: 0
        """Asks for the party's newest number; set it before `streaming`."""
        self._webhook = Webhook(secret)
        self._reserved = {name: _bound(0) for name in OUTPUTS}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="subscribers", daemon=True)
        self._runner: web.AppRunner | None = None
        self._client: asyncio.Task[None] | None = None
        self._scene: asyncio.Task[None] | None = None

    def port(self, output: str) -> int:
        """The port of an output on loopback."""
        found: int = self._reserved[output].getsockname()[1]
        return found

    def start(self) -> None:
        """Listen, and ask for events until there are some."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result(READY_S)

    def streaming(self, seconds: float) -> None:
        """Be away for a while of a stream that begins now and takes so many seconds."""

        def begin() -> None:
            self._scene = self._loop.create_task(self._be_away(seconds / 3, min(OUTAGE_S, seconds / 3)))

        self._loop.call_soon_threadsafe(begin)

    def stop(self) -> None:
        """Hang up and listen no more."""
        if self._thread.is_alive():
            with suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(STOP_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(STOP_S)
        for each in self._reserved.values():
            each.close()

    # ---- the thread ------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        await self._open()
        self._client = asyncio.create_task(self._listen())

    async def _end(self) -> None:
        for task in (self._scene, self._client):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self._close()

    async def _be_away(self, after_s: float, outage_s: float) -> None:
        await asyncio.sleep(after_s)
        receiver, client = self.inboxes[WEBHOOK], self.inboxes[SSE]
        before = receiver.highest
        await self._close()
        await asyncio.sleep(outage_s / 2)
        client_before = client.highest
        if self._client is not None:
            self._client.cancel()
        away_s = min(AWAY_S, outage_s / 2)
        await asyncio.sleep(away_s)
        client.back(away_s, client_before, self.newest())
        self._client = asyncio.create_task(self._listen())
        await asyncio.sleep(outage_s / 2 - away_s)
        receiver.back(outage_s, before, self.newest())
        await self._open()

    # ---- webhook ---------------------------------------------------------------------------------------

    async def _open(self) -> None:
        app = web.Application()
        app.router.add_post("/", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.SockSite(self._runner, _bound(self.port(WEBHOOK))).start()

    async def _close(self) -> None:
        # The whole runner, so that connections which are open end too.
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _take(self, request: web.Request) -> web.Response:
        try:
            body = self._webhook.verify(await request.text(), dict(request.headers))
        except WebhookVerificationError as error:
            self.inboxes[WEBHOOK].faults.append(f"a request does not verify: {error}")
            return web.Response(status=401)
        self.inboxes[WEBHOOK].take(body["data"]["sequence"])
        return web.Response()

    # ---- server-sent events ----------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Ask for what comes behind the last alert that was had, and again after each end."""
        inbox, url = self.inboxes[SSE], f"http://{LOOPBACK}:{self.port(SSE)}/alerts"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=READY_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                headers = {"Last-Event-ID": str(inbox.highest)} if inbox.highest else {}
                with suppress(aiohttp.ClientError, ConnectionError):
                    async with session.get(url, headers=headers) as response:
                        await _read_events(response, inbox)
                await asyncio.sleep(AGAIN_S)


async def _read_events(response: aiohttp.ClientResponse, inbox: Inbox) -> None:
    """Read a stream of events (WHATWG HTML, section 9.2) to its end."""
    fields: dict[str, str] = {}
    while line := await response.content.readline():
        name, _, value = line.decode().rstrip("\r\n").partition(": ")
        if name:
            fields[name] = value
            continue
        if fields.get("event") == "alert":
            inbox.take(json.loads(fields["data"])["data"]["sequence"])
        elif fields.get("event") == "gap":
            inbox.faults.append(f"a gap was told: {fields['data']}")
        fields = {}


def _bound(port: int) -> socket.socket:
    """A socket that is bound and does not listen: connections are refused, and nobody else gets the port.

    Whoever sets SO_REUSEADDR too, as asyncio does, may listen at it all the same (Linux).
    """
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((LOOPBACK, port))
    return made


@contextmanager
def subscribed(settings: Settings) -> Iterator[Subscribers]:
    """Subscribe the party in the data folder before a stack starts there; afterwards nobody is subscribed.

    Raises UsageError where somebody else is subscribed already.
    """
    if has_parties(settings) and not _is_ours(settings):
        raise UsageError(
            f"{parties_path(settings)} subscribes others: the demo needs a data folder of its own"
        )
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    init_local(settings)
    secret = "whsec_" + base64.b64encode(os.urandom(SECRET_BYTES)).decode()
    secret_path = settings.data_dir.resolve() / "keys" / f"{WEBHOOK}.secret"
    secret_path.unlink(missing_ok=True)
    secret_path.touch(mode=0o600)
    secret_path.write_text(secret, encoding="ascii")
    subscribers = Subscribers(secret)
    outputs = [
        {
            "name": WEBHOOK,
            "kind": "webhook",
            "url": f"http://{LOOPBACK}:{subscribers.port(WEBHOOK)}/",
            "secret": {"file": str(secret_path)},
            "allow": [f"{LOOPBACK}/32"],
        },
        {"name": SSE, "kind": "sse", "listen": f"{LOOPBACK}:{subscribers.port(SSE)}"},
    ]
    document = {
        "log_name": settings.log_name,
        "version": newest_version(settings) + 1,
        "parties": [{"name": PARTY, "filter": {}, "outputs": outputs}],
    }
    try:
        data, _ = sign_parties(settings, json.dumps(document).encode(), authority_identity(settings))
        enforce(settings, data)
        subscribers.start()
        yield subscribers
    finally:
        subscribers.stop()
        parties_path(settings).unlink(missing_ok=True)
        secret_path.unlink(missing_ok=True)


def _is_ours(settings: Settings) -> bool:
    """Whether the file is one that a demo left behind when it was killed."""
    return all(
        party.name == PARTY and {output.name for output in party.outputs} == set(OUTPUTS)
        for party in read_parties(settings).parties
    )
