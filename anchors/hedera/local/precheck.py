"""A node's first look at a transaction: readable, for this node, in time, not oversized.

Each check answers with the response code that the network's nodes give, in their order. Whatever
arrives, the answer is a code: nothing here raises anything but `PrecheckError`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError
from hiero_sdk_python.hapi.services import transaction_contents_pb2, transaction_pb2
from hiero_sdk_python.response_code import ResponseCode

from anchors.hedera.ids import NANOS_PER_SECOND, EntityId, format_transaction_id
from anchors.hedera.local.signatures import Signatures
from anchors.ledger import MAX_MESSAGE_BYTES

MAX_TRANSACTION_BYTES = 6_144
MAX_MEMO_BYTES = 100
MIN_VALID_DURATION_S = 1
"""Public networks ask for 15; the stand-in takes less, so that an expiry can be watched."""
MAX_VALID_DURATION_S = 180


class PrecheckError(Exception):
    """The transaction is turned away before consensus; `code` is a ResponseCode."""

    def __init__(self, code: ResponseCode) -> None:
        super().__init__(code.name)
        self.code = code


@dataclass(frozen=True, slots=True)
class CheckedTransaction:
    """A transaction that is well-formed for one kind of call."""

    id: str
    """`payer@seconds.nanoseconds`."""
    payer: EntityId
    node: EntityId
    valid_start_ns: int
    valid_until_ns: int
    signed: bytes
    body: Any
    """The parsed `TransactionBody`."""
    signatures: Signatures


def check_form(request: bytes, kind: str, nodes: Collection[EntityId]) -> CheckedTransaction:
    """Parse a serialised `Transaction` sent to the call that takes bodies of `kind`.

    `kind` is the body's field, for example `consensusSubmitMessage`. Raises PrecheckError.
    """
    if len(request) > MAX_TRANSACTION_BYTES:
        raise PrecheckError(ResponseCode.TRANSACTION_OVERSIZE)
    try:
        signed = transaction_pb2.Transaction.FromString(request).signedTransactionBytes
        envelope = transaction_contents_pb2.SignedTransaction.FromString(signed)
        body = transaction_pb2.TransactionBody.FromString(envelope.bodyBytes)
    except DecodeError as error:
        raise PrecheckError(ResponseCode.INVALID_TRANSACTION) from error
    if not signed or not envelope.bodyBytes or body.WhichOneof("data") != kind:
        raise PrecheckError(ResponseCode.INVALID_TRANSACTION_BODY)

    transaction_id = body.transactionID
    if not transaction_id.HasField("accountID") or not transaction_id.HasField("transactionValidStart"):
        raise PrecheckError(ResponseCode.INVALID_TRANSACTION_ID)
    if transaction_id.scheduled or transaction_id.nonce:
        raise PrecheckError(ResponseCode.TRANSACTION_ID_FIELD_NOT_ALLOWED)
    payer = account_of(transaction_id.accountID)
    if payer is None:
        raise PrecheckError(ResponseCode.PAYER_ACCOUNT_NOT_FOUND)
    _check_text(body.memo)
    node = account_of(body.nodeAccountID)
    if node is None or node not in nodes:
        raise PrecheckError(ResponseCode.INVALID_NODE_ACCOUNT)
    start = transaction_id.transactionValidStart
    if start.seconds < 0 or not 0 <= start.nanos < NANOS_PER_SECOND:
        raise PrecheckError(ResponseCode.INVALID_TRANSACTION_START)
    duration_s = body.transactionValidDuration.seconds
    if not MIN_VALID_DURATION_S <= duration_s <= MAX_VALID_DURATION_S:
        raise PrecheckError(ResponseCode.INVALID_TRANSACTION_DURATION)
    _check_message(body)
    valid_start_ns = start.seconds * NANOS_PER_SECOND + start.nanos
    return CheckedTransaction(
        id=format_transaction_id(payer, valid_start_ns),
        payer=payer,
        node=node,
        valid_start_ns=valid_start_ns,
        valid_until_ns=valid_start_ns + duration_s * NANOS_PER_SECOND,
        signed=signed,
        body=body,
        signatures=Signatures(envelope.bodyBytes, envelope.sigMap),
    )


def check_time(transaction: CheckedTransaction, now_ns: int) -> None:
    """Refuse a transaction that is not valid yet or no longer. Raises PrecheckError."""
    if now_ns < transaction.valid_start_ns:
        raise PrecheckError(ResponseCode.INVALID_TRANSACTION_START)
    if now_ns > transaction.valid_until_ns:
        raise PrecheckError(ResponseCode.TRANSACTION_EXPIRED)


def account_of(proto: Any) -> EntityId | None:
    """The account of an `AccountID`; None for an alias or nonsense."""
    if proto.WhichOneof("account") != "accountNum":
        return None
    account = EntityId(proto.shardNum, proto.realmNum, proto.accountNum)
    return account if min(account) >= 0 else None


def _check_text(memo: str) -> None:
    if len(memo.encode()) > MAX_MEMO_BYTES:
        raise PrecheckError(ResponseCode.MEMO_TOO_LONG)
    if "\0" in memo:
        raise PrecheckError(ResponseCode.INVALID_ZERO_BYTE_IN_STRING)


def _check_message(body: Any) -> None:
    if body.WhichOneof("data") != "consensusSubmitMessage":
        return
    if not body.consensusSubmitMessage.HasField("topicID"):
        raise PrecheckError(ResponseCode.INVALID_TOPIC_ID)
    if not body.consensusSubmitMessage.message:
        raise PrecheckError(ResponseCode.INVALID_TOPIC_MESSAGE)
    if len(body.consensusSubmitMessage.message) > MAX_MESSAGE_BYTES:
        raise PrecheckError(ResponseCode.MESSAGE_SIZE_TOO_LARGE)
