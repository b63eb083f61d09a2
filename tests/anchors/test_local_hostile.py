"""Random and broken bytes at every door of the local service: an answer each time, and it goes on serving."""

import random
import socket
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from hiero_sdk_python.hapi.mirror import consensus_service_pb2 as mirror_pb2
from hiero_sdk_python.hapi.services import (
    basic_types_pb2,
    consensus_create_topic_pb2,
    query_pb2,
    response_pb2,
    timestamp_pb2,
    transaction_get_receipt_pb2,
    transaction_response_pb2,
)
from hiero_sdk_python.response_code import ResponseCode

from anchors.hedera.local.grpc_services import MAX_SUBSCRIPTIONS

TRANSACTIONS = ("createTopic", "submitMessage", "deleteTopic")
QUERIES = (
    "proto.ConsensusService/getTopicInfo",
    "proto.CryptoService/getTransactionReceipts",
    "proto.CryptoService/getTxRecordByTxID",
)
SUBSCRIBE = "/com.hedera.mirror.api.proto.ConsensusService/subscribeTopic"
SEED = 20_240_229


@pytest.fixture
def channel(local_ledger: Any) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(local_ledger.grpc_address) as channel:
        yield channel


@pytest.fixture
def still_works(channel: grpc.Channel, make_transaction: Any) -> Iterator[None]:
    """Whatever a test sends, the service takes a good transaction afterwards."""
    yield
    create = consensus_create_topic_pb2.ConsensusCreateTopicTransactionBody()
    answer = channel.unary_unary("/proto.ConsensusService/createTopic", bytes, bytes)(
        make_transaction(consensusCreateTopic=create), timeout=10
    )
    assert answer == b""


def noise(count: int) -> Iterator[bytes]:
    source = random.Random(SEED)
    for _ in range(count):
        yield source.randbytes(source.choice((0, 1, 7, 60, 500, 5_000)))


@pytest.mark.usefixtures("still_works")
def test_random_transactions_get_a_precheck_code(channel: grpc.Channel) -> None:
    for method in TRANSACTIONS:
        call = channel.unary_unary(f"/proto.ConsensusService/{method}", bytes, bytes)
        for data in noise(60):
            answer = transaction_response_pb2.TransactionResponse.FromString(call(data, timeout=10))
            assert answer.nodeTransactionPrecheckCode in (
                ResponseCode.INVALID_TRANSACTION,
                ResponseCode.INVALID_TRANSACTION_BODY,
            )


@pytest.mark.usefixtures("still_works")
def test_mutated_transactions_get_a_precheck_code(channel: grpc.Channel, make_transaction: Any) -> None:
    source = random.Random(SEED)
    call = channel.unary_unary("/proto.ConsensusService/submitMessage", bytes, bytes)
    for _ in range(200):
        request = bytearray(make_transaction.message(1_001, b"message"))
        for _ in range(source.choice((1, 1, 3))):
            request[source.randrange(len(request))] ^= source.randint(1, 255)
        answer = transaction_response_pb2.TransactionResponse.FromString(call(bytes(request), timeout=10))
        assert ResponseCode(answer.nodeTransactionPrecheckCode) is not None


@pytest.mark.usefixtures("still_works")
def test_random_queries_are_refused(channel: grpc.Channel) -> None:
    for method in QUERIES:
        call = channel.unary_unary(f"/{method}", bytes, bytes)
        for data in noise(40):
            with pytest.raises(grpc.RpcError) as caught:
                call(data, timeout=10)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.usefixtures("still_works")
def test_receipt_queries_with_impossible_ids(channel: grpc.Channel) -> None:
    call = channel.unary_unary("/proto.CryptoService/getTransactionReceipts", bytes, bytes)
    for account, seconds, nanos in ((-1, 1, 1), (2, -1, 1), (2, 2**63 - 1, 5), (2, 1, -5), (2, 1, 2**31 - 1)):
        query = transaction_get_receipt_pb2.TransactionGetReceiptQuery(
            transactionID=basic_types_pb2.TransactionID(
                accountID=basic_types_pb2.AccountID(accountNum=account),
                transactionValidStart=timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos),
            )
        )
        request = query_pb2.Query(transactionGetReceipt=query).SerializeToString()
        answer = response_pb2.Response.FromString(call(request, timeout=10)).transactionGetReceipt
        assert answer.header.nodeTransactionPrecheckCode == ResponseCode.RECEIPT_NOT_FOUND


@pytest.mark.usefixtures("still_works")
def test_subscriptions_to_nonsense_end_with_a_status(channel: grpc.Channel) -> None:
    unknown = mirror_pb2.ConsensusTopicQuery(topicID=basic_types_pb2.TopicID(topicNum=77)).SerializeToString()
    for request, status in (
        (unknown, grpc.StatusCode.NOT_FOUND),
        (b"", grpc.StatusCode.NOT_FOUND),
        (b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            list(channel.unary_stream(SUBSCRIBE, bytes, bytes)(request, timeout=10))
        assert caught.value.code() == status


@pytest.mark.usefixtures("still_works")
def test_subscriptions_cannot_take_all_workers(channel: grpc.Channel, make_transaction: Any) -> None:
    create = consensus_create_topic_pb2.ConsensusCreateTopicTransactionBody()
    submit = channel.unary_unary("/proto.ConsensusService/createTopic", bytes, bytes)
    assert submit(make_transaction(consensusCreateTopic=create), timeout=10) == b""
    query = mirror_pb2.ConsensusTopicQuery(topicID=basic_types_pb2.TopicID(topicNum=1_001))
    streams: list[Any] = [
        channel.unary_stream(SUBSCRIBE, bytes, bytes)(query.SerializeToString(), timeout=60)
        for _ in range(40)
    ]
    deadline_s = time.monotonic() + 20
    while sum(stream.done() for stream in streams) < 40 - MAX_SUBSCRIPTIONS:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    refused = [stream for stream in streams if stream.done()]
    assert {stream.code() for stream in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert len(refused) == 40 - MAX_SUBSCRIPTIONS
    for stream in streams:
        stream.cancel()


@pytest.mark.usefixtures("still_works")
def test_oversized_requests_are_turned_away(channel: grpc.Channel) -> None:
    call = channel.unary_unary("/proto.ConsensusService/submitMessage", bytes, bytes)
    answer = transaction_response_pb2.TransactionResponse.FromString(call(bytes(7_000), timeout=10))
    assert answer.nodeTransactionPrecheckCode == ResponseCode.TRANSACTION_OVERSIZE
    with pytest.raises(grpc.RpcError) as caught:
        call(bytes(1_000_000), timeout=10)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("door", ["grpc_port", "rest_port"])
@pytest.mark.usefixtures("still_works")
def test_raw_bytes_on_the_sockets(local_ledger: Any, door: str) -> None:
    port = getattr(local_ledger.handle, door)
    requests = [
        b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01" * 50,
    ]
    requests += [b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200]
    for data in (*requests, *noise(20)):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.makefile("rb").read()
            except OSError:
                continue
            if door == "rest_port" and answer.startswith(b"HTTP/"):
                assert answer.split()[1][:1] in (b"2", b"4"), (data[:60], answer[:200])
