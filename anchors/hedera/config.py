"""Settings of the Hedera client."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from anchors.errors import LedgerConfigError
from anchors.hedera.ids import EntityId

HOSTED_NETWORKS = ("mainnet", "testnet", "previewnet")
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")
_REPOINTED_NETWORKS = ("localhost", "solo", "local")
"""The SDK sends clients of networks of these names to addresses of its own."""
_MAX_VALID_DURATION_S = 180
CLOCK_MARGIN_S = 3.0
MAX_NODES = 3


@dataclass(frozen=True, slots=True)
class HederaConfig:
    """Where the network is, and who pays. Checked on creation: raises LedgerConfigError."""

    operator_account: str
    """The account that pays, `0.0.2`."""
    operator_key_path: Path
    """See `anchors.hedera.keys`."""
    mirror_url: str
    """`https://testnet.mirrornode.hedera.com`; without `/api/v1`."""
    network: str = "attestream-local"
    """A public network's name, or any other together with `nodes`."""
    nodes: Mapping[str, str] = field(default_factory=dict)
    """`host:port` to node account, reached without TLS: all that is sent is signed and becomes public.

    Empty for a public network: the nodes of its own address book, over TLS.
    """
    mirror_api_key: str | None = field(default=None, repr=False)
    """Sent as `x-api-key`, for commercial mirrors."""
    valid_duration_s: int = 120
    """How long a prepared transaction may be resubmitted."""
    clock_margin_s: float = CLOCK_MARGIN_S
    """How far valid start lies in the past, so that a node whose clock is behind accepts it at once."""
    mirror_margin_s: float = 3.0
    """Taken off the mirror's word on completeness: its replicas need not agree to the second."""
    max_nodes: int = MAX_NODES
    """A transaction is signed for this many nodes, drawn at random."""
    call_timeout_s: float = 5.0
    """Bound of one call to one node, and of one request to the mirror."""
    submit_timeout_s: float = 15.0
    """Bound of one `submit` over all nodes."""

    def __post_init__(self) -> None:
        """Refuse what could only fail later."""
        try:
            EntityId.parse(self.operator_account)
            for account in self.nodes.values():
                EntityId.parse(account)
            mirror = urlsplit(self.mirror_url)
            usable = mirror.scheme in ("http", "https") and mirror.hostname and mirror.port != 0
        except ValueError as error:
            raise LedgerConfigError(str(error)) from error
        if not usable:
            raise LedgerConfigError(f"the mirror's address {self.mirror_url!r} must be http(s)://host[:port]")
        if self.network in _REPOINTED_NETWORKS:
            raise LedgerConfigError(f"{self.network!r} means fixed addresses to the SDK; choose another name")
        if not self.nodes and self.network not in HOSTED_NETWORKS:
            raise LedgerConfigError(f"the network {self.network!r} is not a public one and needs nodes")
        if not 1 <= self.valid_duration_s <= _MAX_VALID_DURATION_S:
            raise LedgerConfigError(f"valid_duration_s must be 1 to {_MAX_VALID_DURATION_S}")
        if not 0 <= self.clock_margin_s < self.valid_duration_s:
            raise LedgerConfigError("clock_margin_s must not be negative, and below valid_duration_s")
        if not 0 < self.call_timeout_s <= self.submit_timeout_s:
            raise LedgerConfigError("call_timeout_s must be above 0 and not above submit_timeout_s")
