"""The ledger's nodes as the anchor worker sees them: the real service behind them, and ways not to serve.

Whatever `mode` says happens to each `submitMessage` with the probability `share`; the rest goes through.
"""

import threading
import time
from random import Random

import grpc
from hiero_sdk_python.hapi.services.transaction_contents_pb2 import SignedTransaction
from hiero_sdk_python.hapi.services.transaction_pb2 import Transaction, TransactionBody
from hiero_sdk_python.hapi.services.transaction_response_pb2 import TransactionResponse
from hiero_sdk_python.response_code import ResponseCode

from tests.faults.machine.ledgerproxy import NodeCall

REFUSALS = ("INVALID_SIGNATURE", "INSUFFICIENT_TX_FEE", "INSUFFICIENT_PAYER_BALANCE", "INVALID_TOPIC_ID")
AT_CONSENSUS = ("THROTTLED_AT_CONSENSUS", "INVALID_SIGNATURE", "INVALID_TOPIC_ID")


class NodeFront:
    """`behave` is for `node_in_front`; several nodes share it."""

    def __init__(self, rng: Random, call_timeout_s: float) -> None:
        self.rng, self._call_timeout_s = rng, call_timeout_s
        self.mode = ""
        self.share = 1.0
        self.hit = 0
        """Calls that the mode took."""
        self.refused: dict[str, str] = {}
        """Transactions that reached consensus and were refused there: the mirror's id, the code."""
        self._released = threading.Event()

    def begin(self, mode: str, share: float = 1.0) -> None:
        """Behave so from now on."""
        self._released.clear()
        self.share, self.hit, self.mode = share, 0, mode

    def heal(self) -> None:
        """Serve as nodes do."""
        self.mode = ""
        self._released.set()

    def behave(self, call: NodeCall) -> bytes:
        """Answer one call."""
        if not call.method.endswith("/submitMessage"):
            return self._through(call)
        if _mirror_id(call.request) in self.refused:
            return _answer("DUPLICATE_TRANSACTION")
        mode = self.mode
        if not mode or self.rng.random() >= self.share:
            return self._through(call)
        self.hit += 1
        answer: bytes = getattr(self, f"_{mode}")(call)
        return answer

    def _through(self, call: NodeCall) -> bytes:
        try:
            return call.forward()
        except grpc.RpcError:
            return call.fail(grpc.StatusCode.UNAVAILABLE)

    def _hold(self, seconds: float) -> None:
        self._released.wait(seconds)

    # ---- modes -----------------------------------------------------------------------------------------

    def _busy(self, _call: NodeCall) -> bytes:
        return _answer(self.rng.choice(("BUSY", "PLATFORM_NOT_ACTIVE", "PLATFORM_TRANSACTION_NOT_CREATED")))

    def _rejects(self, _call: NodeCall) -> bytes:
        return _answer(self.rng.choice(REFUSALS))

    def _throttles(self, call: NodeCall) -> bytes:
        return call.fail(grpc.StatusCode.RESOURCE_EXHAUSTED)

    def _down(self, call: NodeCall) -> bytes:
        return call.fail(grpc.StatusCode.UNAVAILABLE)

    def _hangs(self, call: NodeCall) -> bytes:
        self._hold(3 * self._call_timeout_s)
        return call.fail(grpc.StatusCode.UNAVAILABLE)

    def _answers_late(self, call: NodeCall) -> bytes:
        answer = self._through(call)
        self._hold(2 * self._call_timeout_s)
        return answer

    def _places_late(self, call: NodeCall) -> bytes:
        """The request is on its way still when its sender has given up."""
        wait_s = self.rng.uniform(0.3, 1.5)

        def later() -> None:
            time.sleep(wait_s)
            try:
                call.forward()
            except (grpc.RpcError, ValueError):
                return  # the service, or this world, is away

        threading.Thread(target=later, daemon=True).start()
        return call.fail(grpc.StatusCode.UNAVAILABLE)

    def _loses_request(self, call: NodeCall) -> bytes:
        return call.fail(grpc.StatusCode.UNKNOWN)

    def _loses_answer(self, call: NodeCall) -> bytes:
        self._through(call)
        return call.fail(grpc.StatusCode.UNAVAILABLE)

    def _loses_transaction(self, call: NodeCall) -> bytes:
        """Accepted, and never placed."""
        return _answer(_by_time(call.request))

    def _refused_at_consensus(self, call: NodeCall) -> bytes:
        code = _by_time(call.request)
        if code == "OK":
            self.refused[_mirror_id(call.request)] = self.rng.choice(AT_CONSENSUS)
        return _answer(code)

    def _nonsense(self, _call: NodeCall) -> bytes:
        if self.rng.random() < 0.5:
            return bytes(TransactionResponse(nodeTransactionPrecheckCode=9_999).SerializeToString())
        return self.rng.randbytes(self.rng.randint(1, 40))


def _answer(code: str) -> bytes:
    return bytes(TransactionResponse(nodeTransactionPrecheckCode=ResponseCode[code]).SerializeToString())


def _body(request: bytes) -> TransactionBody:
    signed = SignedTransaction.FromString(Transaction.FromString(request).signedTransactionBytes)
    return TransactionBody.FromString(signed.bodyBytes)


def _by_time(request: bytes) -> str:
    """What a node says before it takes a transaction: none takes what is not valid yet or no longer."""
    body, now_s = _body(request), time.time()
    start = body.transactionID.transactionValidStart
    start_s = start.seconds + start.nanos / 1e9
    if now_s < start_s:
        return "INVALID_TRANSACTION_START"
    return "TRANSACTION_EXPIRED" if now_s > start_s + body.transactionValidDuration.seconds else "OK"


def _mirror_id(request: bytes) -> str:
    """The transaction's id as a mirror spells it: 0.0.2-seconds-nanoseconds."""
    named = _body(request).transactionID
    account, start = named.accountID, named.transactionValidStart
    return f"{account.shardNum}.{account.realmNum}.{account.accountNum}-{start.seconds}-{start.nanos:09d}"
