"""A local consensus service with one operator, and transactions built field by field."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hiero_sdk_python.hapi.services import (
    basic_types_pb2,
    consensus_submit_message_pb2,
    duration_pb2,
    timestamp_pb2,
    transaction_contents_pb2,
    transaction_pb2,
)

from anchors.hedera.config import HederaConfig
from anchors.hedera.keys import create_operator_key, load_operator_key
from anchors.hedera.server import ServerHandle, serve

OPERATOR = "0.0.2"
NODES = ("0.0.3", "0.0.4")
NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class LocalLedger:
    """A running service and what it takes to use it."""

    handle: ServerHandle
    config: HederaConfig
    key: Ed25519PrivateKey
    db_path: Path

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.handle.grpc_port}"


@pytest.fixture
def operator_key_path(tmp_path: Path) -> Path:
    path = tmp_path / "operator.key"
    create_operator_key(path)
    return path


@pytest.fixture
def local_ledger(tmp_path: Path, operator_key_path: Path) -> Iterator[LocalLedger]:
    key = load_operator_key(operator_key_path)
    db_path = tmp_path / "ledger.db"
    handle = serve(db_path, operators={OPERATOR: key.public_key().public_bytes_raw()}, nodes=NODES)
    config = HederaConfig(
        operator_account=OPERATOR,
        operator_key_path=operator_key_path,
        mirror_url=f"http://127.0.0.1:{handle.rest_port}",
        nodes={f"127.0.0.1:{handle.grpc_port}": NODES[0]},
        mirror_margin_s=0,
    )
    try:
        yield LocalLedger(handle, config, key, db_path)
    finally:
        handle.stop()


def account_proto(text: str) -> Any:
    shard, realm, number = (int(part) for part in text.split("."))
    return basic_types_pb2.AccountID(shardNum=shard, realmNum=realm, accountNum=number)


@dataclass
class TransactionMaker:
    """Serialised `Transaction`s, every field of which a test may get wrong."""

    key: Ed25519PrivateKey
    now_ns: Callable[[], int] = time.time_ns

    def __call__(
        self,
        *,
        payer: str = OPERATOR,
        node: str = NODES[0],
        start_ns: int | None = None,
        duration_s: int = 120,
        memo: str = "",
        signers: tuple[Ed25519PrivateKey, ...] | None = None,
        prefix_bytes: int = 32,
        **data: Any,
    ) -> bytes:
        start_ns = self.now_ns() if start_ns is None else start_ns
        body = transaction_pb2.TransactionBody(
            transactionID=basic_types_pb2.TransactionID(
                accountID=account_proto(payer),
                transactionValidStart=timestamp_pb2.Timestamp(seconds=start_ns // NS, nanos=start_ns % NS),
            ),
            nodeAccountID=account_proto(node),
            transactionValidDuration=duration_pb2.Duration(seconds=duration_s),
            memo=memo,
            **data,
        ).SerializeToString()
        pairs = [
            basic_types_pb2.SignaturePair(
                pubKeyPrefix=key.public_key().public_bytes_raw()[:prefix_bytes], ed25519=key.sign(body)
            )
            for key in ((self.key,) if signers is None else signers)
        ]
        signed = transaction_contents_pb2.SignedTransaction(
            bodyBytes=body, sigMap=basic_types_pb2.SignatureMap(sigPair=pairs)
        )
        return bytes(
            transaction_pb2.Transaction(signedTransactionBytes=signed.SerializeToString()).SerializeToString()
        )

    def message(self, topic: int, message: bytes, **fields: Any) -> bytes:
        """A `consensusSubmitMessage`; other keywords as for any transaction."""
        chunk = fields.pop("chunk", None)
        submit = consensus_submit_message_pb2.ConsensusSubmitMessageTransactionBody(
            topicID=basic_types_pb2.TopicID(topicNum=topic), message=message, chunkInfo=chunk
        )
        return self(consensusSubmitMessage=submit, **fields)


@pytest.fixture
def make_transaction(local_ledger: LocalLedger) -> TransactionMaker:
    return TransactionMaker(local_ledger.key)
