"""Which ledger carries this log's anchors: the settings turned into something that opens it.

The one place in `pipeline` that knows a ledger by name; the anchor stage sees `anchors.ledger.Ledger` only.
A public Hedera network is named by its mirror (`https://testnet.mirrornode.hedera.com`); without any settings
it is the local stack's stand-in.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from urllib.parse import urlsplit

from anchors.hcs27 import build_topic_memo
from anchors.hedera.chain import verified
from anchors.hedera.client import HederaLedger, create_topic
from anchors.hedera.config import CLOCK_MARGIN_S, HOSTED_NETWORKS, LOOPBACK_HOSTS, MAX_NODES, HederaConfig
from anchors.hedera.ids import EntityId
from anchors.hedera.mirror import Mirror
from anchors.ledger import ChainPosition, Ledger, LedgerMessage
from pipeline.settings import Settings, UsageError
from pipeline.trust import load_trust, operator_key_path, trust_path

TOPIC_TTL_S = 60
"""How long a reader of the topic may rely on what it read; a new root comes every interval."""
LOCAL_NETWORK = "attestream-local"
LOCAL_NODE = "0.0.3"
_PUBLIC_MIRRORS = {f"{name}.mirrornode.hedera.com": name for name in HOSTED_NETWORKS}


@dataclass(frozen=True, slots=True)
class LedgerAccess:
    """How to reach the ledger, and who pays."""

    config: HederaConfig

    @property
    def kind(self) -> str:
        """Ledger and network, as `Ledger.name`."""
        return f"hedera:{self.config.network}"

    @property
    def payer(self) -> str:
        """The account that pays, in the form in which the ledger names it."""
        return str(EntityId.parse(self.config.operator_account))

    @property
    def mirror(self) -> str:
        """Who states what is on the record."""
        return self.config.mirror_url

    def create_topic(self) -> str:
        """Create a topic that only we may write to; raises as `anchors.hedera.client.create_topic`."""
        return create_topic(self.config, build_topic_memo(TOPIC_TTL_S))

    def open(self, topic: str) -> Ledger:
        """Open one topic; sends nothing. Raises LedgerConfigError for a key or topic id of no use."""
        return HederaLedger(self.config, topic)

    def history(self, topic: str, after: ChainPosition | None, limit: int) -> Iterator[LedgerMessage]:
        """Read a topic's verified messages as a stranger, who has no key; raises as `Ledger.history`."""
        messages = Mirror(self.config).messages(topic, after.sequence if after else 0)
        return islice(verified(topic, after, messages), limit)


def known_topic(settings: Settings, kind: str, remembered: tuple[str, str] | None) -> str:
    """Return the topic used so far on this ledger, empty for none.

    `remembered` is the anchor stage's own (kind, topic); the trust file helps when that was lost.
    """
    trusted = load_trust(trust_path(settings)).ledger
    for known_kind, topic in (remembered or ("", ""), (trusted.kind, trusted.topic)):
        if known_kind == kind:
            return topic
    return ""


def ledger_access(settings: Settings) -> LedgerAccess:
    """Read the settings; raises UsageError when they name no ledger, LedgerConfigError for a bad name.

    Settings name nodes as {account: host:port}; nodes and mirror not named are those of the local stack.
    """
    host = urlsplit(settings.ledger_mirror_url).hostname or ""
    nodes = {address: account for account, address in settings.ledger_nodes.items()}
    mirror_url = settings.ledger_mirror_url
    if not mirror_url or (not nodes and host not in _PUBLIC_MIRRORS):
        ports = settings.stack_file().get("ledger") or {}
        if "grpc_port" not in ports or "rest_port" not in ports:
            raise UsageError(
                f"no ledger known for {settings.data_dir}: start the local one with `attestream up`, or set "
                "ATTESTREAM_LEDGER_MIRROR_URL to a public Hedera network's, and for others "
                "ATTESTREAM_LEDGER_NODES too"
            )
        nodes = nodes or {f"127.0.0.1:{ports['grpc_port']}": LOCAL_NODE}
        mirror_url = mirror_url or f"http://127.0.0.1:{ports['rest_port']}"
    is_local = (urlsplit(mirror_url).hostname or "") in LOOPBACK_HOSTS
    config = HederaConfig(
        operator_account=settings.ledger_operator,
        operator_key_path=operator_key_path(settings),
        mirror_url=mirror_url,
        network=LOCAL_NETWORK if is_local else _PUBLIC_MIRRORS.get(host, host),
        nodes=nodes,
        valid_duration_s=settings.ledger_valid_s,
        clock_margin_s=min(CLOCK_MARGIN_S, settings.ledger_valid_s / 4),
        call_timeout_s=settings.ledger_call_timeout_s,
        submit_timeout_s=MAX_NODES * settings.ledger_call_timeout_s,
    )
    # The local service is one process: it has no replicas that may disagree.
    return LedgerAccess(replace(config, mirror_margin_s=0.0) if is_local else config)
