"""The ledger protocol on Hedera Consensus Service: the unmodified Hiero SDK writes, a mirror is read.

A message is signed once for a few nodes under one transaction id, and kept as the SDK's serialised
transaction list. Whichever of these copies arrives, and however often, the network places the id at
most once. What has been placed is learnt from the mirror alone, since receipts live three minutes.
"""

import secrets
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from anchors.errors import (
    AnchorMessageError,
    LedgerConfigError,
    LedgerHistoryError,
    LedgerRefusedError,
    LedgerUnavailableError,
)
from anchors.hedera.chain import verified
from anchors.hedera.config import HederaConfig
from anchors.hedera.ids import NANOS_PER_SECOND, EntityId, format_transaction_id
from anchors.hedera.mirror import Mirror
from anchors.hedera.sdk import SdkSession
from anchors.ledger import (
    MAX_MESSAGE_BYTES,
    ChainPosition,
    Confirmation,
    ConfirmationState,
    LedgerMessage,
    LedgerReceipt,
    PreparedTransaction,
    SubmitOutcome,
    SubmitStatus,
    TopicInfo,
)

TRANSACTION_MEMO = "hcs-27:op:0:0"
"""What HCS-27 recommends for a `register` on a checkpoint topic."""
_MAX_FEE_TINYBARS = 200_000_000
_RETRY_CODES = frozenset(
    {
        "BUSY",
        "PLATFORM_NOT_ACTIVE",
        "PLATFORM_TRANSACTION_NOT_CREATED",
        "UNKNOWN",
    }
)
"""The same bytes may pass later."""


class HederaLedger:
    """One topic, written by one operator. Implements `anchors.ledger.Ledger`; not for several threads.

    Raises LedgerConfigError for a key file or topic id that cannot be used.
    """

    def __init__(self, config: HederaConfig, topic_id: str) -> None:
        try:
            self._topic = EntityId.parse(topic_id)
        except ValueError as error:
            raise LedgerConfigError(f"the topic: {error}") from error
        self._config = config
        self._operator = EntityId.parse(config.operator_account)
        self._session = SdkSession(config)
        self._mirror = Mirror(config)

    @property
    def name(self) -> str:
        """`hedera:` and the network."""
        return f"hedera:{self._config.network}"

    @property
    def topic_id(self) -> str:
        """`0.0.1001`."""
        return str(self._topic)

    def prepare(self, message: bytes, now_ns: int) -> PreparedTransaction:
        """See `Ledger.prepare`. Sends nothing, but on a public network may fetch the address book."""
        if not 1 <= len(message) <= MAX_MESSAGE_BYTES:
            raise AnchorMessageError(f"a message has 1 to {MAX_MESSAGE_BYTES} bytes, not {len(message)}")
        from hiero_sdk_python import TopicId, TopicMessageSubmitTransaction, TransactionId
        from hiero_sdk_python.hapi.services.timestamp_pb2 import Timestamp

        valid_start_ns = now_ns - int(self._config.clock_margin_s * NANOS_PER_SECOND)
        seconds, nanos = divmod(valid_start_ns, NANOS_PER_SECOND)
        client = self._session.client()
        nodes = client.get_node_account_ids()
        chosen = secrets.SystemRandom().sample(nodes, min(len(nodes), self._config.max_nodes))
        transaction = TopicMessageSubmitTransaction(topic_id=TopicId(*self._topic), message=message)
        transaction.set_transaction_id(
            TransactionId(client.operator_account_id, Timestamp(seconds=seconds, nanos=nanos))
        )
        transaction.set_node_account_ids(chosen)
        transaction.set_transaction_valid_duration(self._config.valid_duration_s)
        transaction.set_transaction_memo(TRANSACTION_MEMO)
        transaction.transaction_fee = _MAX_FEE_TINYBARS
        transaction.freeze().sign(self._session.operator_key())
        return PreparedTransaction(
            transaction_id=format_transaction_id(self._operator, valid_start_ns),
            message=message,
            signed=transaction.to_bytes(),
            valid_start_ns=valid_start_ns,
            valid_until_ns=valid_start_ns + self._config.valid_duration_s * NANOS_PER_SECOND,
        )

    def submit(self, prepared: PreparedTransaction) -> SubmitOutcome:
        """See `Ledger.submit`. Never raises for what the network does."""
        import grpc
        from hiero_sdk_python.exceptions import MaxAttemptsError, PrecheckError
        from hiero_sdk_python.transaction.transaction import Transaction

        try:
            transaction = Transaction.from_bytes(prepared.signed)
        except ValueError as error:
            return SubmitOutcome(SubmitStatus.REJECTED, f"unreadable: {error}")
        transaction.set_max_attempts(len(transaction.node_account_ids))
        try:
            transaction.execute(self._session.client(), wait_for_receipt=False)
        except PrecheckError as error:
            return _outcome(_code(error.status))
        except MaxAttemptsError as error:
            self._session.reset()
            last = error.last_error
            code = _code(last.status) if isinstance(last, PrecheckError) else _transport_error(last)
            return SubmitOutcome(SubmitStatus.RETRY, code)
        except (grpc.RpcError, OSError, RuntimeError, ValueError) as error:
            # No node left, a broken channel, a certificate that does not match: the bytes stay good.
            self._session.reset()
            return SubmitOutcome(SubmitStatus.RETRY, _transport_error(error))
        return SubmitOutcome(SubmitStatus.ACCEPTED, "OK")

    def confirm(self, prepared: PreparedTransaction, after: ChainPosition | None) -> Confirmation:
        """See `Ledger.confirm`. The first message of ours with these bytes counts."""
        # Asked before the search: what is complete now is seen by the search that follows.
        complete_until_ns = self.complete_until_ns()
        position = after
        for message in self.history(after):
            position = message.position
            if message.message == prepared.message and message.payer == str(self._operator):
                return Confirmation(ConfirmationState.CONFIRMED, position, message=message)
        if complete_until_ns > prepared.valid_until_ns:
            return Confirmation(ConfirmationState.LAPSED, position)
        result = self._mirror.transaction_result(prepared.transaction_id)
        if result is not None and result != "SUCCESS":
            return Confirmation(ConfirmationState.REFUSED, position, code=result)
        return Confirmation(ConfirmationState.PENDING, position)

    def history(self, after: ChainPosition | None, limit: int | None = None) -> Iterator[LedgerMessage]:
        """See `Ledger.history`."""
        messages = self._mirror.messages(self.topic_id, after.sequence if after else 0)
        return islice(verified(self.topic_id, after, messages), limit)

    def evidence(
        self, message: LedgerMessage, transaction_id: str, after: ChainPosition | None
    ) -> LedgerReceipt:
        """See `Ledger.evidence`. Raises LedgerHistoryError when the mirror now shows another message."""
        first = after.sequence + 1 if after else 1
        segment = tuple(self.history(after, limit=message.sequence - first + 1))
        if not segment or segment[-1].sequence < message.sequence:
            raise LedgerUnavailableError(f"the mirror does not show message {message.sequence} yet")
        if segment[-1] != message:
            raise LedgerHistoryError(f"topic {self.topic_id}: message {message.sequence} has changed")
        return LedgerReceipt(self.name, self.topic_id, transaction_id, after, segment)

    def complete_until_ns(self) -> int:
        """See `Ledger.complete_until_ns`."""
        return self._mirror.complete_until_ns() - int(self._config.mirror_margin_s * NANOS_PER_SECOND)

    def topic_info(self) -> TopicInfo:
        """See `Ledger.topic_info`. Raises LedgerRefusedError (HTTP 404) for a topic that is not there."""
        return self._mirror.topic_info(self.topic_id)

    def close(self) -> None:
        """See `Ledger.close`."""
        self._session.reset()


def create_topic(config: HederaConfig, memo: str) -> str:
    """Create a topic that only the operator may write to, and that nobody can alter or delete.

    Returns its id once the mirror shows it. Raises LedgerRefusedError when the network says no, and
    LedgerUnavailableError when it or the mirror does not answer in time: a topic may then have been
    created, and stays unused.
    """
    import grpc
    from hiero_sdk_python import TopicCreateTransaction
    from hiero_sdk_python.exceptions import MaxAttemptsError, PrecheckError, ReceiptStatusError

    session = SdkSession(config)
    try:
        submit_key = session.operator_key().public_key()
        receipt = TopicCreateTransaction(memo=memo, submit_key=submit_key).execute(
            session.client(), timeout=config.submit_timeout_s, validate_status=True
        )
    except (PrecheckError, ReceiptStatusError) as error:
        raise LedgerRefusedError("creating a topic", _code(error.status)) from error
    except (MaxAttemptsError, grpc.RpcError, OSError, RuntimeError, ValueError) as error:
        raise LedgerUnavailableError(f"creating a topic: {_transport_error(error)}") from error
    finally:
        session.reset()
    topic_id = str(receipt.topic_id)
    _wait_until_shown(Mirror(config), topic_id, config.submit_timeout_s)
    return topic_id


def _wait_until_shown(mirror: Mirror, topic_id: str, timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            mirror.topic_info(topic_id)
        except (LedgerRefusedError, LedgerUnavailableError) as error:
            if time.monotonic() > deadline_s:
                raise LedgerUnavailableError(f"topic {topic_id} is not on the mirror: {error}") from error
            time.sleep(0.2)
        else:
            return


def _outcome(code: str) -> SubmitOutcome:
    status = {
        "DUPLICATE_TRANSACTION": SubmitStatus.DUPLICATE,
        "TRANSACTION_EXPIRED": SubmitStatus.EXPIRED,
        "INVALID_TRANSACTION_START": SubmitStatus.EARLY,
    }.get(code, SubmitStatus.RETRY if code in _RETRY_CODES else SubmitStatus.REJECTED)
    return SubmitOutcome(status, code)


def _code(status: Any) -> str:
    from hiero_sdk_python import ResponseCode

    return str(ResponseCode(status).name)


def _transport_error(error: BaseException | None) -> str:
    """A short name of it: a gRPC error's text would carry pages of debug data."""
    import grpc

    status = getattr(error, "code", None)
    if isinstance(error, grpc.RpcError) and callable(status):
        return f"gRPC {status().name}"
    return f"{type(error).__name__}: {str(error)[:200]}"
