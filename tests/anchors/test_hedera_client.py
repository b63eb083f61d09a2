"""The ledger client: the same bytes placed once whatever happens, and no belief in what a mirror says."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

import grpc
import pytest
from hiero_sdk_python.hapi.sdk.transaction_list_pb2 import TransactionList
from hiero_sdk_python.hapi.services.transaction_response_pb2 import TransactionResponse
from hiero_sdk_python.response_code import ResponseCode

from anchors.errors import (
    AnchorMessageError,
    LedgerConfigError,
    LedgerHistoryError,
    LedgerRefusedError,
    LedgerUnavailableError,
)
from anchors.hedera.chain import verify_segment
from anchors.hedera.client import HederaLedger, create_topic
from anchors.hedera.config import HederaConfig
from anchors.hedera.keys import create_operator_key
from anchors.hedera.local.store import Store
from anchors.ledger import ConfirmationState, Ledger, LedgerMessage, PreparedTransaction, SubmitStatus
from tests.faults.machine.ledgerproxy import NodeCall, mirror_in_front, node_in_front

MEMO = "hcs-27:0:60:0"
NS = 1_000_000_000


@pytest.fixture
def topic_id(local_ledger: Any) -> str:
    return create_topic(local_ledger.config, MEMO)


@pytest.fixture
def ledger(local_ledger: Any, topic_id: str) -> Iterator[HederaLedger]:
    ledger = HederaLedger(local_ledger.config, topic_id)
    yield ledger
    ledger.close()


def place(ledger: Ledger, message: bytes) -> PreparedTransaction:
    prepared = ledger.prepare(message, time.time_ns())
    assert ledger.submit(prepared).status is SubmitStatus.ACCEPTED
    return prepared


def test_a_message_is_confirmed_with_its_chain(ledger: HederaLedger) -> None:
    first = place(ledger, b"first")
    confirmation = ledger.confirm(first, None)
    assert confirmation.state is ConfirmationState.CONFIRMED
    assert confirmation.message is not None
    assert confirmation.message.sequence == 1
    second = place(ledger, b"second")
    later = ledger.confirm(second, confirmation.verified_to)
    assert later.state is ConfirmationState.CONFIRMED
    assert later.message is not None
    receipt = ledger.evidence(later.message, second.transaction_id, None)
    assert [message.message for message in receipt.segment] == [b"first", b"second"]
    assert verify_segment(receipt.topic_id, receipt.segment_start, receipt.segment) == later.message.position
    short = ledger.evidence(later.message, second.transaction_id, confirmation.verified_to)
    assert short.segment == (later.message,)
    assert receipt.ledger == "hedera:attestream-local"


def test_the_topic_is_ours_alone(ledger: HederaLedger, local_ledger: Any) -> None:
    info = ledger.topic_info()
    assert (info.topic_id, info.memo, info.deleted) == (ledger.topic_id, MEMO, False)
    assert info.submit_key == local_ledger.key.public_key().public_bytes_raw()
    with pytest.raises(LedgerRefusedError, match="HTTP 404"):
        HederaLedger(local_ledger.config, "0.0.999").topic_info()


def test_a_lost_reply_places_the_persisted_bytes_once(ledger: HederaLedger, local_ledger: Any) -> None:
    lost = threading.Event()

    def drop_first_reply(call: NodeCall) -> bytes:
        answer = call.forward()
        if not lost.is_set():
            lost.set()
            call.fail(grpc.StatusCode.UNAVAILABLE)
        return answer

    prepared = ledger.prepare(b"once", time.time_ns())
    persisted = asdict(prepared)
    with node_in_front(local_ledger.grpc_address, drop_first_reply) as address:
        config = replace(local_ledger.config, nodes={address: "0.0.3"})
        before_crash = HederaLedger(config, ledger.topic_id)
        assert before_crash.submit(prepared).status is SubmitStatus.RETRY
        after_restart = HederaLedger(config, ledger.topic_id)
        again = PreparedTransaction(**persisted)
        assert after_restart.submit(again).status is SubmitStatus.DUPLICATE
        assert after_restart.submit(again).status is SubmitStatus.DUPLICATE
        assert after_restart.confirm(again, None).state is ConfirmationState.CONFIRMED
    assert [message.message for message in ledger.history(None)] == [b"once"]


def test_the_bytes_sent_are_the_bytes_persisted(ledger: HederaLedger, local_ledger: Any) -> None:
    prepared = place(ledger, b"exact")
    local_ledger.handle.stop()
    store = Store(local_ledger.db_path)
    stored = store.transaction(prepared.transaction_id)
    store.close()
    assert stored is not None
    copies = TransactionList.FromString(prepared.signed).transaction_list
    assert stored.signed in [copy.signedTransactionBytes for copy in copies]


def test_a_dead_node_is_passed_over(ledger: HederaLedger, local_ledger: Any) -> None:
    config = replace(local_ledger.config, nodes={"127.0.0.1:1": "0.0.4", local_ledger.grpc_address: "0.0.3"})
    for _ in range(4):
        both = HederaLedger(config, ledger.topic_id)
        assert both.submit(both.prepare(b"x", time.time_ns())).status is SubmitStatus.ACCEPTED
        both.close()
    assert len(list(ledger.history(None))) == 4


def test_a_node_that_was_down_is_used_at_once_when_it_is_back(local_ledger: Any, topic_id: str) -> None:
    down = threading.Event()
    down.set()

    def maybe(call: NodeCall) -> bytes:
        return call.fail(grpc.StatusCode.UNAVAILABLE) if down.is_set() else call.forward()

    with node_in_front(local_ledger.grpc_address, maybe) as address:
        ledger = HederaLedger(replace(local_ledger.config, nodes={address: "0.0.3"}), topic_id)
        prepared = ledger.prepare(b"x", time.time_ns())
        for _ in range(3):
            outcome = ledger.submit(prepared)
            assert (outcome.status, outcome.code) == (SubmitStatus.RETRY, "gRPC UNAVAILABLE")
        down.clear()
        assert ledger.submit(prepared).status is SubmitStatus.ACCEPTED
        ledger.close()


@pytest.mark.parametrize("code", ["BUSY", "PLATFORM_NOT_ACTIVE", "INVALID_SIGNATURE", "INSUFFICIENT_TX_FEE"])
def test_a_nodes_codes_become_outcomes(local_ledger: Any, topic_id: str, code: str) -> None:
    answer = TransactionResponse(nodeTransactionPrecheckCode=ResponseCode[code]).SerializeToString()
    with node_in_front(local_ledger.grpc_address, lambda _call: answer) as address:
        ledger = HederaLedger(replace(local_ledger.config, nodes={address: "0.0.3"}), topic_id)
        outcome = ledger.submit(ledger.prepare(b"x", time.time_ns()))
        ledger.close()
    retried = code in ("BUSY", "PLATFORM_NOT_ACTIVE")
    assert (outcome.status, outcome.code) == (SubmitStatus.RETRY if retried else SubmitStatus.REJECTED, code)


def test_a_node_that_hangs_is_given_up(local_ledger: Any, topic_id: str) -> None:
    release = threading.Event()

    def hang(_call: NodeCall) -> bytes:
        release.wait(60)
        return b""

    with node_in_front(local_ledger.grpc_address, hang) as address:
        config = replace(local_ledger.config, nodes={address: "0.0.3"}, call_timeout_s=0.3)
        ledger = HederaLedger(config, topic_id)
        outcome = ledger.submit(ledger.prepare(b"x", time.time_ns()))
        release.set()
        ledger.close()
    assert (outcome.status, outcome.code) == (SubmitStatus.RETRY, "gRPC DEADLINE_EXCEEDED")


def test_times_of_validity(ledger: HederaLedger) -> None:
    old = ledger.prepare(b"old", time.time_ns() - 300 * NS)
    assert ledger.submit(old).status is SubmitStatus.EXPIRED
    assert ledger.confirm(old, None).state is ConfirmationState.LAPSED
    early = ledger.prepare(b"early", time.time_ns() + 300 * NS)
    outcome = ledger.submit(early)
    assert (outcome.status, outcome.code) == (SubmitStatus.EARLY, "INVALID_TRANSACTION_START")
    assert early.valid_until_ns - early.valid_start_ns == 120 * NS


def test_an_expired_transaction_that_was_placed_is_found(ledger: HederaLedger, local_ledger: Any) -> None:
    prepared = place(ledger, b"in time")
    late = replace(prepared, valid_until_ns=prepared.valid_start_ns)
    assert ledger.confirm(late, None).state is ConfirmationState.CONFIRMED


def test_unsent_is_pending_and_the_position_moves_on(ledger: HederaLedger) -> None:
    place(ledger, b"another")
    confirmation = ledger.confirm(ledger.prepare(b"unsent", time.time_ns()), None)
    assert confirmation.state is ConfirmationState.PENDING
    assert confirmation.verified_to is not None
    assert confirmation.verified_to.sequence == 1


def test_refused_at_consensus(local_ledger: Any) -> None:
    ledger = HederaLedger(local_ledger.config, "0.0.999")
    prepared = place(ledger, b"nowhere")
    confirmation = ledger.confirm(prepared, None)
    assert (confirmation.state, confirmation.code) == (ConfirmationState.REFUSED, "INVALID_TOPIC_ID")


def test_a_key_that_is_not_the_operators(local_ledger: Any, topic_id: str, tmp_path: Any) -> None:
    create_operator_key(tmp_path / "other.key")
    config = replace(local_ledger.config, operator_key_path=tmp_path / "other.key")
    ledger = HederaLedger(config, topic_id)
    outcome = ledger.submit(ledger.prepare(b"x", time.time_ns()))
    assert (outcome.status, outcome.code) == (SubmitStatus.REJECTED, "INVALID_SIGNATURE")
    with pytest.raises(LedgerRefusedError, match="INVALID_SIGNATURE"):
        create_topic(config, MEMO)


@pytest.mark.parametrize("size", [0, 1_025])
def test_messages_of_other_sizes_are_not_prepared(ledger: HederaLedger, size: int) -> None:
    with pytest.raises(AnchorMessageError):
        ledger.prepare(bytes(size), time.time_ns())


def test_bytes_that_are_no_transaction_are_rejected(ledger: HederaLedger) -> None:
    prepared = ledger.prepare(b"x", time.time_ns())
    for damaged in (b"", b"\xff", prepared.signed[:-1]):
        assert ledger.submit(replace(prepared, signed=damaged)).status is SubmitStatus.REJECTED


def test_history_over_several_pages(ledger: HederaLedger) -> None:
    for number in range(205):
        place(ledger, b"%d" % number)
    messages = list(ledger.history(None))
    assert [message.sequence for message in messages] == list(range(1, 206))
    assert list(ledger.history(messages[99].position)) == messages[100:]
    assert list(ledger.history(messages[9].position, limit=3)) == messages[10:13]
    assert list(ledger.history(messages[-1].position)) == []


def test_an_environment_with_a_proxy(local_ledger: Any, topic_id: str, monkeypatch: Any) -> None:
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_grpc_proxy", "intranet")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    ledger = HederaLedger(local_ledger.config, topic_id)
    assert ledger.confirm(place(ledger, b"x"), None).state is ConfirmationState.CONFIRMED
    ledger.close()


def test_settings_that_the_sdk_refuses(local_ledger: Any, topic_id: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("LOG_LEVEL", "loud")
    with pytest.raises(LedgerConfigError, match="loud"):
        HederaLedger(local_ledger.config, topic_id).prepare(b"x", time.time_ns())


# --- mirrors that do not keep their word ---


def lying_messages(change: Callable[[list[Any]], Any]) -> Callable[[str, Any], Any]:
    def alter(path: str, answer: Any) -> Any:
        if "/messages" in path:
            answer["messages"] = change(answer["messages"])
        return answer

    return alter


LIES: dict[str, Callable[[list[Any]], Any]] = {
    "altered": lambda rows: [row | {"message": "bGll"} for row in rows],
    "left out": lambda rows: rows[1:],
    "repeated": lambda rows: rows[:1] + rows,
    "reordered": lambda rows: rows[::-1],
    "another payer": lambda rows: [row | {"payer_account_id": "0.0.9"} for row in rows],
    "another time": lambda rows: [row | {"consensus_timestamp": "5.000000000"} for row in rows],
    "another topic": lambda rows: [row | {"topic_id": "0.0.77"} for row in rows],
    "another version": lambda rows: [row | {"running_hash_version": 2} for row in rows],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_mirror_that_lies_confirms_nothing(ledger: HederaLedger, local_ledger: Any, lie: str) -> None:
    prepared = [place(ledger, b"%d" % number) for number in range(3)][-1]
    with mirror_in_front(local_ledger.config.mirror_url, lying_messages(LIES[lie])) as url:
        deceived = HederaLedger(replace(local_ledger.config, mirror_url=url), ledger.topic_id)
        with pytest.raises(LedgerHistoryError, match=ledger.topic_id):
            deceived.confirm(prepared, None)
    assert ledger.confirm(prepared, None).state is ConfirmationState.CONFIRMED


def test_a_changed_message_is_not_made_evidence(ledger: HederaLedger) -> None:
    prepared = place(ledger, b"x")
    message = ledger.confirm(prepared, None).message
    assert isinstance(message, LedgerMessage)
    with pytest.raises(LedgerHistoryError, match="changed"):
        ledger.evidence(replace(message, message=b"y"), prepared.transaction_id, None)
    with pytest.raises(LedgerUnavailableError, match="yet"):
        ledger.evidence(replace(message, sequence=2), prepared.transaction_id, None)


NONSENSE: dict[str, Callable[[str, Any], Any]] = {
    "server error": lambda _path, _answer: 503,
    "throttled": lambda _path, _answer: 429,
    "not JSON": lambda _path, _answer: b"<html>",
    "a list": lambda _path, _answer: [],
    "empty": lambda _path, _answer: {},
    "deep": lambda _path, _answer: b"[" * 100_000,
    "endless": lambda _path, _answer: b" " * 3_000_000,
    "rows of another kind": lying_messages(lambda rows: [1 for _ in rows]),
    "rows without fields": lying_messages(lambda rows: [{} for _ in rows]),
    "short hash": lying_messages(lambda rows: [row | {"running_hash": "AAAA"} for row in rows]),
    "bad base64": lying_messages(lambda rows: [row | {"message": "*"} for row in rows]),
    "sequence of another type": lying_messages(
        lambda rows: [row | {"sequence_number": True} for row in rows]
    ),
    "sequence beyond 63 bits": lying_messages(
        lambda rows: [row | {"sequence_number": 2**63} for row in rows]
    ),
}


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_a_mirror_that_talks_nonsense_is_unavailable(
    ledger: HederaLedger, local_ledger: Any, nonsense: str
) -> None:
    prepared = place(ledger, b"x")
    with mirror_in_front(local_ledger.config.mirror_url, NONSENSE[nonsense]) as url:
        confused = HederaLedger(replace(local_ledger.config, mirror_url=url), ledger.topic_id)
        with pytest.raises(LedgerUnavailableError):
            confused.confirm(prepared, None)


def test_unreadable_chunk_info_stops_nobody(ledger: HederaLedger, local_ledger: Any) -> None:
    prepared = place(ledger, b"x")
    alter = lying_messages(lambda rows: [row | {"chunk_info": {"number": -1}} for row in rows])
    with mirror_in_front(local_ledger.config.mirror_url, alter) as url:
        follower = HederaLedger(replace(local_ledger.config, mirror_url=url), ledger.topic_id)
        assert follower.confirm(prepared, None).state is ConfirmationState.CONFIRMED


@pytest.mark.parametrize(
    ("results", "state"),
    [
        (["SUCCESS", "DUPLICATE_TRANSACTION"], ConfirmationState.PENDING),
        (["DUPLICATE_TRANSACTION", "SUCCESS"], ConfirmationState.PENDING),
        (["DUPLICATE_TRANSACTION"], ConfirmationState.PENDING),
        ([], ConfirmationState.PENDING),
        (["INVALID_SIGNATURE", "DUPLICATE_TRANSACTION"], ConfirmationState.REFUSED),
    ],
)
def test_copies_on_several_nodes_are_no_refusal(
    ledger: HederaLedger, local_ledger: Any, results: list[str], state: ConfirmationState
) -> None:
    """The message is not shown yet, while its transactions are."""
    prepared = place(ledger, b"x")

    def alter(path: str, answer: Any) -> Any:
        if "/messages" in path:
            return answer | {"messages": []}
        return {"transactions": [{"result": result} for result in results]} if "/trans" in path else answer

    with mirror_in_front(local_ledger.config.mirror_url, alter) as url:
        follower = HederaLedger(replace(local_ledger.config, mirror_url=url), ledger.topic_id)
        assert follower.confirm(prepared, None).state is state


def test_a_network_that_is_away(operator_key_path: Any) -> None:
    config = HederaConfig(
        "0.0.2", operator_key_path, "http://127.0.0.1:1", nodes={"127.0.0.1:1": "0.0.3"}, submit_timeout_s=5.0
    )
    ledger: Ledger = HederaLedger(config, "0.0.1001")
    prepared = ledger.prepare(b"x", time.time_ns())
    assert ledger.submit(prepared).status is SubmitStatus.RETRY
    with pytest.raises(LedgerUnavailableError):
        ledger.confirm(prepared, None)
    with pytest.raises(LedgerUnavailableError):
        create_topic(config, MEMO)
    ledger.close()
