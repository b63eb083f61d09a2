"""Consensus, by one node: gives each transaction its place and time, and applies it.

One lock makes the order. The clock never stands or goes back, so that no two transactions share a
time. A transaction that passes the precheck is recorded even if applying it fails; its receipt then
says why, as on the network.
"""

import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog
from hiero_sdk_python.hapi.services import (
    basic_types_pb2,
    timestamp_pb2,
    transaction_receipt_pb2,
    transaction_record_pb2,
)
from hiero_sdk_python.response_code import ResponseCode

from anchors.hedera.ids import NANOS_PER_SECOND, EntityId
from anchors.hedera.local.precheck import (
    MAX_MEMO_BYTES,
    CheckedTransaction,
    PrecheckError,
    account_of,
    check_form,
    check_time,
)
from anchors.hedera.local.signatures import is_usable_key
from anchors.hedera.local.store import Message, Store, StoredTransaction, Topic
from anchors.hedera.running_hash import RUNNING_HASH_VERSION, running_hash_v3

RECEIPT_LIFETIME_NS = 180 * NANOS_PER_SECOND

log = structlog.get_logger("anchors.hedera.local")


class _RefusedAtConsensus(Exception):  # noqa: N818 - a verdict of the ledger, not an error of ours
    def __init__(self, status: ResponseCode) -> None:
        super().__init__(status.name)
        self.status = status


@dataclass(slots=True)
class _Effects:
    """What applying a transaction changes; the receipt is filled in on the way."""

    receipt: Any
    entity: EntityId | None = None
    topic: Topic | None = None
    message: Message | None = None


class Consensus:
    """The single node's state machine over a `Store`.

    `accounts` maps each paying account to its raw Ed25519 public key; `nodes` are the node accounts
    that transactions may be addressed to. `now_ns` is the wall clock.
    """

    def __init__(
        self,
        store: Store,
        accounts: Mapping[EntityId, bytes],
        nodes: Collection[EntityId],
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.store = store
        self.nodes = tuple(nodes)
        self._accounts = dict(accounts)
        self._now_ns = now_ns
        self._lock = threading.Lock()
        self._last_ns = store.last_consensus_ns()
        self._next_topic_number = store.next_topic_number()
        self._new_message = threading.Condition()
        self.message_count = 0
        """Messages taken since the start; only for `wait_for_message`."""

    def submit(self, request: bytes, kind: str) -> ResponseCode:
        """Take a serialised `Transaction` with a body of `kind`; OK once it is durable."""
        try:
            transaction = check_form(request, kind, self.nodes)
            with self._lock:
                self._check_place(transaction)
                has_message = self._place(transaction)
        except PrecheckError as refusal:
            return refusal.code
        except sqlite3.Error as error:
            log.error("transaction could not be stored", error=str(error))
            return ResponseCode.PLATFORM_TRANSACTION_NOT_CREATED
        if has_message:
            with self._new_message:
                self.message_count += 1
                self._new_message.notify_all()
        return ResponseCode.OK

    def closed_until_ns(self) -> int:
        """A time up to which the order is final: no later transaction gets an earlier one."""
        with self._lock:
            self._last_ns = max(self._now_ns(), self._last_ns)
            return self._last_ns

    def fresh_record(self, transaction_id: str) -> StoredTransaction | None:
        """A transaction whose receipt the node still keeps: three minutes from consensus."""
        stored = self.store.transaction(transaction_id)
        if stored is None or self._now_ns() - stored.consensus_ns > RECEIPT_LIFETIME_NS:
            return None
        return stored

    def wait_for_message(self, seen_count: int, timeout_s: float) -> None:
        """Return once more messages were taken than had been at `seen_count`, or after the time."""
        with self._new_message:
            self._new_message.wait_for(lambda: self.message_count != seen_count, timeout_s)

    def _check_place(self, transaction: CheckedTransaction) -> None:
        check_time(transaction, max(self._now_ns(), self._last_ns))
        if self.store.transaction(transaction.id) is not None:
            raise PrecheckError(ResponseCode.DUPLICATE_TRANSACTION)
        payer_key = self._accounts.get(transaction.payer)
        if payer_key is None:
            raise PrecheckError(ResponseCode.PAYER_ACCOUNT_NOT_FOUND)
        if not transaction.signatures.by(payer_key):
            raise PrecheckError(ResponseCode.INVALID_SIGNATURE)

    def _place(self, transaction: CheckedTransaction) -> bool:
        consensus_ns = max(self._now_ns(), self._last_ns + 1)
        effects = _Effects(transaction_receipt_pb2.TransactionReceipt(status=ResponseCode.SUCCESS))
        name = transaction.body.WhichOneof("data")
        apply = {
            "consensusCreateTopic": self._create_topic,
            "consensusSubmitMessage": self._submit_message,
            "consensusDeleteTopic": self._delete_topic,
        }[name]
        try:
            apply(transaction, consensus_ns, effects)
        except _RefusedAtConsensus as refusal:
            effects = _Effects(transaction_receipt_pb2.TransactionReceipt(status=refusal.status))
        seconds, nanos = divmod(consensus_ns, NANOS_PER_SECOND)
        record = transaction_record_pb2.TransactionRecord(
            receipt=effects.receipt,
            transactionHash=hashlib.sha384(transaction.signed).digest(),
            consensusTimestamp=timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos),
            transactionID=transaction.body.transactionID,
            memo=transaction.body.memo,
        )
        stored = StoredTransaction(
            consensus_ns=consensus_ns,
            id=transaction.id,
            name=name.upper(),
            entity=str(effects.entity) if effects.entity else None,
            node=str(transaction.node),
            result=ResponseCode(effects.receipt.status).name,
            signed=transaction.signed,
            record=record.SerializeToString(),
        )
        self.store.append(stored, topic=effects.topic, message=effects.message)
        # Only now: a failed write must leave the state in memory at the last durable transaction.
        self._last_ns = consensus_ns
        if effects.topic is not None:
            self._next_topic_number = max(self._next_topic_number, effects.topic.number + 1)
        return effects.message is not None

    def _create_topic(self, transaction: CheckedTransaction, consensus_ns: int, effects: _Effects) -> None:
        create = transaction.body.consensusCreateTopic
        if len(create.memo.encode()) > MAX_MEMO_BYTES:
            raise _RefusedAtConsensus(ResponseCode.MEMO_TOO_LONG)
        if "\0" in create.memo:
            raise _RefusedAtConsensus(ResponseCode.INVALID_ZERO_BYTE_IN_STRING)
        for name in ("adminKey", "submitKey"):
            if create.HasField(name) and not is_usable_key(getattr(create, name)):
                raise _RefusedAtConsensus(ResponseCode.BAD_ENCODING)
        if create.HasField("adminKey") and not transaction.signatures.satisfy(create.adminKey):
            raise _RefusedAtConsensus(ResponseCode.INVALID_SIGNATURE)
        renewer = account_of(create.autoRenewAccount) if create.HasField("autoRenewAccount") else None
        topic = Topic(
            number=self._next_topic_number,
            created_ns=consensus_ns,
            memo=create.memo,
            admin_key=create.adminKey.SerializeToString() if create.HasField("adminKey") else None,
            submit_key=create.submitKey.SerializeToString() if create.HasField("submitKey") else None,
            auto_renew_s=create.autoRenewPeriod.seconds,
            auto_renew_account=str(renewer) if renewer else None,
        )
        effects.receipt.topicID.topicNum = topic.number
        effects.entity = EntityId(0, 0, topic.number)
        effects.topic = topic

    def _submit_message(self, transaction: CheckedTransaction, consensus_ns: int, effects: _Effects) -> None:
        submit = transaction.body.consensusSubmitMessage
        topic = self._living_topic(submit.topicID)
        if topic.submit_key is not None and not self._signed(transaction, topic.submit_key):
            raise _RefusedAtConsensus(ResponseCode.INVALID_SIGNATURE)
        _check_chunk(transaction)
        topic_id = EntityId(0, 0, topic.number)
        sequence = topic.sequence + 1
        running_hash = running_hash_v3(
            topic.running_hash,
            payer=transaction.payer,
            topic=topic_id,
            consensus_time_ns=consensus_ns,
            sequence=sequence,
            message=submit.message,
        )
        effects.receipt.topicSequenceNumber = sequence
        effects.receipt.topicRunningHash = running_hash
        effects.receipt.topicRunningHashVersion = RUNNING_HASH_VERSION
        effects.entity = topic_id
        effects.topic = replace(topic, sequence=sequence, running_hash=running_hash)
        effects.message = Message(
            consensus_ns=consensus_ns,
            topic=topic.number,
            sequence=sequence,
            payer=str(transaction.payer),
            body=submit.message,
            running_hash=running_hash,
            chunk=submit.chunkInfo.SerializeToString() if submit.HasField("chunkInfo") else None,
        )

    def _delete_topic(self, transaction: CheckedTransaction, consensus_ns: int, effects: _Effects) -> None:
        topic = self._living_topic(transaction.body.consensusDeleteTopic.topicID)
        if topic.admin_key is None:
            raise _RefusedAtConsensus(ResponseCode.UNAUTHORIZED)
        if not self._signed(transaction, topic.admin_key):
            raise _RefusedAtConsensus(ResponseCode.INVALID_SIGNATURE)
        effects.entity = EntityId(0, 0, topic.number)
        effects.topic = replace(topic, deleted_ns=consensus_ns)

    def _living_topic(self, topic_id: Any) -> Topic:
        topic = find_topic(self.store, topic_id)
        if topic is None or topic.deleted_ns is not None:
            raise _RefusedAtConsensus(ResponseCode.INVALID_TOPIC_ID)
        return topic

    @staticmethod
    def _signed(transaction: CheckedTransaction, key: bytes) -> bool:
        return transaction.signatures.satisfy(basic_types_pb2.Key.FromString(key))


def find_topic(store: Store, topic_id: Any) -> Topic | None:
    """The topic of a `TopicID` protobuf; this ledger has shard 0 and realm 0 only."""
    if topic_id.shardNum or topic_id.realmNum or topic_id.topicNum <= 0:
        return None
    return store.topic(topic_id.topicNum)


def _check_chunk(transaction: CheckedTransaction) -> None:
    submit = transaction.body.consensusSubmitMessage
    if not submit.HasField("chunkInfo"):
        return
    chunk = submit.chunkInfo
    if not 1 <= chunk.number <= chunk.total:
        raise _RefusedAtConsensus(ResponseCode.INVALID_CHUNK_NUMBER)
    initial, own = chunk.initialTransactionID, transaction.body.transactionID
    if account_of(initial.accountID) != transaction.payer or (chunk.number == 1 and initial != own):
        raise _RefusedAtConsensus(ResponseCode.INVALID_CHUNK_TRANSACTION_ID)
