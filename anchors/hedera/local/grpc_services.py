"""The gRPC face of the local service, on the protobufs that the SDK brings.

`proto.ConsensusService` and `proto.CryptoService` as a node serves them, and the mirror's
`com.hedera.mirror.api.proto.ConsensusService`. Requests are taken as raw bytes and parsed here, so that
garbage gets an answer of ours instead of a stack trace from the framework.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError
from hiero_sdk_python.hapi.mirror import consensus_service_pb2 as mirror_pb2
from hiero_sdk_python.hapi.services import (
    basic_types_pb2,
    consensus_get_topic_info_pb2,
    consensus_submit_message_pb2,
    query_header_pb2,
    query_pb2,
    response_header_pb2,
    response_pb2,
    timestamp_pb2,
    transaction_get_receipt_pb2,
    transaction_get_record_pb2,
    transaction_record_pb2,
    transaction_response_pb2,
)
from hiero_sdk_python.response_code import ResponseCode

from anchors.hedera.ids import INT64_MAX, NANOS_PER_SECOND, format_transaction_id
from anchors.hedera.local.consensus import Consensus, find_topic
from anchors.hedera.local.precheck import account_of
from anchors.hedera.local.store import Message, StoredTransaction
from anchors.hedera.running_hash import RUNNING_HASH_VERSION

LEDGER_ID = b"\x03"
"""What local Hedera networks call themselves."""
MAX_SUBSCRIPTIONS = 16
"""Each holds a worker thread; what is left of the pool answers all other calls."""
_PAGE = 100
_POLL_S = 1.0

log = structlog.get_logger("anchors.hedera.local")
Handler = Callable[[bytes, grpc.ServicerContext], Any]


def service_handlers(
    consensus: Consensus, stopping: threading.Event
) -> "tuple[grpc.GenericRpcHandler[Any, Any], ...]":
    """The handlers to add to a `grpc.Server`. `stopping` ends the open subscriptions."""
    queries = _Queries(consensus)
    subscriptions = _Subscriptions(consensus, stopping)
    return (
        _service(
            "proto.ConsensusService",
            {
                "createTopic": _transaction(consensus, "consensusCreateTopic"),
                "deleteTopic": _transaction(consensus, "consensusDeleteTopic"),
                "submitMessage": _transaction(consensus, "consensusSubmitMessage"),
                "getTopicInfo": queries.topic_info,
            },
        ),
        _service(
            "proto.CryptoService",
            {"getTransactionReceipts": queries.receipt, "getTxRecordByTxID": queries.record},
        ),
        grpc.method_handlers_generic_handler(
            "com.hedera.mirror.api.proto.ConsensusService",
            {
                "subscribeTopic": grpc.unary_stream_rpc_method_handler(
                    subscriptions.subscribe, response_serializer=_serialise
                )
            },
        ),
    )


def _service(name: str, methods: dict[str, Handler]) -> "grpc.GenericRpcHandler[Any, Any]":
    return grpc.method_handlers_generic_handler(
        name,
        {
            method: grpc.unary_unary_rpc_method_handler(_guarded(handler), response_serializer=_serialise)
            for method, handler in methods.items()
        },
    )


def _guarded(handler: Handler) -> Handler:
    """A database that cannot be read is this service's own trouble, and worth a retry to the client."""

    def handle(request: bytes, context: grpc.ServicerContext) -> Any:
        try:
            return handler(request, context)
        except sqlite3.Error as error:
            log.error("query failed", error=str(error))
            context.abort(grpc.StatusCode.UNAVAILABLE, "the ledger's database cannot be read")

    return handle


def _serialise(message: Any) -> bytes:
    return bytes(message.SerializeToString())


def _transaction(consensus: Consensus, kind: str) -> Handler:
    def handle(request: bytes, _context: grpc.ServicerContext) -> Any:
        code = consensus.submit(request, kind)
        return transaction_response_pb2.TransactionResponse(nodeTransactionPrecheckCode=code)

    return handle


class _Queries:
    """Free of charge: the cost is stated as 0, a payment that comes along is not looked at."""

    def __init__(self, consensus: Consensus) -> None:
        self._consensus = consensus

    def topic_info(self, request: bytes, context: grpc.ServicerContext) -> Any:
        query = self._parse(request, "consensusGetTopicInfo", context)
        topic = find_topic(self._consensus.store, query.topicID)
        code = ResponseCode.OK
        if topic is None or topic.deleted_ns is not None:
            code = ResponseCode.INVALID_TOPIC_ID
        answer = consensus_get_topic_info_pb2.ConsensusGetTopicInfoResponse(header=_header(query, code))
        if topic is not None and _wants_answer(answer.header):
            answer.topicID.CopyFrom(query.topicID)
            info = answer.topicInfo
            info.memo = topic.memo
            info.runningHash = topic.running_hash
            info.sequenceNumber = topic.sequence
            info.autoRenewPeriod.seconds = topic.auto_renew_s
            info.ledger_id = LEDGER_ID
            if topic.admin_key is not None:
                info.adminKey.CopyFrom(basic_types_pb2.Key.FromString(topic.admin_key))
            if topic.submit_key is not None:
                info.submitKey.CopyFrom(basic_types_pb2.Key.FromString(topic.submit_key))
        return response_pb2.Response(consensusGetTopicInfo=answer)

    def receipt(self, request: bytes, context: grpc.ServicerContext) -> Any:
        query = self._parse(request, "transactionGetReceipt", context)
        stored = self._stored(query)
        code = ResponseCode.OK if stored else ResponseCode.RECEIPT_NOT_FOUND
        answer = transaction_get_receipt_pb2.TransactionGetReceiptResponse(header=_header(query, code))
        if stored and _wants_answer(answer.header):
            answer.receipt.CopyFrom(
                transaction_record_pb2.TransactionRecord.FromString(stored.record).receipt
            )
        return response_pb2.Response(transactionGetReceipt=answer)

    def record(self, request: bytes, context: grpc.ServicerContext) -> Any:
        query = self._parse(request, "transactionGetRecord", context)
        stored = self._stored(query)
        code = ResponseCode.OK if stored else ResponseCode.RECORD_NOT_FOUND
        answer = transaction_get_record_pb2.TransactionGetRecordResponse(header=_header(query, code))
        if stored and _wants_answer(answer.header):
            answer.transactionRecord.CopyFrom(
                transaction_record_pb2.TransactionRecord.FromString(stored.record)
            )
        return response_pb2.Response(transactionGetRecord=answer)

    def _stored(self, query: Any) -> StoredTransaction | None:
        payer = account_of(query.transactionID.accountID)
        start = query.transactionID.transactionValidStart
        if payer is None or start.seconds < 0 or not 0 <= start.nanos < NANOS_PER_SECOND:
            return None
        valid_start_ns = start.seconds * NANOS_PER_SECOND + start.nanos
        return self._consensus.fresh_record(format_transaction_id(payer, valid_start_ns))

    @staticmethod
    def _parse(request: bytes, kind: str, context: grpc.ServicerContext) -> Any:
        try:
            query = query_pb2.Query.FromString(request)
        except DecodeError:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the query cannot be parsed")
        if query.WhichOneof("query") != kind:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"this call answers queries of {kind} only")
        return getattr(query, kind)


def _header(query: Any, code: ResponseCode) -> Any:
    kind = query.header.responseType
    if kind not in (query_header_pb2.ANSWER_ONLY, query_header_pb2.COST_ANSWER):
        code = ResponseCode.NOT_SUPPORTED
    return response_header_pb2.ResponseHeader(nodeTransactionPrecheckCode=code, responseType=kind, cost=0)


def _wants_answer(header: Any) -> bool:
    return bool(
        header.nodeTransactionPrecheckCode == ResponseCode.OK
        and header.responseType == query_header_pb2.ANSWER_ONLY
    )


class _Subscriptions:
    """Streams of a topic's messages, read from the store page by page."""

    def __init__(self, consensus: Consensus, stopping: threading.Event) -> None:
        self._consensus = consensus
        self._stopping = stopping
        self._free = threading.BoundedSemaphore(MAX_SUBSCRIPTIONS)

    def subscribe(self, request: bytes, context: grpc.ServicerContext) -> Iterator[Any]:
        if not self._free.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MAX_SUBSCRIPTIONS} subscriptions are open")
        try:
            yield from self._stream(request, context)
        finally:
            self._free.release()

    def _stream(self, request: bytes, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            query = mirror_pb2.ConsensusTopicQuery.FromString(request)
        except DecodeError:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the query cannot be parsed")
        topic = find_topic(self._consensus.store, query.topicID)
        if topic is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "the topic does not exist")
        start_ns = self._consensus.closed_until_ns()
        if query.HasField("consensusStartTime"):
            start_ns = _time_ns(query.consensusStartTime)
        # The end is excluded, as on the mirror.
        end_ns = _time_ns(query.consensusEndTime) - 1 if query.HasField("consensusEndTime") else INT64_MAX
        remaining = query.limit or INT64_MAX
        while remaining and start_ns <= end_ns and context.is_active() and not self._stopping.is_set():
            seen = self._consensus.message_count
            closed_ns = self._consensus.closed_until_ns()
            page = self._consensus.store.messages(
                topic.number, min(_PAGE, remaining), time_range_ns=(start_ns, end_ns)
            )
            for message in page:
                yield _topic_response(message)
                start_ns = message.consensus_ns + 1
            remaining -= len(page)
            if not page:
                if closed_ns > end_ns:
                    return
                self._consensus.wait_for_message(seen, _POLL_S)


def _time_ns(proto: Any) -> int:
    return int(max(0, min(proto.seconds * NANOS_PER_SECOND + proto.nanos, INT64_MAX)))


def _topic_response(message: Message) -> Any:
    seconds, nanos = divmod(message.consensus_ns, NANOS_PER_SECOND)
    response = mirror_pb2.ConsensusTopicResponse(
        consensusTimestamp=timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos),
        message=message.body,
        runningHash=message.running_hash,
        sequenceNumber=message.sequence,
        runningHashVersion=RUNNING_HASH_VERSION,
    )
    if message.chunk is not None:
        response.chunkInfo.CopyFrom(
            consensus_submit_message_pb2.ConsensusMessageChunkInfo.FromString(message.chunk)
        )
    return response
