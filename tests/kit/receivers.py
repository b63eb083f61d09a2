"""Receivers of alerts: an HTTP endpoint that can be told to fail, Debian's Alertmanager and rsyslog."""

import asyncio
import datetime as dt
import ipaddress
import json
import os
import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.kit.deployment import wait_for

LOOPBACK = "127.0.0.0/8"


@dataclass
class Request:
    """What an endpoint was sent."""

    path: str
    headers: dict[str, str]
    body: str


@dataclass
class Endpoint:
    """An HTTP endpoint in a thread; `answer` decides by the request, and None means 200."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    answer: Callable[[Request], tuple[int, dict[str, str], str] | None] = lambda _request: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def endpoint(port: int = 0) -> Iterator[Endpoint]:
    """Serve on loopback until the end of the block."""
    made = Endpoint()
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    stop = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        got = Request(request.path_qs, dict(request.headers), (await request.read()).decode())
        made.requests.append(got)
        status, headers, text = made.answer(got) or (200, {}, '{"text":"Success","code":0}')
        return web.Response(status=status, headers=headers, text=text)

    async def serve() -> None:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{tail:.*}", handle)
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
        made.port = runner.addresses[0][1]
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(20)
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def program(name: str, package: str) -> str:
    """Find a Debian program; tests install nothing themselves."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        pytest.fail(f"{name} is not installed: apt-get install {package} (the CI script does)")
    return found


@contextmanager
def running(argv: list[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("ab") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@dataclass
class Alertmanager:
    """A real Alertmanager."""

    url: str

    def alerts(self) -> list[dict[str, Any]]:
        """Return what it holds as active."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)
            return found


@contextmanager
def alertmanager(folder: Path) -> Iterator[Alertmanager]:
    """Run Debian's Alertmanager on loopback, with nobody to notify."""
    config = folder / "alertmanager.yml"
    config.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    port = free_port()
    argv = [
        program("prometheus-alertmanager", "prometheus-alertmanager"), f"--config.file={config}",
        f"--storage.path={folder / 'am'}", f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]  # fmt: skip
    made = Alertmanager(f"http://127.0.0.1:{port}")

    def is_ready() -> bool:
        try:
            return made.alerts() == []
        except OSError:
            return False

    with running(argv, folder / "alertmanager.log"):
        wait_for(is_ready, "Alertmanager answers")
        yield made


@dataclass
class Certificates:
    """A certificate for loopback and who to believe for it."""

    ca: Path
    certificate: Path
    key: Path


def make_certificates(folder: Path) -> Certificates:
    """Make an authority and a certificate of 127.0.0.1 and localhost."""
    now = dt.datetime.now(dt.UTC)

    def built(name: str, issuer: str, public: Any, signer: Any, *, is_ca: bool) -> x509.Certificate:
        def named(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        places = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(issuer))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(places), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
            )
            .sign(signer, hashes.SHA256())
        )

    root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    made = Certificates(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    pem = serialization.Encoding.PEM
    made.ca.write_bytes(built("test ca", "test ca", root.public_key(), root, is_ca=True).public_bytes(pem))
    made.certificate.write_bytes(
        built("localhost", "test ca", leaf.public_key(), root, is_ca=False).public_bytes(pem)
    )
    made.key.write_bytes(
        leaf.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


@dataclass
class Rsyslog:
    """A real rsyslog that takes TLS and writes each message as a line of JSON."""

    port: int
    file: Path

    def messages(self) -> list[dict[str, str]]:
        if not self.file.exists():
            return []
        lines = self.file.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


@contextmanager
def rsyslog(folder: Path, certificates: Certificates, port: int = 0) -> Iterator[Rsyslog]:
    """Run Debian's rsyslog with its GnuTLS driver on loopback."""
    made = Rsyslog(port or free_port(), folder / "received.json")
    config = folder / "rsyslog.conf"
    config.write_text(
        f"""
global(workDirectory="{folder}" maxMessageSize="64k"
  defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="{certificates.ca}"
  defaultNetstreamDriverCertFile="{certificates.certificate}"
  defaultNetstreamDriverKeyFile="{certificates.key}")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
template(name="json" type="list" option.jsonf="on") {{
  property(outname="sd" name="structured-data" format="jsonf")
  property(outname="app" name="app-name" format="jsonf")
  property(outname="host" name="hostname" format="jsonf")
  property(outname="severity" name="syslogseverity-text" format="jsonf")
  property(outname="facility" name="syslogfacility" format="jsonf")
  property(outname="text" name="msg" format="jsonf")
}}
ruleset(name="all") {{ action(type="omfile" file="{made.file}" template="json" asyncWriting="off") }}
input(type="imtcp" port="{made.port}" address="127.0.0.1" ruleset="all")
"""
    )
    argv = [program("rsyslogd", "rsyslog rsyslog-gnutls"), "-n", "-f", str(config), "-i", str(folder / "pid")]

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", made.port)) == 0

    with running(argv, folder / "rsyslog.log"):
        wait_for(listens, f"rsyslog listens: {(folder / 'rsyslog.log').read_text()}")
        yield made
