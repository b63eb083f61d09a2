"""Outputs of a parties file: where a party's alerts go, by kind.

| kind | members beside `name` and `kind` |
|---|---|
| `webhook` | `url`, `secret`; `allow`, `ca` |
| `sse` | `listen`; `secret`, `certificate`, `key` |
| `hec` | `url`, `secret`; `index`, `allow`, `ca` |
| `syslog` | `address`; `sd_id`, `allow`, `ca`, `certificate`, `key` |
| `alertmanager` | `url`; `secret`, `allow`, `ca` |

`allow` lists networks (CIDR) to which an output may go although they are not public: without it an output
cannot be made to speak with what is behind the deployment's own walls. Plain `http` is for those alone.
"""

import ipaddress
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from schemas.errors import FormatError
from schemas.members import Members

MAX_FILE_BYTES = 1 << 20
MAX_NETWORKS = 32
MAX_TEXT = 1024
MAX_PORT = 65535
DEFAULT_SD_ID = "attestream@32473"
"""32473 is the enterprise number for examples (RFC 5612): name your own where it matters."""

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,127}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9.:-]{1,253}", re.ASCII)
_SD_ID = re.compile(r"[!#-<>-\\^-~]{1,24}@[0-9]{1,7}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_KINDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "webhook": (("url", "secret"), ("allow", "ca")),
    "sse": (("listen",), ("secret", "certificate", "key")),
    "hec": (("url", "secret"), ("index", "allow", "ca")),
    "syslog": (("address",), ("sd_id", "allow", "ca", "certificate", "key")),
    "alertmanager": (("url",), ("secret", "allow", "ca")),
}
"""Required and further members."""
KINDS = tuple(_KINDS)


class PartyError(FormatError):
    """A parties file breaks the format; the message names the member."""


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is: in an environment variable, or in a file. Never the secret."""

    env: str = ""
    file: str = ""

    def __str__(self) -> str:
        return f"${self.env}" if self.env else self.file


@dataclass(frozen=True, slots=True)
class Output:
    """One way by which a party is told; which members are set depends on `kind`."""

    name: str
    kind: str
    url: str = ""
    address: tuple[str, int] | None = None
    """Host and port of a syslog receiver."""
    listen: tuple[str, int] | None = None
    """Where an SSE server listens."""
    secret: SecretRef | None = None
    allow: tuple[IpNetwork, ...] = ()
    ca: str = ""
    """File of certificates to believe; empty: the system's."""
    certificate: str = ""
    key: str = ""
    index: str = ""
    sd_id: str = DEFAULT_SD_ID

    @property
    def target(self) -> str:
        """Where it goes, for a person."""
        if self.url:
            return self.url
        host, port = self.address or self.listen or ("", 0)
        return f"{host}:{port}"


def parse_output(found: Members) -> Output:
    """Read an output; raises PartyError."""
    kind = found.text("kind")
    if kind not in _KINDS:
        raise found.fault("kind", f"is none of {', '.join(KINDS)}")
    required, further = _KINDS[kind]
    found.only(("name", "kind", *required, *further))
    output = Output(
        name=name_of(found, ()),
        kind=kind,
        url=_url(found) if "url" in required else "",
        address=_place(found, "address") if "address" in required else None,
        listen=_place(found, "listen") if "listen" in required else None,
        secret=_secret(found, required),
        allow=_networks(found),
        ca=_path(found, "ca"),
        certificate=_path(found, "certificate"),
        key=_path(found, "key"),
        index=_optional(found, "index"),
        sd_id=_optional(found, "sd_id") or DEFAULT_SD_ID,
    )
    _check(found, output)
    return output


def _check(found: Members, output: Output) -> None:
    if bool(output.certificate) != bool(output.key):
        raise found.fault("certificate", "and key go together")
    if output.url.startswith("http:") and not output.allow:
        raise found.fault("url", "is plain http, which is for networks named in allow only")
    if output.kind == "syslog" and not _SD_ID.fullmatch(output.sd_id):
        raise found.fault("sd_id", "is not name@enterprise-number (RFC 5424, section 6.3.2)")
    if output.listen is not None and not is_loopback(output.listen[0]):
        # Whoever reaches it could read the stream, and on the way it could be read and changed.
        if output.secret is None:
            raise found.fault("secret", "is missing: a listener that is not on loopback needs one")
        if not output.certificate:
            raise found.fault("certificate", "is missing: a listener that is not on loopback needs TLS")


def is_loopback(host: str) -> bool:
    """Tell whether a host to listen on is this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def name_of(found: Members, reserved: Collection[str]) -> str:
    """Return a name that can be part of a topic's and of a group's name."""
    name = found.text("name")
    if not NAME.fullmatch(name):
        raise found.fault("name", "is not 1 to 40 of a-z, 0-9 and inner hyphens")
    if name in reserved:
        raise found.fault("name", f"must not be {name}")
    return name


def texts(found: Members, name: str, most: int) -> tuple[str, ...]:
    """Return a list of texts; empty where it is not there, and never an empty one that is."""
    if name not in found:
        return ()
    values = found.texts(name, most)
    if not values:
        # It would read as nobody, and mean everybody.
        raise found.fault(name, "is empty: leave it out for everything")
    return tuple(values)


def _optional(found: Members, name: str) -> str:
    if name not in found:
        return ""
    text = found.text(name)
    if not text or len(text) > MAX_TEXT or _CONTROL.search(text):
        raise found.fault(name, f"is not a text of 1 to {MAX_TEXT} characters without control characters")
    return text


def _path(found: Members, name: str) -> str:
    path = _optional(found, name)
    if path and not path.startswith("/"):
        raise found.fault(name, "is not an absolute path")
    return path


def _url(found: Members) -> str:
    url = found.text("url")
    try:
        parts = urlsplit(url)
        is_fine = parts.scheme in ("https", "http") and bool(_HOST.fullmatch(parts.hostname or ""))
        is_fine = is_fine and (parts.port is None or parts.port > 0)
    except ValueError:
        is_fine = False
        parts = urlsplit("")
    if not is_fine or len(url) > MAX_TEXT or not url.isascii() or _CONTROL.search(url) or " " in url:
        raise found.fault("url", "is not an http(s) URL in ASCII with a host")
    if parts.username is not None or parts.password is not None:
        raise found.fault("url", "holds a user name or password: a secret is named, never written")
    if parts.fragment:
        raise found.fault("url", "has a fragment, which is never sent")
    return url


def _place(found: Members, name: str) -> tuple[str, int]:
    text = found.text(name)
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not _HOST.fullmatch(host) or not re.fullmatch("[0-9]{1,5}", port, re.ASCII):
        raise found.fault(name, "is not HOST:PORT")
    least = 0 if name == "listen" else 1
    if not least <= int(port) <= MAX_PORT:
        raise found.fault(name, f"has a port that is not from {least} to {MAX_PORT}")
    return host, int(port)


def _secret(found: Members, required: Collection[str]) -> SecretRef | None:
    if "secret" not in found and "secret" not in required:
        return None
    inner = found.child("secret")
    inner.only(("env", "file"))
    if ("env" in inner) == ("file" in inner):
        raise found.fault("secret", 'is neither {"env": NAME} nor {"file": PATH}')
    if "file" in inner:
        return SecretRef(file=_path(inner, "file"))
    variable = inner.text("env")
    if not _VARIABLE.fullmatch(variable):
        raise inner.fault("env", "is not the name of an environment variable")
    return SecretRef(env=variable)


def _networks(found: Members) -> tuple[IpNetwork, ...]:
    networks: list[Any] = []
    for text in texts(found, "allow", MAX_NETWORKS):
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError:
            raise found.fault(
                "allow", f"has {text[:64]!a}, which is no network such as 10.1.0.0/16"
            ) from None
    return tuple(networks)
