"""Where an output may connect to: public addresses, and networks that the parties file allows by name.

An output's URL is somebody's wish. Without this, one that resolves to a loopback or inner address would make
us speak with what only we can reach (server-side request forgery). So every address that a name has is
checked when it is about to be connected to, the connection goes to the address that was checked, no redirect
is followed, and no proxy of the environment is used.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from pipeline.deliver.delivery import DeliveryError, RefusedError
from schemas.partyoutputs import IpNetwork, Output

TIMEOUT_S = 15.0
CONNECT_S = 5.0
MAX_ANSWER_BYTES = 2048
MAX_RETRY_AFTER_S = 300.0
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_REDIRECTS = range(300, 400)
_LATER = frozenset({401, 403, 404, 407, 408, 409, 421, 425, 429})
"""Client errors that an operator of the receiver mends, or that pass: the alert itself is not at fault."""


class ForbiddenTargetError(DeliveryError):
    """An output would go to an address that is neither public nor allowed."""


def check_address(address: str, allow: Iterable[IpNetwork]) -> None:
    """Raise ForbiddenTargetError for an address that is neither public nor in `allow`."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    inner = _embedded(found)
    networks = list(allow)
    for each in (found, *inner):
        is_public = each.is_global and not each.is_multicast
        if not is_public and not any(each in net for net in networks if net.version == each.version):
            raise ForbiddenTargetError(f"{address} is not a public address and no allowed network has it")


def _embedded(address: Any) -> list[ipaddress.IPv4Address]:
    """List the IPv4 addresses to which an IPv6 address leads through a translator."""
    if not isinstance(address, ipaddress.IPv6Address):
        return []
    found = [address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in found if each is not None]


async def resolve(host: str, port: int, allow: Iterable[IpNetwork]) -> list[tuple[int, str]]:
    """Return family and address of each place that a host has, all checked; raises DeliveryError."""
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise DeliveryError(f"{host} has no address: {error.strerror or error}") from error
    places = list(dict.fromkeys((int(family), str(where[0])) for family, _, _, _, where in found))
    for _, address in places:
        # One address that is forbidden among others is a trap, not a choice.
        check_address(address, allow)
    return places


class CheckedResolver(AbstractResolver):
    """aiohttp asks it before each connection, and connects to what it answers."""

    def __init__(self, allow: Iterable[IpNetwork]) -> None:
        self._allow = tuple(allow)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Resolve and check a host; a literal address never comes here."""
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=found, proto=0, flags=socket.AI_NUMERICHOST
            )
            for found, address in await resolve(host, port, self._allow)
            if family in (socket.AF_UNSPEC, found)
        ]

    async def close(self) -> None:
        """Nothing is held."""


def tls_context(output: Output) -> ssl.SSLContext:
    """Return how an output verifies its receiver; raises DeliveryError for files that cannot be used."""
    try:
        context = ssl.create_default_context(cafile=output.ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if output.certificate:
            context.load_cert_chain(output.certificate, output.key)
    except OSError as error:  # ssl.SSLError is one
        raise DeliveryError(f"certificates of output {output.name}: {error}") from error
    return context


class HttpTarget:
    """Posts to one URL, in connections that are kept while all goes well."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> bytes:
        """Return the beginning of a good answer; raises DeliveryError or RefusedError."""
        self._check_literal(url)
        try:
            async with self._opened().post(url, data=body, headers=headers, allow_redirects=False) as answer:
                head = await answer.content.read(MAX_ANSWER_BYTES)
                if 200 <= answer.status < 300:
                    return head
                raise _denial(answer.status, answer.headers.get("Retry-After", ""), head)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise DeliveryError(f"{type(error).__name__}: {error}") from error

    async def reset(self) -> None:
        """Drop the connections; the next post makes new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _check_literal(self, url: str) -> None:
        try:
            address = str(ipaddress.ip_address((urlsplit(url).hostname or "").partition("%")[0]))
        except ValueError:
            return  # a name, which the resolver checks
        check_address(address, self._output.allow)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=CheckedResolver(self._output.allow),
                use_dns_cache=False,
                ssl=tls_context(self._output),
                limit=4,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S, sock_connect=CONNECT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                headers={"User-Agent": "attestream"},
            )
        return self._session


def _denial(status: int, retry_after: str, head: bytes) -> DeliveryError | RefusedError:
    said = head[:120].decode("ascii", "replace")
    why = f"HTTP {status}" + (f": {said!a}" if said else "")
    if status in _REDIRECTS:
        return DeliveryError(f"{why} (redirects are not followed)")
    if status >= 500 or status in _LATER:
        after = min(float(retry_after), MAX_RETRY_AFTER_S) if retry_after.isdecimal() else None
        return DeliveryError(why, after)
    return RefusedError(why)
