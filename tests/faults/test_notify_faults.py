"""Alerts under faults: some schedules, and receivers that neither believe nor lose what they are sent."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from standardwebhooks.webhooks import Webhook

from tests.faults.machine.faults.notify import NOTIFY_FAULTS, TELL_AGAIN, draw, run_notify_schedule
from tests.faults.machine.notify.receivers import FAILURES, SseReceiver, WebhookReceiver
from tests.faults.machine.notify.workers import STAGES
from tests.faults.machine.notify.world import PRELOADED, SECRET, NotifyWorld
from tests.faults.machine.zygote import Zygote

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotifyWorld]:
    with (
        Zygote(STAGES, preload=PRELOADED) as zygote,
        NotifyWorld(tmp_path_factory.mktemp("notify-world"), zygote, 1) as made,
    ):
        yield made


@pytest.mark.parametrize(
    "kinds",
    [
        ("kill_correlate", "kill_route", "kill_deliver"),
        ("zombie_route", "receiver_refuses"),
        ("pause_notify_broker", "receiver_errors", "receiver_down"),
    ],
    ids="+".join,
)
def test_no_schedule_violates_anything(world: NotifyWorld, kinds: tuple[str, ...]) -> None:
    told, taken = world.oracle.told.sources, len(world.hooks["soc"].arrivals)
    found = run_notify_schedule(world, random.Random(7), kinds)
    assert not found, (found, world.workers.dump())
    assert world.oracle.told.sources > told
    assert len(world.hooks["soc"].arrivals) > taken
    assert set(kinds) <= set(world.faults)


def test_schedules_are_drawn_from_their_seed() -> None:
    def first(seed: int) -> list[list[str]]:
        rng = random.Random(seed)
        return [draw(rng) for _ in range(200)]

    assert first(7) == first(7) != first(8)
    assert {kind for drawn in first(7) for kind in drawn} == set(NOTIFY_FAULTS)
    assert set(NOTIFY_FAULTS) >= TELL_AGAIN


# ---- receivers ---------------------------------------------------------------------------------------------


def wait_for(probe: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not probe():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def hook() -> Iterator[WebhookReceiver]:
    with WebhookReceiver(SECRET, random.Random(1)) as made:
        yield made


def post(hook: WebhookReceiver, sequence: int, *, sent: str = "{}", signed: str = "{}") -> int:
    """Send an alert; return the status."""
    now = datetime.now(UTC)
    headers = {
        "webhook-id": f"alert_{sequence}",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign(msg_id=f"alert_{sequence}", timestamp=now, data=signed),
        "attestream-sequence": str(sequence),
    }
    try:
        with urlopen(Request(hook.url, sent.encode(), headers), timeout=20) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


def test_a_receiver_keeps_what_it_is_sent_and_verifies_it(hook: WebhookReceiver) -> None:
    assert post(hook, 4) == 200
    assert post(hook, 5, sent="[]") == 200
    assert [(each.id, each.sequence, each.body, each.is_taken) for each in hook.arrivals] == [
        ("alert_4", "4", "{}", True),
        ("alert_5", "5", "[]", True),
    ]
    assert [bool(each.fault) for each in hook.arrivals] == [False, True]


def test_what_a_receiver_answers_and_has_are_two_things(hook: WebhookReceiver) -> None:
    hook.mode = "errors"
    hook._rng = _Always(FAILURES[0])  # type: ignore[assignment]
    assert post(hook, 1) == 500
    hook.mode = "loses_answers"
    assert post(hook, 2) == 500
    hook.heal()
    assert post(hook, 3) == 200
    assert [each.is_taken for each in hook.arrivals] == [False, True, True]
    assert not any(each.is_refused for each in hook.arrivals)


class _Always:
    """Draws what it was given, and the lowest number."""

    def __init__(self, drawn: object) -> None:
        self._drawn = drawn

    def choice(self, _among: object) -> object:
        return self._drawn

    def random(self) -> float:
        return 0.0


def test_one_alert_is_refused_and_the_others_are_not(hook: WebhookReceiver) -> None:
    hook.mode = "refuses"
    assert [post(hook, 8), post(hook, 8), post(hook, 9)] == [400, 400, 200]
    hook.heal()
    assert post(hook, 8) == 200
    assert [each.is_refused for each in hook.arrivals] == [True, True, False, False]


def test_a_receiver_comes_back_at_the_same_place(hook: WebhookReceiver) -> None:
    hook.down()
    with pytest.raises(OSError, match="refused"):
        post(hook, 1)
    hook.up()
    assert post(hook, 1) == 200
    assert len(hook.arrivals) == 1


@contextmanager
def streams(client: SseReceiver, answers: list[bytes]) -> Iterator[list[tuple[str, str | None]]]:
    """Serve these streams, one a connection; yields what was asked for: path and Last-Event-ID."""
    asked: list[tuple[str, str | None]] = []
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Last-Event-ID")))
            self.send_response(200 if answers else 503)
            self.end_headers()
            if answers:
                self.wfile.write(answers.pop(0))
                if not answers:
                    over.wait(20)  # the last one stays open

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", client.port), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield asked
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def event(number: int) -> bytes:
    body = json.dumps({"data": {"id": f"alert_{number}"}})
    return f"id: {number}\nevent: alert\ndata: {body}\n\n".encode()


def test_a_client_comes_back_behind_the_last_whole_event() -> None:
    client = SseReceiver()
    answers = [b"retry: 1000\n\n" + event(1) + b": alive\n\n" + event(2)[:-1], event(2) + event(3)]
    with streams(client, answers) as asked, client:
        wait_for(lambda: len(client.arrivals) == 3)
    assert asked[:2] == [("/alerts?from=1", None), ("/alerts", "1")]
    assert [(each.id, each.sequence, each.fault) for each in client.arrivals] == [
        (f"alert_{number}", str(number), "") for number in (1, 2, 3)
    ]


def test_a_gap_in_a_stream_is_a_fault() -> None:
    client = SseReceiver()
    gap = b'event: gap\ndata: {"from":1,"to":4}\n\n'
    with streams(client, [gap + event(5)]), client:
        wait_for(lambda: len(client.arrivals) == 2)
    assert [bool(each.fault) for each in client.arrivals] == [True, False]


def test_a_client_that_is_away_leaves_its_stream_and_comes_back() -> None:
    client = SseReceiver()
    with streams(client, [event(1), event(2)]) as asked, client:
        wait_for(lambda: len(client.arrivals) == 2)
        client.down()
        seen = len(asked)
        client.up()
        wait_for(lambda: len(asked) > seen)
    assert asked[-1] == ("/alerts", "2")


def test_every_stage_of_a_world_can_be_struck() -> None:
    assert {kind.partition("_")[2] for kind in NOTIFY_FAULTS if kind.startswith("kill_")} == set(STAGES)
