"""The local consensus service as a server: gRPC of a node and its mirror, and the mirror's REST.

It is a local stand-in with the real interface: one process, durable, that the unmodified Hiero SDK and
any mirror client talk to. It is no public ledger, and says so in its log and at `/` of its REST port.
"""

import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from anchors.errors import LedgerConfigError
from anchors.hedera.ids import EntityId
from anchors.hedera.local.consensus import Consensus
from anchors.hedera.local.grpc_services import service_handlers
from anchors.hedera.local.http_server import MirrorHttpServer
from anchors.hedera.local.rest import STAND_IN, MirrorApi
from anchors.hedera.local.store import Store

DEFAULT_NODES = ("0.0.3",)
WORKER_THREADS = 32
MAX_REQUEST_BYTES = 64 * 1_024
"""Ten times what a transaction may have; gRPC turns larger requests away by itself."""
STOP_GRACE_S = 2.0
_POLL_S = 0.05

log = structlog.get_logger("anchors.hedera.server")


@dataclass(frozen=True, slots=True)
class ServerHandle:
    """A running service, on 127.0.0.1."""

    grpc_port: int
    rest_port: int
    stop: Callable[[], None]
    """End open calls within two seconds and close the database."""


def serve(
    db_path: Path,
    grpc_port: int = 0,
    rest_port: int = 0,
    *,
    operators: Mapping[str, bytes],
    nodes: Sequence[str] = DEFAULT_NODES,
) -> ServerHandle:
    """Start the local stand-in with the real interface, and return once both ports answer.

    `operators` maps each account that may pay for transactions to its raw Ed25519 public key; `nodes`
    are the node accounts it answers for. Port 0 takes a free one. Raises LedgerStoreError for a
    database that cannot be used, LedgerConfigError for a port or an account that cannot.
    """
    try:
        accounts = {EntityId.parse(account): key for account, key in operators.items()}
        node_accounts = [EntityId.parse(node) for node in nodes]
    except ValueError as error:
        raise LedgerConfigError(str(error)) from error
    store = Store(db_path)
    try:
        return _start(store, Consensus(store, accounts, node_accounts), grpc_port, rest_port)
    except BaseException:
        store.close()
        raise


def _start(store: Store, consensus: Consensus, grpc_port: int, rest_port: int) -> ServerHandle:
    stopping = threading.Event()
    node = grpc.server(
        ThreadPoolExecutor(WORKER_THREADS, thread_name_prefix="ledger-grpc"),
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", MAX_REQUEST_BYTES)],
    )
    node.add_generic_rpc_handlers(service_handlers(consensus, stopping))
    try:
        bound_grpc_port = node.add_insecure_port(f"127.0.0.1:{grpc_port}")
    except RuntimeError as error:
        raise LedgerConfigError(f"gRPC port {grpc_port} cannot be used: {error}") from error
    try:
        mirror = MirrorHttpServer(rest_port, MirrorApi(consensus, bound_grpc_port))
    except OSError as error:
        node.stop(None)
        raise LedgerConfigError(f"REST port {rest_port} cannot be used: {error}") from error
    node.start()
    threading.Thread(target=mirror.serve_forever, args=(_POLL_S,), name="ledger-rest", daemon=True).start()

    def stop() -> None:
        stopping.set()
        mirror.shutdown()
        mirror.server_close()
        node.stop(STOP_GRACE_S).wait()
        store.close()

    rest_port = mirror.server_address[1]
    log.info("local consensus service ready", grpc_port=bound_grpc_port, rest_port=rest_port, note=STAND_IN)
    return ServerHandle(bound_grpc_port, rest_port, stop)


def run(
    db_path: Path,
    grpc_port: int,
    rest_port: int,
    operators: Mapping[str, bytes],
    on_ready: Callable[[int, int], None],
    *,
    nodes: Sequence[str] = DEFAULT_NODES,
) -> None:
    """Serve until SIGTERM or SIGINT; to be called from a process's main thread.

    `on_ready` is called with the gRPC and REST ports once both answer. Raises as `serve` does.
    """
    ended = threading.Event()
    previous = {
        number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        handle = serve(db_path, grpc_port, rest_port, operators=operators, nodes=nodes)
        try:
            on_ready(handle.grpc_port, handle.rest_port)
            ended.wait()
        finally:
            handle.stop()
            log.info("local consensus service stopped")
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
