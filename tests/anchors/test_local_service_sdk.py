"""The unmodified Hiero SDK against the local service, for each call that the service answers."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hiero_sdk_python import (
    AccountId,
    Client,
    PrivateKey,
    ResponseCode,
    TopicCreateTransaction,
    TopicDeleteTransaction,
    TopicId,
    TopicInfoQuery,
    TopicMessageQuery,
    TopicMessageSubmitTransaction,
)
from hiero_sdk_python.address_book.node_address import NodeAddress
from hiero_sdk_python.exceptions import PrecheckError, ReceiptStatusError

from anchors.hedera.chain import verify_segment
from anchors.hedera.mirror import Mirror


@pytest.fixture
def client(local_ledger: Any) -> Iterator[Client]:
    client = Client.for_network({local_ledger.grpc_address: AccountId(0, 0, 3)}, "attestream-test")
    client.network.mirror_address = local_ledger.grpc_address
    key = PrivateKey.from_bytes_ed25519(local_ledger.key.private_bytes_raw())
    client.set_operator(AccountId(0, 0, 2), key)
    client.set_min_backoff(0.01)
    yield client
    client.close()


def create_topic(client: Client, **fields: Any) -> TopicId:
    receipt = TopicCreateTransaction(**fields).execute(client, validate_status=True)
    return receipt.topic_id


def test_message_receipt_record_and_info(client: Client, local_ledger: Any) -> None:
    topic = create_topic(client, memo="anchors", submit_key=client.operator_public_key)
    response = TopicMessageSubmitTransaction(topic_id=topic, message=b"root-1").execute(
        client, wait_for_receipt=False
    )
    receipt = response.get_receipt(client, validate_status=True)
    assert receipt.topic_sequence_number == 1
    record = response.get_record(client)
    assert record.transaction_hash == response.hash
    assert record.receipt.topic_running_hash == receipt.topic_running_hash
    info = TopicInfoQuery(topic_id=topic).execute(client)
    assert (info.memo, info.sequence_number) == ("anchors", 1)
    assert info.running_hash == receipt.topic_running_hash
    assert info.submit_key.to_bytes_raw() == client.operator_public_key.to_bytes_raw()
    shown = list(Mirror(local_ledger.config).messages(str(topic), 0))
    assert verify_segment(str(topic), None, shown).running_hash == receipt.topic_running_hash


def test_chunked_message_and_subscription(client: Client, local_ledger: Any) -> None:
    topic = create_topic(client)
    received: list[Any] = []
    complete = threading.Event()

    def on_message(message: Any) -> None:
        received.append(message)
        if len(received) == 3:
            complete.set()

    TopicMessageSubmitTransaction(topic_id=topic, message=b"before").execute(client, validate_status=True)
    subscription = TopicMessageQuery(
        topic_id=topic, start_time=datetime.fromtimestamp(0, UTC), chunking_enabled=True
    ).subscribe(client, on_message)
    large = bytes(range(256)) * 10
    receipts = TopicMessageSubmitTransaction(topic_id=topic, message=large).execute_all(
        client, validate_status=True
    )
    assert [receipt.topic_sequence_number for receipt in receipts] == [2, 3, 4]
    TopicMessageSubmitTransaction(topic_id=topic, message=b"after").execute(client, validate_status=True)
    assert complete.wait(20)
    subscription.cancel()
    assert [bytes(message.contents) for message in received] == [b"before", large, b"after"]
    chunks = list(Mirror(local_ledger.config).messages(str(topic), 1))[:3]
    assert [(chunk.chunk_number, chunk.chunk_total) for chunk in chunks] == [(1, 3), (2, 3), (3, 3)]
    assert len({chunk.initial_transaction_id for chunk in chunks}) == 1
    assert b"".join(chunk.message for chunk in chunks) == large


def test_subscription_ends_at_its_limit_and_time(client: Client) -> None:
    topic = create_topic(client)
    for text in ("one", "two", "three"):
        TopicMessageSubmitTransaction(topic_id=topic, message=text).execute(client, validate_status=True)
    for query in (
        TopicMessageQuery(topic_id=topic, start_time=datetime.fromtimestamp(0, UTC), limit=2),
        TopicMessageQuery(
            topic_id=topic,
            start_time=datetime.fromtimestamp(0, UTC),
            end_time=datetime.fromtimestamp(1, UTC),
        ),
    ):
        received: list[Any] = []
        ended = threading.Event()
        query.set_completion_handler(ended.set)
        query.subscribe(client, received.append)
        assert ended.wait(20)
        assert len(received) == (2 if query._limit else 0)


def test_wrong_submit_key_fails_at_consensus(client: Client) -> None:
    stranger = PrivateKey.generate_ed25519()
    topic = create_topic(client, submit_key=stranger.public_key())
    submission = TopicMessageSubmitTransaction(topic_id=topic, message=b"x")
    with pytest.raises(ReceiptStatusError) as caught:
        submission.execute(client, validate_status=True)
    assert caught.value.status == ResponseCode.INVALID_SIGNATURE
    signed = TopicMessageSubmitTransaction(topic_id=topic, message=b"x").freeze_with(client).sign(stranger)
    assert signed.execute(client, validate_status=True).topic_sequence_number == 1


def test_unknown_topic_fails_at_consensus(client: Client) -> None:
    receipt = TopicMessageSubmitTransaction(topic_id=TopicId(0, 0, 9_999), message=b"x").execute(client)
    assert receipt.status == ResponseCode.INVALID_TOPIC_ID
    with pytest.raises(PrecheckError) as caught:
        TopicInfoQuery(topic_id=TopicId(0, 0, 9_999)).execute(client)
    assert caught.value.status == ResponseCode.INVALID_TOPIC_ID


def test_a_deleted_topic_takes_no_message_and_keeps_its_history(client: Client, local_ledger: Any) -> None:
    kept = create_topic(client)
    with pytest.raises(ReceiptStatusError) as caught:
        TopicDeleteTransaction(topic_id=kept).execute(client, validate_status=True)
    assert caught.value.status == ResponseCode.UNAUTHORIZED
    topic = create_topic(client, admin_key=client.operator_public_key)
    TopicMessageSubmitTransaction(topic_id=topic, message=b"x").execute(client, validate_status=True)
    TopicDeleteTransaction(topic_id=topic).execute(client, validate_status=True)
    receipt = TopicMessageSubmitTransaction(topic_id=topic, message=b"y").execute(client)
    assert receipt.status == ResponseCode.INVALID_TOPIC_ID
    mirror = Mirror(local_ledger.config)
    assert mirror.topic_info(str(topic)).deleted
    assert [message.message for message in mirror.messages(str(topic), 0)] == [b"x"]


def test_another_key_than_the_payers_is_refused(client: Client) -> None:
    client.set_operator(AccountId(0, 0, 2), PrivateKey.generate_ed25519())
    with pytest.raises(PrecheckError) as caught:
        create_topic(client)
    assert caught.value.status == ResponseCode.INVALID_SIGNATURE


def test_the_sdk_reads_the_mirrors_node_list(local_ledger: Any) -> None:
    answer = Mirror(local_ledger.config)._get("/network/nodes?limit=100&order=desc")
    nodes = [NodeAddress._from_dict(node) for node in answer["nodes"]]
    assert [str(node._account_id) for node in nodes] == ["0.0.3", "0.0.4"]
    assert str(nodes[0]._addresses[0]) == local_ledger.grpc_address
