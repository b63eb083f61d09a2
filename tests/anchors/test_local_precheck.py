"""The precheck codes, the clock's rules and signatures, on the state machine itself with a clock of ours."""

import itertools
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hiero_sdk_python.hapi.services import (
    basic_types_pb2,
    consensus_create_topic_pb2,
    consensus_submit_message_pb2,
    transaction_pb2,
)
from hiero_sdk_python.response_code import ResponseCode
from hypothesis import given
from hypothesis import strategies as st

from anchors.hedera.ids import EntityId
from anchors.hedera.local.consensus import Consensus
from anchors.hedera.local.precheck import PrecheckError, check_form
from anchors.hedera.local.signatures import is_usable_key
from anchors.hedera.local.store import Store

NS = 1_000_000_000
START_NS = 1_700_000_000 * NS
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NODES = (EntityId(0, 0, 3), EntityId(0, 0, 4))


class Clock:
    """A wall clock that stands until it is moved, each reading a nanosecond on."""

    def __init__(self) -> None:
        self.time_ns = START_NS

    def __call__(self) -> int:
        self.time_ns += 1
        return self.time_ns


class Service:
    """A state machine over a database in a folder."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.store = Store(path)
        accounts = {EntityId(0, 0, 2): KEY.public_key().public_bytes_raw()}
        self.consensus = Consensus(self.store, accounts, NODES, clock)

    def create(self, make: Any, **fields: Any) -> str:
        create = consensus_create_topic_pb2.ConsensusCreateTopicTransactionBody(**fields)
        request = make(consensusCreateTopic=create)
        assert self.consensus.submit(request, "consensusCreateTopic") == ResponseCode.OK
        return self.result(request)

    def submit(self, request: bytes) -> str:
        return str(self.consensus.submit(request, "consensusSubmitMessage").name)

    def result(self, request: bytes) -> str:
        checked = check_form(request, body_of(request).WhichOneof("data"), NODES)
        stored = self.store.transaction(checked.id)
        assert stored is not None
        return stored.result


def body_of(request: bytes) -> Any:
    from hiero_sdk_python.hapi.services.transaction_contents_pb2 import SignedTransaction

    signed = transaction_pb2.Transaction.FromString(request).signedTransactionBytes
    return transaction_pb2.TransactionBody.FromString(SignedTransaction.FromString(signed).bodyBytes)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service(tmp_path: Path, clock: Clock) -> Iterator[Service]:
    service = Service(tmp_path / "state.db", clock)
    yield service
    service.store.close()


@pytest.fixture
def make(clock: Clock, make_transaction: Any) -> Any:
    make_transaction.key = KEY
    make_transaction.now_ns = clock
    return make_transaction


def key_proto(*keys: Ed25519PrivateKey, threshold: int | None = None) -> Any:
    parts = [basic_types_pb2.Key(ed25519=key.public_key().public_bytes_raw()) for key in keys]
    if threshold is not None:
        return basic_types_pb2.Key(
            thresholdKey=basic_types_pb2.ThresholdKey(
                threshold=threshold, keys=basic_types_pb2.KeyList(keys=parts)
            )
        )
    return parts[0] if len(parts) == 1 else basic_types_pb2.Key(keyList=basic_types_pb2.KeyList(keys=parts))


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "start in the future": ({"start_ns": START_NS + 3600 * NS}, "INVALID_TRANSACTION_START"),
    "expired": ({"start_ns": START_NS - 121 * NS}, "TRANSACTION_EXPIRED"),
    "no duration": ({"duration_s": 0}, "INVALID_TRANSACTION_DURATION"),
    "negative duration": ({"duration_s": -1}, "INVALID_TRANSACTION_DURATION"),
    "long duration": ({"duration_s": 181}, "INVALID_TRANSACTION_DURATION"),
    "another node": ({"node": "0.0.5"}, "INVALID_NODE_ACCOUNT"),
    "unknown payer": ({"payer": "0.0.7"}, "PAYER_ACCOUNT_NOT_FOUND"),
    "no signature": ({"signers": ()}, "INVALID_SIGNATURE"),
    "another's signature": ({"signers": (Ed25519PrivateKey.generate(),)}, "INVALID_SIGNATURE"),
    "long memo": ({"memo": "é" * 51}, "MEMO_TOO_LONG"),
    "zero byte in memo": ({"memo": "a\0b"}, "INVALID_ZERO_BYTE_IN_STRING"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_fault_has_its_code_and_leaves_no_trace(service: Service, make: Any, case: str) -> None:
    assert service.create(make) == "SUCCESS"
    fields, code = CASES[case]
    request = make.message(1_001, b"x", **fields)
    assert service.submit(request) == code
    assert service.store.messages(1_001, 10) == []
    assert service.submit(make.message(1_001, b"x")) == "OK"


def test_message_sizes(service: Service, make: Any) -> None:
    service.create(make)
    assert service.submit(make.message(1_001, b"")) == "INVALID_TOPIC_MESSAGE"
    assert service.submit(make.message(1_001, bytes(1_025))) == "MESSAGE_SIZE_TOO_LARGE"
    assert service.submit(make.message(1_001, bytes(6_144))) == "TRANSACTION_OVERSIZE"
    assert service.submit(make.message(1_001, bytes(1_024))) == "OK"


def test_a_body_for_another_call_is_refused(service: Service, make: Any) -> None:
    request = make(consensusCreateTopic=consensus_create_topic_pb2.ConsensusCreateTopicTransactionBody())
    assert service.submit(request) == "INVALID_TRANSACTION_BODY"
    no_topic = consensus_submit_message_pb2.ConsensusSubmitMessageTransactionBody(message=b"x")
    assert service.submit(make(consensusSubmitMessage=no_topic)) == "INVALID_TOPIC_ID"


def test_a_transaction_id_is_placed_once(service: Service, make: Any, clock: Clock) -> None:
    service.create(make)
    start_ns = clock()
    first = make.message(1_001, b"x", start_ns=start_ns)
    other_node = make.message(1_001, b"x", start_ns=start_ns, node="0.0.4")
    other_message = make.message(1_001, b"y", start_ns=start_ns)
    assert service.submit(first) == "OK"
    for again in (first, other_node, other_message):
        assert service.submit(again) == "DUPLICATE_TRANSACTION"
    assert len(service.store.messages(1_001, 10)) == 1


def test_bytes_expire_by_the_ledgers_clock(service: Service, make: Any, clock: Clock) -> None:
    service.create(make)
    request = make.message(1_001, b"x", duration_s=120)
    clock.time_ns += 121 * NS
    assert service.submit(request) == "TRANSACTION_EXPIRED"
    clock.time_ns -= 121 * NS
    assert service.submit(request) == "OK"


def test_a_time_that_was_declared_closed_stays_closed(service: Service, make: Any, clock: Clock) -> None:
    service.create(make)
    request = make.message(1_001, b"x", duration_s=120)
    clock.time_ns += 121 * NS
    closed_ns = service.consensus.closed_until_ns()
    clock.time_ns -= 121 * NS
    assert service.submit(request) == "TRANSACTION_EXPIRED"
    assert service.consensus.closed_until_ns() >= closed_ns


def test_consensus_times_rise_strictly_while_the_clock_steps_back(
    service: Service, make: Any, clock: Clock
) -> None:
    service.create(make)
    for step_ns in (0, -60 * NS, 0, NS, -1):
        clock.time_ns += step_ns
        assert service.submit(make.message(1_001, b"x", start_ns=clock() - 30 * NS)) == "OK"
    times = [message.consensus_ns for message in service.store.messages(1_001, 10)]
    assert len(times) == 5
    assert all(earlier < later for earlier, later in itertools.pairwise(times))


def test_receipts_are_kept_three_minutes(service: Service, make: Any, clock: Clock) -> None:
    service.create(make)
    request = make.message(1_001, b"x")
    service.submit(request)
    transaction_id = check_form(request, "consensusSubmitMessage", NODES).id
    assert service.consensus.fresh_record(transaction_id) is not None
    clock.time_ns += 181 * NS
    assert service.consensus.fresh_record(transaction_id) is None
    assert service.store.transaction(transaction_id) is not None


def test_submit_keys_of_several_parts(service: Service, make: Any) -> None:
    others = [Ed25519PrivateKey.generate() for _ in range(2)]
    service.create(make, submitKey=key_proto(*others))
    service.create(make, submitKey=key_proto(*others, threshold=1))
    for topic, signers, result in (
        (1_001, (KEY, others[0]), "INVALID_SIGNATURE"),
        (1_001, (KEY, *others), "SUCCESS"),
        (1_002, (KEY,), "INVALID_SIGNATURE"),
        (1_002, (KEY, others[1]), "SUCCESS"),
    ):
        request = make.message(topic, b"x", signers=signers)
        assert service.submit(request) == "OK"
        assert service.result(request) == result


def test_key_prefixes_select_keys_and_prove_nothing(service: Service, make: Any) -> None:
    service.create(make)
    assert service.submit(make.message(1_001, b"x", prefix_bytes=4)) == "OK"
    assert service.submit(make.message(1_001, b"x", prefix_bytes=0)) == "OK"
    stranger = Ed25519PrivateKey.generate()
    assert service.submit(make.message(1_001, b"x", signers=(stranger,), prefix_bytes=0)) == (
        "INVALID_SIGNATURE"
    )


def test_topics_with_unusable_fields(service: Service, make: Any) -> None:
    stranger = Ed25519PrivateKey.generate()
    assert service.create(make, submitKey=basic_types_pb2.Key(ed25519=b"short")) == "BAD_ENCODING"
    assert service.create(make, submitKey=basic_types_pb2.Key()) == "BAD_ENCODING"
    assert service.create(make, submitKey=basic_types_pb2.Key(RSA_3072=b"x")) == "BAD_ENCODING"
    assert service.create(make, adminKey=key_proto(stranger)) == "INVALID_SIGNATURE"
    assert service.create(make, memo="x" * 101) == "MEMO_TOO_LONG"
    assert service.create(make, memo="\0") == "INVALID_ZERO_BYTE_IN_STRING"
    assert service.store.topic(1_001) is None
    assert service.create(make, memo="x" * 100) == "SUCCESS"
    assert service.store.topic(1_001) is not None


def test_deeply_nested_and_impossible_keys() -> None:
    key = key_proto(KEY)
    for _ in range(14):
        key = basic_types_pb2.Key(keyList=basic_types_pb2.KeyList(keys=[key]))
    assert is_usable_key(key)
    assert not is_usable_key(basic_types_pb2.Key(keyList=basic_types_pb2.KeyList(keys=[key])))
    assert not is_usable_key(key_proto(KEY, threshold=2))
    assert not is_usable_key(key_proto(KEY, threshold=0))
    assert not is_usable_key(key_proto(threshold=0))


def test_chunks_must_fit_their_transaction(service: Service, make: Any, clock: Clock) -> None:
    service.create(make)
    start_ns = clock()
    own = body_of(make.message(1_001, b"x", start_ns=start_ns)).transactionID
    strangers = body_of(make.message(1_001, b"x", start_ns=start_ns, payer="0.0.9")).transactionID
    chunk = consensus_submit_message_pb2.ConsensusMessageChunkInfo
    for info, result in (
        (chunk(initialTransactionID=own, total=2, number=3), "INVALID_CHUNK_NUMBER"),
        (chunk(initialTransactionID=own, total=0, number=0), "INVALID_CHUNK_NUMBER"),
        (chunk(initialTransactionID=strangers, total=2, number=2), "INVALID_CHUNK_TRANSACTION_ID"),
        (chunk(initialTransactionID=own, total=2, number=1), "INVALID_CHUNK_TRANSACTION_ID"),
        (chunk(initialTransactionID=own, total=2, number=2), "SUCCESS"),
    ):
        request = make.message(1_001, b"x", chunk=info, start_ns=clock())
        assert service.submit(request) == "OK"
        assert service.result(request) == result


def test_a_failed_write_changes_nothing(service: Service, make: Any, monkeypatch: Any) -> None:
    service.create(make)
    request = make.message(1_001, b"x")

    def fail(*_: Any, **__: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(service.store, "append", fail)
        assert service.submit(request) == "PLATFORM_TRANSACTION_NOT_CREATED"
    assert service.submit(request) == "OK"
    assert [message.sequence for message in service.store.messages(1_001, 10)] == [1]


@given(st.binary(max_size=400))
def test_random_bytes_get_a_code(data: bytes) -> None:
    with pytest.raises(PrecheckError):
        check_form(data, "consensusSubmitMessage", NODES)


@given(st.data())
def test_a_changed_byte_never_passes_with_the_payers_signature(data: st.DataObject) -> None:
    request = bytearray(VALID)
    request[data.draw(st.integers(0, len(VALID) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        checked = check_form(bytes(request), "consensusSubmitMessage", NODES)
    except PrecheckError:
        return
    same_body = checked.body == body_of(VALID)
    assert same_body or not checked.signatures.by(KEY.public_key().public_bytes_raw())


def _valid_request() -> bytes:
    from hiero_sdk_python.hapi.services import duration_pb2, timestamp_pb2, transaction_contents_pb2

    body = transaction_pb2.TransactionBody(
        transactionID=basic_types_pb2.TransactionID(
            accountID=basic_types_pb2.AccountID(accountNum=2),
            transactionValidStart=timestamp_pb2.Timestamp(seconds=START_NS // NS),
        ),
        nodeAccountID=basic_types_pb2.AccountID(accountNum=3),
        transactionValidDuration=duration_pb2.Duration(seconds=120),
        consensusSubmitMessage=consensus_submit_message_pb2.ConsensusSubmitMessageTransactionBody(
            topicID=basic_types_pb2.TopicID(topicNum=1_001), message=b"message"
        ),
    ).SerializeToString()
    pair = basic_types_pb2.SignaturePair(
        pubKeyPrefix=KEY.public_key().public_bytes_raw(), ed25519=KEY.sign(body)
    )
    signed = transaction_contents_pb2.SignedTransaction(
        bodyBytes=body, sigMap=basic_types_pb2.SignatureMap(sigPair=[pair])
    )
    return bytes(
        transaction_pb2.Transaction(signedTransactionBytes=signed.SerializeToString()).SerializeToString()
    )


VALID = _valid_request()
