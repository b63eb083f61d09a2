"""Server-side request forgery: an output never speaks with what was not allowed by name."""

import asyncio
import ipaddress
import socket
from typing import Any

import pytest

from pipeline.deliver.delivery import DeliveryError, RefusedError
from pipeline.deliver.targets import ForbiddenTargetError, HttpTarget, check_address, resolve
from schemas.partyoutputs import Output
from tests.kit.receivers import endpoint

NET = ipaddress.ip_network

FORBIDDEN = [
    "127.0.0.1", "127.8.8.8", "::1", "0.0.0.0", "::", "10.0.0.1", "172.16.9.9", "192.168.1.1",
    "169.254.169.254", "100.64.0.1", "fe80::1", "fe80::1%eth0", "fc00::1", "224.0.0.1", "ff02::1",
    "255.255.255.255", "192.0.2.1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
    "2002:a00:1::1", "198.18.0.1",
]  # fmt: skip


@pytest.mark.parametrize("address", FORBIDDEN)
def test_an_address_that_is_not_public_is_forbidden(address: str) -> None:
    with pytest.raises(ForbiddenTargetError):
        check_address(address, ())


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_a_public_address_is_not(address: str) -> None:
    check_address(address, ())


def test_a_network_that_is_allowed_allows_itself_alone() -> None:
    check_address("127.0.0.1", [NET("127.0.0.0/8")])
    check_address("::ffff:127.0.0.1", [NET("127.0.0.0/8")])
    for other in ("10.0.0.1", "::1"):
        with pytest.raises(ForbiddenTargetError):
            check_address(other, [NET("127.0.0.0/8")])


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f.1", "017700000001"])
def test_other_spellings_of_loopback_are_found(host: str) -> None:
    with pytest.raises(DeliveryError):
        asyncio.run(resolve(host, 80, ()))


def test_one_forbidden_address_among_others_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 80)) for a in ("8.8.8.8", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    with pytest.raises(ForbiddenTargetError, match=r"10\.0\.0\.1"):
        asyncio.run(resolve("mixed.example", 80, ()))


def post(url: str, *networks: str) -> bytes:
    async def once() -> bytes:
        output = Output("one", "webhook", url=url, allow=tuple(NET(each) for each in networks))
        target = HttpTarget(output)
        try:
            return await target.post(url, b"{}", {})
        finally:
            await target.reset()

    return asyncio.run(once())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.1"])
def test_nothing_is_sent_to_loopback_unless_it_is_allowed(host: str) -> None:
    with endpoint() as receiver:
        with pytest.raises(DeliveryError):
            post(f"http://{host}:{receiver.port}/")
        assert receiver.requests == []
        assert post(f"http://127.0.0.1:{receiver.port}/x", "127.0.0.0/8")
        assert [request.path for request in receiver.requests] == ["/x"]


def test_a_name_is_asked_for_at_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebinding: public when it is looked at, loopback when it is connected to."""
    asked: list[str] = []

    def rebound(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    with endpoint() as receiver:
        monkeypatch.setattr(socket, "getaddrinfo", rebound)
        with pytest.raises(DeliveryError, match="not a public address"):
            post(f"http://rebound.example:{receiver.port}/")
        assert asked == ["rebound.example"]
        assert receiver.requests == []


def test_no_redirect_is_followed_and_no_proxy_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with endpoint() as other, endpoint() as receiver:
        monkeypatch.setenv("http_proxy", other.url)
        monkeypatch.setenv("HTTP_PROXY", other.url)
        receiver.answer = lambda _: (307, {"Location": other.url}, "")
        with pytest.raises(DeliveryError, match=r"307.*not followed"):
            post(receiver.url, "127.0.0.0/8")
        assert (len(receiver.requests), other.requests) == (1, [])


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, DeliveryError) for status in (500, 503, 429, 401, 404)),
        *((status, RefusedError) for status in (400, 410, 413, 422)),
    ],
)
def test_a_status_says_whether_to_try_again(status: int, kind: type[Exception]) -> None:
    with endpoint() as receiver:
        receiver.answer = lambda _: (status, {"Retry-After": "7"}, "no" * 10_000)
        with pytest.raises(kind) as told:
            post(receiver.url, "127.0.0.0/8")
    assert len(str(told.value)) < 200
    if isinstance(told.value, DeliveryError):
        assert told.value.retry_after_s == 7


def test_nobody_there_is_to_be_tried_again() -> None:
    with endpoint() as receiver:
        port = receiver.port
    with pytest.raises(DeliveryError):
        post(f"http://127.0.0.1:{port}/", "127.0.0.0/8")
