"""The mirror's REST answers: paths, filters, paging and errors as the public mirror gives them."""

import http.client
import json
from typing import Any

import grpc
import pytest
from hiero_sdk_python.hapi.services import basic_types_pb2, consensus_create_topic_pb2

from anchors.hedera.ids import EntityId, format_timestamp, mirror_transaction_id, parse_timestamp
from anchors.hedera.local.precheck import check_form
from anchors.hedera.local.rest import STAND_IN

TOPIC = 1_001


def call(channel: grpc.Channel, method: str, request: bytes) -> bytes:
    return bytes(channel.unary_unary(f"/proto.ConsensusService/{method}", bytes, bytes)(request, timeout=10))


@pytest.fixture
def seven_messages(local_ledger: Any, make_transaction: Any) -> list[bytes]:
    """Topic 1001 with messages b"0" to b"6"; the requests that carried them."""
    submit_key = basic_types_pb2.Key(ed25519=local_ledger.key.public_key().public_bytes_raw())
    create = consensus_create_topic_pb2.ConsensusCreateTopicTransactionBody(memo="m", submitKey=submit_key)
    requests = []
    with grpc.insecure_channel(local_ledger.grpc_address) as channel:
        assert call(channel, "createTopic", make_transaction(consensusCreateTopic=create)) == b""
        for number in range(7):
            requests.append(make_transaction.message(TOPIC, b"%d" % number, memo="a memo"))
            assert call(channel, "submitMessage", requests[-1]) == b""
    return requests


def get(local_ledger: Any, path: str, method: str = "GET") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", local_ledger.handle.rest_port, timeout=10)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null")
    finally:
        connection.close()


def sequences(local_ledger: Any, query: str) -> list[int]:
    status, answer = get(local_ledger, f"/api/v1/topics/0.0.{TOPIC}/messages{query}")
    assert status == 200, answer
    return [message["sequence_number"] for message in answer["messages"]]


def test_the_index_says_what_this_is(local_ledger: Any) -> None:
    status, answer = get(local_ledger, "/")
    assert status == 200
    assert answer["service"] == STAND_IN
    assert "stands in" in STAND_IN


@pytest.mark.usefixtures("seven_messages")
def test_sequence_filters_order_and_limit(local_ledger: Any) -> None:
    for query, expected in {
        "": [1, 2, 3, 4, 5, 6, 7],
        "?limit=3": [1, 2, 3],
        "?limit=1000": [1, 2, 3, 4, 5, 6, 7],
        "?order=desc&limit=2": [7, 6],
        "?sequencenumber=4": [4],
        "?sequencenumber=eq:4": [4],
        "?sequencenumber=gt:4": [5, 6, 7],
        "?sequencenumber=gte:4&order=DESC": [7, 6, 5, 4],
        "?sequencenumber=lt:4": [1, 2, 3],
        "?sequencenumber=lte:4": [1, 2, 3, 4],
        "?sequencenumber=gt:2&sequencenumber=lt:5": [3, 4],
        "?sequencenumber=gt:5&sequencenumber=lt:2": [],
        "?sequencenumber=gt:9223372036854775807": [],
        "?sequencenumber=lt:0": [],
        "?encoding=base64": [1, 2, 3, 4, 5, 6, 7],
    }.items():
        assert sequences(local_ledger, query) == expected, query


@pytest.mark.usefixtures("seven_messages")
def test_timestamp_filters(local_ledger: Any) -> None:
    _, answer = get(local_ledger, f"/api/v1/topics/0.0.{TOPIC}/messages")
    times = [message["consensus_timestamp"] for message in answer["messages"]]
    assert sequences(local_ledger, f"?timestamp=gt:{times[2]}") == [4, 5, 6, 7]
    assert sequences(local_ledger, f"?timestamp=gte:{times[2]}&timestamp=lt:{times[4]}") == [3, 4]
    assert sequences(local_ledger, f"?timestamp={times[2]}") == [3]
    just_before = format_timestamp(parse_timestamp(times[2]) - 1)
    assert sequences(local_ledger, f"?timestamp=lte:{just_before}&order=desc") == [2, 1]
    assert sequences(local_ledger, f"?timestamp=gt:{times[2]}&sequencenumber=lt:6") == [4, 5]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?limit=3", [1, 2, 3, 4, 5, 6, 7]),
        ("?limit=7", [1, 2, 3, 4, 5, 6, 7]),
        ("?limit=2&order=desc", [7, 6, 5, 4, 3, 2, 1]),
        ("?limit=1&sequencenumber=gt:2", [3, 4, 5, 6, 7]),
    ],
)
@pytest.mark.usefixtures("seven_messages")
def test_next_links_lead_through_everything_once(local_ledger: Any, query: str, expected: list[int]) -> None:
    path, seen = f"/api/v1/topics/0.0.{TOPIC}/messages{query}", []
    while path:
        status, answer = get(local_ledger, path)
        assert status == 200
        seen += [message["sequence_number"] for message in answer["messages"]]
        path = answer["links"]["next"]
    assert seen == expected


def test_one_message_topic_and_transaction(local_ledger: Any, seven_messages: list[bytes]) -> None:
    status, message = get(local_ledger, f"/api/v1/topics/0.0.{TOPIC}/messages/3")
    assert (status, message["message"], message["payer_account_id"]) == (200, "Mg==", "0.0.2")
    status, topic = get(local_ledger, f"/api/v1/topics/{TOPIC}")
    assert (status, topic["memo"], topic["deleted"], topic["admin_key"]) == (200, "m", False, None)
    assert topic["submit_key"] == {
        "_type": "ED25519",
        "key": local_ledger.key.public_key().public_bytes_raw().hex(),
    }
    checked = check_form(seven_messages[2], "consensusSubmitMessage", [EntityId(0, 0, 3)])
    status, answer = get(local_ledger, f"/api/v1/transactions/{mirror_transaction_id(checked.id)}")
    (row,) = answer["transactions"]
    assert row["result"] == "SUCCESS"
    assert row["name"] == "CONSENSUSSUBMITMESSAGE"
    assert row["entity_id"] == f"0.0.{TOPIC}"
    assert row["consensus_timestamp"] == message["consensus_timestamp"]
    assert row["memo_base64"] == "YSBtZW1v"


@pytest.mark.usefixtures("seven_messages")
def test_the_newest_block_closes_behind_every_message(local_ledger: Any) -> None:
    status, answer = get(local_ledger, "/api/v1/blocks?limit=1&order=desc")
    assert status == 200
    (block,) = answer["blocks"]
    assert parse_timestamp(block["timestamp"]["from"]) < parse_timestamp(block["timestamp"]["to"])


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/api/v1/topics/0.0.1001/messages?limit=0", 400, "Invalid parameter: limit"),
        ("/api/v1/topics/0.0.1001/messages?limit=-1", 400, "Invalid parameter: limit"),
        ("/api/v1/topics/0.0.1001/messages?limit=x", 400, "Invalid parameter: limit"),
        ("/api/v1/topics/0.0.1001/messages?order=up", 400, "Invalid parameter: order"),
        ("/api/v1/topics/0.0.1001/messages?encoding=hex", 400, "Invalid parameter: encoding"),
        ("/api/v1/topics/0.0.1001/messages?sequencenumber=ne:1", 400, "Invalid parameter: sequencenumber"),
        ("/api/v1/topics/0.0.1001/messages?sequencenumber=gt:", 400, "Invalid parameter: sequencenumber"),
        (f"/api/v1/topics/1001/messages?sequencenumber={2**63}", 400, "Invalid parameter: sequencenumber"),
        ("/api/v1/topics/0.0.1001/messages?timestamp=gt:now", 400, "Invalid parameter: timestamp"),
        ("/api/v1/topics/0.0.1001/messages?timestamp=9999999999", 400, "Invalid parameter: timestamp"),
        ("/api/v1/topics/0.0.1001/messages?colour=red", 400, "Unknown query parameter: colour"),
        ("/api/v1/topics/0.0.x/messages", 400, "Invalid parameter: topic.id"),
        (f"/api/v1/topics/{2**63}", 400, "Invalid parameter: topic.id"),
        ("/api/v1/topics/1001/messages/0", 400, "Invalid parameter: sequencenumber"),
        ("/api/v1/topics/1001/messages/1", 404, "Not found"),
        ("/api/v1/topics/0.0.1001", 404, "Not found"),
        ("/api/v1/topics/1.0.1001", 404, "Not found"),
        ("/api/v1/transactions/0.0.2@1.2", 400, "Invalid parameter: transactionId"),
        ("/api/v1/transactions/0.0.2-1-000000002", 404, "Not found"),
        ("/api/v1/accounts/0.0.2", 404, "Not found"),
        ("/etc/passwd", 404, "Not found"),
        ("/%00", 404, "Not found"),
        ("/api/v1/topics/1001/messages?" + "a=1&" * 30, 400, "Invalid parameter: query"),
    ],
)
def test_refusals(local_ledger: Any, path: str, status: int, message: str) -> None:
    assert get(local_ledger, path) == (status, {"_status": {"messages": [{"message": message}]}})


def test_unknown_topics_have_no_messages(local_ledger: Any) -> None:
    assert get(local_ledger, "/api/v1/topics/0.0.9/messages") == (
        200,
        {"links": {"next": None}, "messages": []},
    )
    assert get(local_ledger, "/api/v1/topics/7.0.9/messages")[1]["messages"] == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "NONSENSE"])
def test_methods_other_than_get(local_ledger: Any, method: str) -> None:
    assert get(local_ledger, "/", method)[0] == 405
