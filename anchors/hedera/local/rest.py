"""The mirror's REST answers of the local service: what a request's path and query select, as JSON.

The paths, filters, fields, paging and errors are those of the public mirror's API, version 1. The one
addition is `/`, which says what this is.
"""

import base64
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode

from hiero_sdk_python.hapi.services import (
    basic_types_pb2,
    consensus_submit_message_pb2,
    transaction_pb2,
    transaction_record_pb2,
)
from hiero_sdk_python.hapi.services.transaction_contents_pb2 import SignedTransaction

from anchors.hedera.ids import (
    NANOS_PER_SECOND,
    EntityId,
    format_timestamp,
    mirror_transaction_id,
    parse_mirror_transaction_id,
)
from anchors.hedera.local.consensus import Consensus
from anchors.hedera.local.rest_filters import RestError, parse_filters, parse_integer
from anchors.hedera.local.store import Message, Topic
from anchors.hedera.running_hash import RUNNING_HASH_VERSION

STAND_IN = (
    "attestream's local consensus service: one process that stands in for a Hedera network, with the real "
    "interface and none of its decentralisation. Nothing here is recorded on a public ledger."
)
BLOCK_NS = 2 * NANOS_PER_SECOND
"""The period of the network's record files, which the mirror calls blocks."""

Json = dict[str, Any]


class MirrorApi:
    """Answers GET requests from the store. `grpc_port` is named as the nodes' endpoint."""

    def __init__(self, consensus: Consensus, grpc_port: int) -> None:
        self._consensus = consensus
        self._store = consensus.store
        self._grpc_port = grpc_port
        self._routes: tuple[tuple[re.Pattern[str], Callable[..., Json]], ...] = (
            (re.compile(r"/"), self._index),
            (re.compile(r"/api/v1/topics/([^/]+)"), self._topic),
            (re.compile(r"/api/v1/topics/([^/]+)/messages"), self._messages),
            (re.compile(r"/api/v1/topics/([^/]+)/messages/([^/]+)"), self._message),
            (re.compile(r"/api/v1/transactions/([^/]+)"), self._transaction),
            (re.compile(r"/api/v1/network/nodes"), self._nodes),
            (re.compile(r"/api/v1/blocks"), self._blocks),
        )

    def answer(self, path: str, query: str) -> Json:
        """The JSON body of a 200; raises RestError for everything else."""
        try:
            parameters = parse_qsl(query, keep_blank_values=True, max_num_fields=20)
        except ValueError as error:
            raise RestError(400, "Invalid parameter: query") from error
        for pattern, respond in self._routes:
            match = pattern.fullmatch(path.rstrip("/") or "/")
            if match:
                return respond(parameters, *match.groups())
        raise RestError(404, "Not found")

    def _index(self, _parameters: list[tuple[str, str]]) -> Json:
        return {"service": STAND_IN, "grpc_port": self._grpc_port}

    def _topic(self, _parameters: list[tuple[str, str]], topic_text: str) -> Json:
        topic = self._find_topic(topic_text)
        if topic is None:
            raise RestError(404, "Not found")
        return {
            "admin_key": _key_json(topic.admin_key),
            "auto_renew_account": topic.auto_renew_account,
            "auto_renew_period": topic.auto_renew_s,
            "created_timestamp": format_timestamp(topic.created_ns),
            "custom_fees": {"created_timestamp": format_timestamp(topic.created_ns), "fixed_fees": []},
            "deleted": topic.deleted_ns is not None,
            "fee_exempt_key_list": [],
            "fee_schedule_key": None,
            "memo": topic.memo,
            "submit_key": _key_json(topic.submit_key),
            "timestamp": {"from": format_timestamp(topic.deleted_ns or topic.created_ns), "to": None},
            "topic_id": f"0.0.{topic.number}",
        }

    def _messages(self, parameters: list[tuple[str, str]], topic_text: str) -> Json:
        filters = parse_filters(parameters)
        number = _topic_number(topic_text)
        found: list[Message] = []
        if number is not None:
            found = self._store.messages(
                number,
                filters.limit,
                sequence_range=filters.sequence_range,
                time_range_ns=filters.time_range_ns,
                newest_first=filters.newest_first,
            )
        following = None
        if len(found) == filters.limit:
            operator = "lt" if filters.newest_first else "gt"
            bound = f"{operator}:{format_timestamp(found[-1].consensus_ns)}"
            kept = [
                (name, value)
                for name, value in parameters
                if name != "timestamp" or not value.startswith(operator)
            ]
            following = f"/api/v1/topics/{topic_text}/messages?" + urlencode(
                [*kept, ("timestamp", bound)], safe=":"
            )
        return {"links": {"next": following}, "messages": [_message_json(message) for message in found]}

    def _message(self, _parameters: list[tuple[str, str]], topic_text: str, sequence_text: str) -> Json:
        number = _topic_number(topic_text)
        sequence = parse_integer(sequence_text, "sequencenumber")
        if sequence == 0:
            raise RestError(400, "Invalid parameter: sequencenumber")
        found = [] if number is None else self._store.messages(number, 1, sequence_range=(sequence, sequence))
        if not found:
            raise RestError(404, "Not found")
        return _message_json(found[0])

    def _transaction(self, _parameters: list[tuple[str, str]], id_text: str) -> Json:
        try:
            transaction_id = parse_mirror_transaction_id(id_text)
        except ValueError as error:
            raise RestError(400, "Invalid parameter: transactionId") from error
        stored = self._store.transaction(transaction_id)
        if stored is None:
            raise RestError(404, "Not found")
        body = transaction_pb2.TransactionBody.FromString(
            SignedTransaction.FromString(stored.signed).bodyBytes
        )
        record = transaction_record_pb2.TransactionRecord.FromString(stored.record)
        return {
            "transactions": [
                {
                    "charged_tx_fee": 0,
                    "consensus_timestamp": format_timestamp(stored.consensus_ns),
                    "entity_id": stored.entity,
                    "max_fee": str(body.transactionFee),
                    "memo_base64": base64.b64encode(body.memo.encode()).decode(),
                    "name": stored.name,
                    "node": stored.node,
                    "nonce": 0,
                    "result": stored.result,
                    "scheduled": False,
                    "transaction_hash": base64.b64encode(record.transactionHash).decode(),
                    "transaction_id": mirror_transaction_id(stored.id),
                    "valid_duration_seconds": str(body.transactionValidDuration.seconds),
                    "valid_start_timestamp": stored.id.partition("@")[2],
                }
            ]
        }

    def _nodes(self, _parameters: list[tuple[str, str]]) -> Json:
        endpoint = {"domain_name": "", "ip_address_v4": "127.0.0.1", "port": self._grpc_port}
        return {
            "links": {"next": None},
            "nodes": [
                {
                    "description": STAND_IN,
                    "file_id": "0.0.102",
                    "node_account_id": str(account),
                    "node_cert_hash": "0x",
                    "node_id": node_id,
                    "public_key": "0x",
                    "service_endpoints": [endpoint],
                    "timestamp": {"from": "0.000000000", "to": None},
                }
                for node_id, account in enumerate(self._consensus.nodes)
            ],
        }

    def _blocks(self, _parameters: list[tuple[str, str]]) -> Json:
        """Only the newest closed block: readers want it to know up to when the record is complete."""
        end_ns = self._consensus.closed_until_ns() // BLOCK_NS * BLOCK_NS
        return {
            "blocks": [
                {
                    "count": 0,
                    "hapi_version": "0.0.0",
                    "hash": "0x",
                    "name": "",
                    "number": end_ns // BLOCK_NS,
                    "previous_hash": "0x",
                    "size": 0,
                    "timestamp": {
                        "from": format_timestamp(end_ns - BLOCK_NS),
                        "to": format_timestamp(end_ns - 1),
                    },
                }
            ],
            "links": {"next": None},
        }

    def _find_topic(self, text: str) -> Topic | None:
        number = _topic_number(text)
        return None if number is None else self._store.topic(number)


def _topic_number(text: str) -> int | None:
    """The number of `0.0.1001` or `1001`; None for a topic of another shard or realm."""
    try:
        topic = EntityId.parse(text if "." in text else f"0.0.{text}")
    except ValueError as error:
        raise RestError(400, "Invalid parameter: topic.id") from error
    return topic.number if topic.shard == topic.realm == 0 else None


def _message_json(message: Message) -> Json:
    return {
        "chunk_info": _chunk_json(message.chunk),
        "consensus_timestamp": format_timestamp(message.consensus_ns),
        "message": base64.b64encode(message.body).decode(),
        "payer_account_id": message.payer,
        "running_hash": base64.b64encode(message.running_hash).decode(),
        "running_hash_version": RUNNING_HASH_VERSION,
        "sequence_number": message.sequence,
        "topic_id": f"0.0.{message.topic}",
    }


def _chunk_json(chunk_bytes: bytes | None) -> Json | None:
    if chunk_bytes is None:
        return None
    chunk = consensus_submit_message_pb2.ConsensusMessageChunkInfo.FromString(chunk_bytes)
    initial = chunk.initialTransactionID
    start = initial.transactionValidStart
    account = EntityId(initial.accountID.shardNum, initial.accountID.realmNum, initial.accountID.accountNum)
    return {
        "initial_transaction_id": {
            "account_id": str(account),
            "nonce": initial.nonce,
            "scheduled": initial.scheduled,
            "transaction_valid_start": f"{start.seconds}.{start.nanos:09d}",
        },
        "number": chunk.number,
        "total": chunk.total,
    }


def _key_json(key_bytes: bytes | None) -> Json | None:
    if key_bytes is None:
        return None
    key = basic_types_pb2.Key.FromString(key_bytes)
    if key.WhichOneof("key") == "ed25519":
        return {"_type": "ED25519", "key": key.ed25519.hex()}
    return {"_type": "ProtobufEncoded", "key": key_bytes.hex()}
