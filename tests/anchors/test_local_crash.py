"""Kill -9 of the service in the middle of submissions: what it acknowledged is there, once, afterwards."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hiero_sdk_python.hapi.services import consensus_create_topic_pb2, transaction_response_pb2
from hiero_sdk_python.response_code import ResponseCode

from anchors.errors import LedgerConfigError, LedgerStoreError
from anchors.hedera.chain import verify_segment
from anchors.hedera.config import HederaConfig
from anchors.hedera.local.store import Store
from anchors.hedera.mirror import Mirror
from anchors.hedera.server import serve

ROOT = Path(__file__).parents[2]
TOPIC = 1_001
PROGRAM = """
import json, pathlib, sys
import structlog
from anchors.hedera.server import run
structlog.configure(processors=[structlog.processors.JSONRenderer()])
settings = json.loads(sys.argv[1])
ready = pathlib.Path(settings["ready"])
def on_ready(grpc_port, rest_port):
    ready.with_suffix(".new").write_text(json.dumps([grpc_port, rest_port]))
    ready.with_suffix(".new").rename(ready)
run(pathlib.Path(settings["db"]), *settings["ports"], {"0.0.2": bytes.fromhex(settings["key"])}, on_ready)
"""


class ServiceProcess:
    """The service as a process of its own, on the same database and ports after each start."""

    def __init__(self, folder: Path, key: Ed25519PrivateKey) -> None:
        self.db_path = folder / "process.db"
        self._ready = folder / "ready.json"
        self._key = key.public_key().public_bytes_raw().hex()
        self.ports = [0, 0]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._ready.unlink(missing_ok=True)
        settings = {
            "db": str(self.db_path),
            "ready": str(self._ready),
            "ports": self.ports,
            "key": self._key,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(settings)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        deadline_s = time.monotonic() + 60
        while not self._ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                self.process.kill()
                pytest.fail(f"the service did not start: {self.process.communicate()[1].decode()}")
            time.sleep(0.02)
        self.ports = json.loads(self._ready.read_text())

    def end(self, signal_number: int) -> tuple[int, bytes, bytes]:
        assert self.process is not None
        self.process.send_signal(signal_number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[Callable[[Ed25519PrivateKey], ServiceProcess]]:
    started: list[ServiceProcess] = []

    def start(key: Ed25519PrivateKey) -> ServiceProcess:
        service = ServiceProcess(tmp_path, key)
        started.append(service)
        service.start()
        return service

    yield start
    for service in started:
        if service.process is not None and service.process.poll() is None:
            service.process.kill()
            service.process.communicate(timeout=60)


def send(port: int, method: str, requests: list[bytes], answered: Callable[[bytes, str], None]) -> None:
    """Send one after the other until the service is gone."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(f"/proto.ConsensusService/{method}", bytes, bytes)
        for request in requests:
            try:
                data = call(request, timeout=10)
            except grpc.RpcError:
                return
            code = transaction_response_pb2.TransactionResponse.FromString(data).nodeTransactionPrecheckCode
            answered(request, ResponseCode(code).name)


class Acknowledgements:
    """Notes the messages whose requests were answered with OK; says when there are enough of them."""

    def __init__(self, message_of: dict[bytes, bytes], enough_count: int) -> None:
        self.messages: set[bytes] = set()
        self.enough = threading.Event()
        self._message_of = message_of
        self._enough_count = enough_count

    def __call__(self, request: bytes, code: str) -> None:
        assert code == "OK"
        self.messages.add(self._message_of[request])
        if len(self.messages) >= self._enough_count:
            self.enough.set()


def test_kill_in_the_middle_of_submissions(
    start_service: Callable[[Ed25519PrivateKey], ServiceProcess], make_transaction: Any, tmp_path: Path
) -> None:
    make_transaction.key = Ed25519PrivateKey.generate()
    service = start_service(make_transaction.key)
    create = consensus_create_topic_pb2.ConsensusCreateTopicTransactionBody()
    codes: list[str] = []
    send(
        service.ports[0],
        "createTopic",
        [make_transaction(consensusCreateTopic=create)],
        lambda _, code: codes.append(code),
    )
    assert codes == ["OK"]

    acknowledged: set[bytes] = set()
    everything: set[bytes] = set()
    for kill in range(3):
        batches = [
            {
                make_transaction.message(TOPIC, message): message
                for message in (b"%d-%d-%d" % (kill, worker, number) for number in range(200))
            }
            for worker in range(4)
        ]
        everything.update(message for batch in batches for message in batch.values())
        acknowledgements = Acknowledgements({k: v for batch in batches for k, v in batch.items()}, 60)
        with ThreadPoolExecutor(4) as pool:
            for batch in batches:
                pool.submit(send, service.ports[0], "submitMessage", list(batch), acknowledgements)
            assert acknowledgements.enough.wait(60)
            code, _, _ = service.end(signal.SIGKILL)
        assert code == -signal.SIGKILL
        acknowledged.update(acknowledgements.messages)
        service.start()
        placed = history(service, tmp_path)
        assert len(placed) == len(set(placed))
        assert acknowledged <= set(placed) <= everything

        # The same bytes again, as the anchor stage does: what was placed is a duplicate, the rest is placed.
        outcomes: dict[bytes, str] = {}
        for batch in batches:
            send(service.ports[0], "submitMessage", list(batch), outcomes.__setitem__)
        for batch in batches:
            for request, message in batch.items():
                assert outcomes[request] == ("DUPLICATE_TRANSACTION" if message in placed else "OK")
        acknowledged.update(everything)
        placed = history(service, tmp_path)
        assert sorted(placed) == sorted(everything)


def history(service: ServiceProcess, folder: Path) -> list[bytes]:
    """All messages by the mirror, the chain recomputed over them."""
    config = HederaConfig(
        "0.0.2", folder / "no.key", f"http://127.0.0.1:{service.ports[1]}", nodes={"x:1": "0.0.3"}
    )
    topic_id = f"0.0.{TOPIC}"
    messages = list(Mirror(config).messages(topic_id, 0))
    assert verify_segment(topic_id, None, messages).sequence == len(messages)
    return [message.message for message in messages]


def test_sigterm_stops_cleanly_with_structured_lines_only(
    start_service: Callable[[Ed25519PrivateKey], ServiceProcess],
) -> None:
    service = start_service(Ed25519PrivateKey.generate())
    with urllib.request.urlopen(f"http://127.0.0.1:{service.ports[1]}/", timeout=10) as response:
        assert "stands in" in json.load(response)["service"]
    code, out, err = service.end(signal.SIGTERM)
    assert (code, err) == (0, b"")
    events = [json.loads(line)["event"] for line in out.splitlines()]
    assert events == ["local consensus service ready", "local consensus service stopped"]
    service.start()
    assert service.end(signal.SIGINT)[0] == 0


def test_a_database_has_one_service(tmp_path: Path) -> None:
    handle = serve(tmp_path / "ledger.db", operators={})
    try:
        with pytest.raises(LedgerStoreError, match="in use"):
            serve(tmp_path / "ledger.db", operators={})
    finally:
        handle.stop()
    serve(tmp_path / "ledger.db", operators={}).stop()


def test_taken_ports_and_bad_accounts_are_named(tmp_path: Path) -> None:
    handle = serve(tmp_path / "one.db", operators={})
    try:
        with pytest.raises(LedgerConfigError, match="gRPC port"):
            serve(tmp_path / "two.db", grpc_port=handle.grpc_port, operators={})
        with pytest.raises(LedgerConfigError, match="REST port"):
            serve(tmp_path / "two.db", rest_port=handle.rest_port, operators={})
    finally:
        handle.stop()
    with pytest.raises(LedgerConfigError, match="entity id"):
        serve(tmp_path / "two.db", operators={"me": bytes(32)})
    serve(tmp_path / "two.db", operators={}).stop()


def test_every_commit_is_synced(tmp_path: Path) -> None:
    """WAL with `synchronous=NORMAL`, SQLite's usual advice, may lose the last commits to a power cut."""
    store = Store(tmp_path / "ledger.db")
    pragmas = [
        store._writer.execute(f"pragma {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
    ]
    store.close()
    assert pragmas == ["wal", 2]


def test_files_that_are_no_database_of_ours(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(LedgerStoreError, match="cannot be used"):
        Store(garbage)
    foreign = tmp_path / "foreign.db"
    connection = sqlite3.connect(foreign)
    connection.execute("create table patients(name text)")
    connection.close()
    with pytest.raises(LedgerStoreError, match="another program"):
        Store(foreign)


def test_a_state_that_does_not_end_in_its_last_message_is_found(
    local_ledger: Any, make_transaction: Any
) -> None:
    create = consensus_create_topic_pb2.ConsensusCreateTopicTransactionBody()
    port = local_ledger.handle.grpc_port
    codes: list[str] = []
    send(
        port,
        "createTopic",
        [make_transaction(consensusCreateTopic=create)],
        lambda _, code: codes.append(code),
    )
    requests = [make_transaction.message(TOPIC, message) for message in (b"1", b"2")]
    send(port, "submitMessage", requests, lambda _, code: codes.append(code))
    assert codes == ["OK"] * 3
    local_ledger.handle.stop()
    for damage in ("delete from message where sequence = 2", "update topic set sequence = 1"):
        copy = local_ledger.db_path.with_name("damaged.db")
        copy.write_bytes(local_ledger.db_path.read_bytes())
        connection = sqlite3.connect(copy)
        connection.execute(damage)
        connection.commit()
        connection.close()
        with pytest.raises(LedgerStoreError, match="damaged"):
            Store(copy)
