"""Deliver on a real Kafka: every alert of a party arrives by every output, whoever is down or killed."""

import asyncio
import base64
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from confluent_kafka import KafkaError, KafkaException
from standardwebhooks.webhooks import Webhook
from typer.testing import CliRunner

from pipeline import kafka as kafka_clients
from pipeline import route
from pipeline.cli.main import build
from pipeline.deliver import service, worker
from pipeline.partyread import PartyReader
from pipeline.partytopics import undelivered_topic
from pipeline.stage import Health
from tests.kit.deployment import Deployment, in_thread, make_deployment, read_topic, wait_for
from tests.kit.receivers import LOOPBACK, Endpoint, endpoint, free_port
from tests.kit.subscribed import header, party, publish_alerts, subscribe, wait_told

pytestmark = pytest.mark.timeout(150)

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def deployment(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    monkeypatch.setenv("HOOK", SECRET)
    made = make_deployment(kafka, tmp_path, session_timeout_s=6.0)
    yield made
    made.authority.close()


@contextmanager
def delivering(deployment: Deployment) -> Iterator[Health]:
    with (
        in_thread(route.work, deployment.settings, "route"),
        in_thread(service.work, deployment.settings, "deliver") as health,
    ):
        yield health


def hook(name: str, receiver: Endpoint) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "webhook",
        "url": receiver.url,
        "secret": {"env": "HOOK"},
        "allow": [LOOPBACK],
    }


def names(count: int, first: int = 0) -> list[str]:
    return [f"device.findings/0/{number}" for number in range(first, first + count)]


def arrived(receiver: Endpoint) -> list[int]:
    """Sequences in the order of their first arrival, each signature verified; a repeat must be the same."""
    seen: dict[int, str] = {}
    for request in receiver.requests:
        data = Webhook(SECRET).verify(request.body, request.headers)["data"]
        assert seen.setdefault(data["sequence"], data["id"]) == data["id"]
    return list(seen)


def test_an_output_that_is_down_holds_up_no_other_and_catches_up(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LONGEST_PAUSE_S", 1.0)
    with endpoint() as well, endpoint() as down:
        down.answer = lambda _: (503, {}, "later")
        subscribe(deployment.settings, 1, [party("soc", hook("well", well), hook("down", down))])
        with delivering(deployment) as health:
            publish_alerts(deployment, names(30))
            wait_for(lambda: len(arrived(well)) == 30, "all arrive where the receiver is well")
            wait_for(lambda: "NOT DELIVERED: soc/down" in health.path.read_text(), "it is told")
            assert '"running"' in health.path.read_text()
            tried = len(down.requests)
            down.answer = lambda _: None
            wait_for(lambda: len(down.requests) - tried >= 30, "the other one catches up")
            wait_for(lambda: "NOT DELIVERED" not in health.path.read_text(), "it is well again")
    assert arrived(well) == arrived(down) == list(range(1, 31))
    assert len(well.requests) == 30


def test_what_is_refused_is_kept_apart_and_the_rest_goes_on(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LONGEST_PAUSE_S", 0.2)
    with endpoint() as receiver:
        receiver.answer = lambda request: (422, {}, "no") if 'findings/0/1"' in request.body else None
        subscribe(deployment.settings, 1, [party("soc", hook("one", receiver))])
        with delivering(deployment):
            publish_alerts(deployment, names(4))
            wait_for(lambda: 4 in arrived(receiver), "the last one arrives")
            given_up = wait_for(
                lambda: read_topic(deployment.settings, undelivered_topic("soc")), "the refused one is kept"
            )
    (only,) = given_up
    assert [header(only, name) for name in ("party.sequence", "output", "reason")] == ["2", "one", "refused"]
    assert sum('findings/0/1"' in request.body for request in receiver.requests) == worker.REFUSALS


def test_who_never_takes_an_alert_is_given_up_on_after_a_bound(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", SECRET)
    deployment = make_deployment(kafka, tmp_path, deliver_give_up_s=0.0)
    with endpoint() as receiver:
        receiver.answer = lambda _: (503, {}, "")
        subscribe(deployment.settings, 1, [party("soc", hook("one", receiver))])
        with delivering(deployment):
            publish_alerts(deployment, names(3))
            topic = undelivered_topic("soc")
            client = kafka_clients.admin(deployment.settings)
            wait_for(lambda: topic in client.list_topics(timeout=20).topics, "the topic is there")
            wait_for(lambda: len(read_topic(deployment.settings, topic)) == 3, "all are kept")
    assert {header(r, "reason") for r in read_topic(deployment.settings, topic)} == {"given_up"}
    deployment.authority.close()


def test_kill_9_of_deliver_loses_nothing_and_repeats_under_the_same_id(deployment: Deployment) -> None:
    settings, dice = deployment.settings, random.Random(3)
    environment = {
        **os.environ, "ATTESTREAM_BOOTSTRAP_SERVERS": settings.bootstrap(), "ATTESTREAM_PARTITIONS": "2",
        "ATTESTREAM_LOG_NAME": settings.log_name, "ATTESTREAM_SESSION_TIMEOUT_S": "6",
    }  # fmt: skip

    def start() -> subprocess.Popen[bytes]:
        words = ["run", "deliver", "--data-dir", str(settings.data_dir)]
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli.main", *words], env=environment, stderr=subprocess.DEVNULL
        )

    with endpoint() as receiver, in_thread(route.work, settings, "route"):
        subscribe(settings, 1, [party("soc", hook("one", receiver))])
        process = start()
        try:
            for round_ in range(5):
                publish_alerts(deployment, names(60, 60 * round_))
                least = 60 * round_ + dice.randrange(1, 50)
                wait_for(lambda least=least: len(arrived(receiver)) >= least, f"{least} arrive")  # type: ignore[misc]
                process.send_signal(signal.SIGKILL)
                process.wait()
                process = start()
            wait_for(lambda: len(arrived(receiver)) == 300, "all arrive")
        finally:
            process.kill()
            process.wait()
    assert arrived(receiver) == list(range(1, 301))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def _events(
    url: str, count: int, headers: dict[str, str] | None = None
) -> list[tuple[int, dict[str, Any]]]:
    """Read so many alerts from an SSE stream, then drop the connection."""
    found: list[tuple[int, dict[str, Any]]] = []
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers or {}) as answer:
        answer.raise_for_status()
        identity = 0
        async for raw in answer.content:
            line = raw.decode().rstrip("\n")
            if line.startswith("id: "):
                identity = int(line[4:])
            elif line.startswith("data: "):
                found.append((identity, json.loads(line[6:])))
                if len(found) == count:
                    break
    return found


def test_an_sse_client_is_cut_off_and_returns(deployment: Deployment) -> None:
    port = free_port()
    one = {"name": "live", "kind": "sse", "listen": f"127.0.0.1:{port}"}
    subscribe(deployment.settings, 1, [party("soc", one)])
    url = f"http://127.0.0.1:{port}/alerts"
    with delivering(deployment) as health:
        publish_alerts(deployment, names(20))
        wait_told(deployment.settings, "soc", 20)
        wait_for(lambda: "1 outputs" in health.path.read_text(), "it runs")
        wait_for(lambda: _listens(port), "it listens")

        def events(count: int, query: str = "", **headers: str) -> list[int]:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            return [number for number, _ in asyncio.run(_events(url + query, count, given))]

        assert events(5) == [1, 2, 3, 4, 5]
        assert events(3, Last_Event_ID="5") == [6, 7, 8]
        publish_alerts(deployment, names(10, 20))
        assert events(22, Last_Event_ID="8") == list(range(9, 31))
        assert events(2, "?from=3") == [3, 4]
        # A new client that says nothing goes on behind the last alert that anybody was sent.
        publish_alerts(deployment, names(2, 30))
        wait_told(deployment.settings, "soc", 32)
        assert events(1)[0] > 1
        for bad in ({"Last_Event_ID": "x"}, {"Host": "evil.example"}):
            with pytest.raises(aiohttp.ClientResponseError):
                events(1, **bad)
        where = ["--data-dir", str(deployment.settings.data_dir)]
        where += ["--bootstrap-servers", deployment.settings.bootstrap()]
        words = ["alerts", "fetch", "--party", "soc", "--from", "31", *where]
        result = CliRunner().invoke(build("alerts"), words)
        assert [json.loads(line)["data"]["sequence"] for line in result.output.splitlines()] == [31, 32]
        told = CliRunner().invoke(build("alerts"), ["alerts", "positions", *where]).output
        assert "soc/live: " in told
        assert " of 32" in told


def test_a_stream_of_events_that_kafka_breaks_off_ends_so_that_the_client_returns(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, failed = PartyReader.commit, list[int]()

    def fails_once(reader: PartyReader, next_offset: int) -> None:
        if not failed:
            failed.append(next_offset)
            raise KafkaException(KafkaError(KafkaError.NOT_COORDINATOR))
        commit(reader, next_offset)

    monkeypatch.setattr(PartyReader, "commit", fails_once)
    port = free_port()
    subscribe(
        deployment.settings,
        1,
        [party("soc", {"name": "live", "kind": "sse", "listen": f"127.0.0.1:{port}"})],
    )
    url = f"http://127.0.0.1:{port}/alerts"
    with delivering(deployment):
        publish_alerts(deployment, names(3))
        wait_told(deployment.settings, "soc", 3)
        wait_for(lambda: _listens(port), "it listens")
        assert "id: 3" in asyncio.run(_to_its_end(url))
        assert failed
        publish_alerts(deployment, names(2, 3))
        returned = asyncio.run(_events(url, 2, {"Last-Event-ID": "3"}))
    assert [number for number, _ in returned] == [4, 5]


async def _to_its_end(url: str) -> str:
    """Read a stream until the server ends it."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await asyncio.wait_for(response.text(), 30)


def test_a_listener_with_a_token_asks_for_it(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSE_TOKEN", "t0ken")
    port = free_port()
    one = {"name": "live", "kind": "sse", "listen": f"127.0.0.1:{port}", "secret": {"env": "SSE_TOKEN"}}
    subscribe(deployment.settings, 1, [party("soc", one)])
    with delivering(deployment):
        publish_alerts(deployment, names(1))
        wait_told(deployment.settings, "soc", 1)
        wait_for(lambda: _listens(port), "it listens")
        url = f"http://127.0.0.1:{port}/alerts"
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            with pytest.raises(aiohttp.ClientResponseError, match="401"):
                asyncio.run(_events(url, 1, headers))
        assert asyncio.run(_events(url, 1, {"Authorization": "Bearer t0ken"}))[0][0] == 1


def test_a_missing_secret_stops_its_output_alone(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LONGEST_PAUSE_S", 0.5)
    with endpoint() as receiver:
        without = {**hook("without", receiver), "secret": {"env": "NOT_SET_YET"}}
        subscribe(deployment.settings, 1, [party("soc", hook("one", receiver), without)])
        with delivering(deployment) as health:
            publish_alerts(deployment, names(2))
            wait_for(lambda: len(receiver.requests) == 2, "the other output delivers")
            wait_for(lambda: "NOT_SET_YET holds no secret" in health.path.read_text(), "its name is told")
            monkeypatch.setenv("NOT_SET_YET", SECRET)
            wait_for(lambda: len(receiver.requests) == 4, "with the secret it goes on")
