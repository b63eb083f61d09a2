"""The one place that holds a client of the Hiero SDK.

The SDK takes over a second to import, so it is imported when first needed. It shuts a node out for 16 s
and longer after one failed call; a client that has just failed is therefore thrown away, and the next
call starts with a new one.
"""

import os
from typing import Any

from anchors.errors import LedgerConfigError
from anchors.hedera.config import LOOPBACK_HOSTS, HederaConfig
from anchors.hedera.keys import load_operator_key

_MIN_BACKOFF_S = 0.1
_NO_GRPC_PROXY = "no_grpc_proxy"


class SdkSession:
    """A lazily built SDK client with the operator's key. Raises LedgerConfigError for a bad key file."""

    def __init__(self, config: HederaConfig) -> None:
        self._config = config
        self._key = load_operator_key(config.operator_key_path)
        self._client: Any = None

    def client(self) -> Any:
        """The client; building one for a public network asks its mirror for the address book."""
        if self._client is None:
            try:
                self._client = self._build()
            except ValueError as error:
                raise LedgerConfigError(f"the Hiero SDK refuses its settings: {error}") from error
        return self._client

    def operator_key(self) -> Any:
        """The operator's key as the SDK's type."""
        from hiero_sdk_python import PrivateKey

        return PrivateKey.from_bytes_ed25519(self._key.private_bytes_raw())

    def reset(self) -> None:
        """Forget the client, and with it which nodes it holds to be unhealthy."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _build(self) -> Any:
        from hiero_sdk_python import AccountId, Client, Network
        from hiero_sdk_python.logger.log_level import LogLevel

        config = self._config
        if config.nodes:
            _bypass_proxy_for_loopback(config.nodes)
            accounts = {address: AccountId.from_string(account) for address, account in config.nodes.items()}
            client = Client.for_network(accounts, config.network)
            client.set_transport_security(enabled=False)
        else:
            client = Client(Network(config.network))
        # The SDK prints to standard output; its failures reach us as exceptions anyway.
        client.logger.set_level(LogLevel.DISABLED)
        client.set_grpc_deadline(config.call_timeout_s)
        client.set_request_timeout(config.submit_timeout_s)
        client.set_min_backoff(_MIN_BACKOFF_S)
        client.set_operator(AccountId.from_string(config.operator_account), self.operator_key())
        return client


def _bypass_proxy_for_loopback(addresses: Any) -> None:
    """A proxy cannot reach this machine, but gRPC uses `http_proxy`, and the SDK takes no channel option.

    The variable set here is read by gRPC alone, when a channel is made.
    """
    hosts = {address.rpartition(":")[0] for address in addresses} & set(LOOPBACK_HOSTS)
    if not hosts:
        return
    current = os.environ.get(_NO_GRPC_PROXY) or os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    excepted = [host for host in current.split(",") if host]
    os.environ[_NO_GRPC_PROXY] = ",".join(excepted + sorted(hosts - set(excepted)))
