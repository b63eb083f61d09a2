"""The demo's party: subscribed for the length of a run, and each of its halves away for a while."""

import asyncio
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from pipeline.demo.notified import PARTY
from pipeline.demo.subscribers import OUTPUTS, SSE, WEBHOOK, Inbox, Subscribers, subscribed
from pipeline.parties import (
    believe_parties,
    enforce,
    has_parties,
    parties_path,
    read_parties,
    secret_of,
    sign_parties,
)
from pipeline.settings import Settings, UsageError
from pipeline.trust import authority_identity, init_local
from tests.kit.deployment import wait_for

SECRET = "whsec_" + "QUJD" * 10
LOOPBACK = "127.0.0.1"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", log_name="hospital.example")


@pytest.fixture
def subscribers() -> Iterator[Subscribers]:
    made = Subscribers(SECRET)
    made.start()
    yield made
    made.stop()


def post(subscribers: Subscribers, number: int, secret: str = SECRET) -> int:
    """Tell the receiver of an alert; return the status, 0 where nobody listens."""
    body, now = json.dumps({"data": {"sequence": number}}), datetime.now(UTC)
    headers = {
        "webhook-id": f"alert_{number}",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(msg_id=f"alert_{number}", timestamp=now, data=body),
    }
    request = urllib.request.Request(
        f"http://{LOOPBACK}:{subscribers.port(WEBHOOK)}/", body.encode(), headers, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@contextmanager
def event_server(port: int, newest: Callable[[], int], asked: list[str]) -> Iterator[None]:
    """Serve numbers as the SSE output does, at a port that is reserved; `asked` gets each Last-Event-ID."""
    loop, ready, over = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def alerts(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers.get("Last-Event-ID", ""))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"retry: 1000\n\n: alive\n\n")
        last = int(asked[-1] or 0)
        while not over.is_set():
            if last < newest():
                last += 1
                data = json.dumps({"data": {"sequence": last}})
                await response.write(f"id: {last}\nevent: alert\ndata: {data}\n\n".encode())
            else:
                await asyncio.sleep(0.02)
        return response

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/alerts", alerts)
        runner = web.AppRunner(app, shutdown_timeout=0.2, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, port).start()
        ready.set()
        await over.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(20)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(20)
        loop.close()


def test_the_party_is_subscribed_for_the_length_of_a_run(settings: Settings) -> None:
    with subscribed(settings) as subscribers:
        (party,) = believe_parties(settings).parties
        assert (party.name, tuple(output.name for output in party.outputs)) == (PARTY, OUTPUTS)
        hook, sse = party.outputs
        assert hook.secret is not None
        assert secret_of(hook.secret).startswith("whsec_")  # readable for its owner only, else refused
        assert hook.url == f"http://{LOOPBACK}:{subscribers.port(WEBHOOK)}/"
        assert sse.listen == (LOOPBACK, subscribers.port(SSE))
        secret_file = Path(hook.secret.file)
    assert not has_parties(settings)
    assert not secret_file.exists()
    with subscribed(settings):  # a later run: what was believed before must not be in its way
        assert believe_parties(settings).version == 2


def test_nobody_elses_subscription_is_touched(settings: Settings) -> None:
    settings.data_dir.mkdir()
    init_local(settings)
    both = [{"name": name, "filter": {}, "outputs": []} for name in (PARTY, "vendor")]
    theirs = {"log_name": settings.log_name, "version": 1, "parties": both}
    data, _ = sign_parties(settings, json.dumps(theirs).encode(), authority_identity(settings))
    enforce(settings, data)
    with pytest.raises(UsageError, match="subscribes others"), subscribed(settings):
        pass
    assert parties_path(settings).read_bytes() == data


def test_what_a_killed_demo_left_is_replaced(settings: Settings) -> None:
    with subscribed(settings):
        left = parties_path(settings).read_bytes()
    parties_path(settings).write_bytes(left)
    with subscribed(settings):
        assert read_parties(settings).version == 2


def test_a_request_counts_by_its_signature(subscribers: Subscribers) -> None:
    assert post(subscribers, 1) == 200
    assert post(subscribers, 2, secret="whsec_" + "WFla" * 10) == 401
    inbox = subscribers.inboxes[WEBHOOK]
    assert inbox.numbers == {1}
    assert len(inbox.faults) == 1
    assert "does not verify" in inbox.faults[0]


def test_the_receiver_refuses_for_a_while_and_then_counts_what_it_missed(subscribers: Subscribers) -> None:
    assert post(subscribers, 1) == 200
    subscribers.newest = lambda: 3
    subscribers.streaming(3.0)
    wait_for(lambda: post(subscribers, 1) == 0, "connections are refused")
    wait_for(lambda: post(subscribers, 2) == 200, "the receiver is back")
    inbox = subscribers.inboxes[WEBHOOK]
    assert (inbox.missed, inbox.caught_up_s) == (2, None)
    assert post(subscribers, 3) == 200
    assert inbox.numbers == {1, 2, 3}
    assert inbox.caught_up_s is not None
    assert inbox.faults == []


def test_the_client_of_events_comes_back_with_the_last_id(subscribers: Subscribers) -> None:
    newest, asked, inbox = [4], list[str](), subscribers.inboxes[SSE]
    subscribers.newest = lambda: newest[0]
    with event_server(subscribers.port(SSE), lambda: newest[0], asked):
        wait_for(lambda: inbox.highest == 4, "the first events")
        subscribers.streaming(3.0)
        wait_for(lambda: len(asked) == 2, "the client is back")
        newest[0] = 7
        wait_for(lambda: inbox.highest == 7, "the further events")
    assert asked[:2] == ["", "4"]
    assert (inbox.numbers, inbox.repeats, inbox.faults) == (set(range(1, 8)), 0, [])
    assert inbox.away_s > 0


def test_a_reserved_port_refuses_and_is_nobody_elses(subscribers: Subscribers) -> None:
    port = subscribers.port(SSE)
    with socket.socket() as probe:
        assert probe.connect_ex((LOOPBACK, port)) != 0
    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind((LOOPBACK, port))


def test_numbers_that_go_down_are_a_fault_and_repeats_are_none() -> None:
    inbox = Inbox()
    for number in (1, 2, 4, 2, 4, 3):
        inbox.take(number)
    assert (inbox.numbers, inbox.repeats, inbox.highest) == ({1, 2, 3, 4}, 2, 4)
    assert inbox.faults == ["number 3 came behind 4"]


def test_who_missed_nothing_is_back_at_once() -> None:
    inbox = Inbox(highest=4)
    inbox.back(2.0, 4, 4)
    assert (inbox.missed, inbox.caught_up_s) == (0, 0.0)
