"""Reading the public record: a mirror node's REST API, version 1.

Everything a mirror says is unsigned; what it says about messages is checked by `anchors.hedera.chain`.
Each request is bounded in time and size, and each answer is read strictly.
"""

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException
from typing import Any, TypeVar
from urllib.parse import urlsplit

from anchors.errors import LedgerRefusedError, LedgerUnavailableError
from anchors.hedera.config import LOOPBACK_HOSTS, HederaConfig
from anchors.hedera.ids import (
    INT64_MAX,
    EntityId,
    format_transaction_id,
    mirror_transaction_id,
    parse_timestamp,
)
from anchors.hedera.running_hash import RUNNING_HASH_BYTES
from anchors.ledger import LedgerMessage, TopicInfo

PAGE_MESSAGES = 100
MAX_RESPONSE_BYTES = 2 * 1_024 * 1_024
"""A page of 100 messages has about 200 KiB."""
_READ_BYTES = 64 * 1_024

_Row = TypeVar("_Row")


class Mirror:
    """One mirror node, named in the settings.

    Every method raises LedgerUnavailableError for no answer in time or one that cannot be read, and
    LedgerRefusedError for an answer that says no (`code` is then `HTTP 404` or its like).
    """

    def __init__(self, config: HederaConfig) -> None:
        self._base = config.mirror_url.rstrip("/") + "/api/v1"
        self._timeout_s = config.call_timeout_s
        self._headers = {"Accept": "application/json"}
        if config.mirror_api_key is not None:
            self._headers["x-api-key"] = config.mirror_api_key
        # A proxy for the outside world cannot reach a mirror on this machine.
        is_local = urlsplit(config.mirror_url).hostname in LOOPBACK_HOSTS
        proxies = [urllib.request.ProxyHandler({})] if is_local else []
        self._opener = urllib.request.build_opener(*proxies)

    def messages(self, topic_id: str, after_sequence: int) -> Iterator[LedgerMessage]:
        """A topic's messages after a sequence number, oldest first, one page in memory at a time."""
        while True:
            page = self._get(
                f"/topics/{topic_id}/messages"
                f"?limit={PAGE_MESSAGES}&order=asc&sequencenumber=gt:{after_sequence}"
            )
            rows = _field(page, "messages", list)
            for row in rows:
                message = _read(_message, row)
                yield message
                after_sequence = max(after_sequence, message.sequence)
            if len(rows) < PAGE_MESSAGES:
                return

    def topic_info(self, topic_id: str) -> TopicInfo:
        """A topic's memo and keys."""
        return _read(_topic_info, self._get(f"/topics/{topic_id}"))

    def transaction_result(self, transaction_id: str) -> str | None:
        """The response code at consensus, `SUCCESS` or another; None while it is not on record."""
        try:
            answer = self._get(f"/transactions/{mirror_transaction_id(transaction_id)}")
        except LedgerRefusedError as error:
            if error.code == "HTTP 404":
                return None
            raise
        results = [_read(lambda row: str(row["result"]), row) for row in _field(answer, "transactions", list)]
        # A copy that reached another node as well is on record under the same id, as a duplicate.
        placed = [result for result in results if result != "DUPLICATE_TRANSACTION"]
        return "SUCCESS" if "SUCCESS" in placed else next(iter(placed), None)

    def complete_until_ns(self) -> int:
        """The end of the newest block: everything up to this consensus time is on record."""
        answer = self._get("/blocks?limit=1&order=desc")
        rows = _field(answer, "blocks", list)
        if not rows:
            raise LedgerUnavailableError("the mirror has no block yet")
        return _read(lambda row: parse_timestamp(row["timestamp"]["to"]), rows[0])

    def _get(self, path: str) -> dict[str, Any]:
        request = urllib.request.Request(self._base + path, headers=self._headers)  # noqa: S310 - http(s) by HederaConfig
        deadline_s = time.monotonic() + self._timeout_s
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                data = b""
                while chunk := response.read1(_READ_BYTES):
                    data += chunk
                    if len(data) > MAX_RESPONSE_BYTES:
                        raise LedgerUnavailableError(f"the mirror's answer to {path} is too long")
                    if time.monotonic() > deadline_s:
                        raise LedgerUnavailableError(f"the mirror's answer to {path} takes too long")
            answer = json.loads(data)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 429 or error.code >= 500:
                    raise LedgerUnavailableError(f"the mirror answers {path} with {error.code}") from error
                raise LedgerRefusedError(f"the mirror, {path}", f"HTTP {error.code}") from error
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            raise LedgerUnavailableError(f"the mirror does not answer {path}: {error}") from error
        if not isinstance(answer, dict):
            raise LedgerUnavailableError(f"the mirror's answer to {path} is not a JSON object")
        return answer


def _read(parse: Callable[[Any], _Row], row: Any) -> _Row:
    try:
        return parse(row)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LedgerUnavailableError(f"the mirror's answer cannot be read: {error!r}") from error


def _field(answer: dict[str, Any], name: str, kind: type) -> Any:
    value = answer.get(name)
    if not isinstance(value, kind):
        raise LedgerUnavailableError(f"the mirror's answer has no usable {name!r}")
    return value


def _message(row: Any) -> LedgerMessage:
    chunk_number, chunk_total, initial_transaction_id = _chunk(row.get("chunk_info"))
    running_hash = base64.b64decode(row["running_hash"], validate=True)
    if len(running_hash) != RUNNING_HASH_BYTES:
        raise ValueError(f"a running hash has {RUNNING_HASH_BYTES} bytes, not {len(running_hash)}")
    return LedgerMessage(
        topic_id=str(EntityId.parse(row["topic_id"])),
        sequence=_positive(row["sequence_number"]),
        consensus_time_ns=parse_timestamp(row["consensus_timestamp"]),
        message=base64.b64decode(row["message"], validate=True),
        payer=str(EntityId.parse(row["payer_account_id"])),
        running_hash=running_hash,
        running_hash_version=_positive(row["running_hash_version"]),
        chunk_number=chunk_number,
        chunk_total=chunk_total,
        initial_transaction_id=initial_transaction_id,
    )


def _chunk(info: Any) -> tuple[int, int, str | None]:
    """Written by the submitter and not covered by the running hash: nonsense here stops nobody."""
    try:
        initial = info["initial_transaction_id"]
        start_ns = parse_timestamp(initial["transaction_valid_start"])
        transaction_id = format_transaction_id(EntityId.parse(initial["account_id"]), start_ns)
        return _positive(info["number"]), _positive(info["total"]), transaction_id
    except (KeyError, TypeError, ValueError, AttributeError):
        return 1, 1, None


def _topic_info(row: Any) -> TopicInfo:
    key = row["submit_key"]
    return TopicInfo(
        topic_id=str(EntityId.parse(row["topic_id"])),
        memo=str(row["memo"]),
        submit_key=bytes.fromhex(key["key"]) if key and key["_type"] == "ED25519" else None,
        created_ns=parse_timestamp(row["created_timestamp"]),
        deleted=bool(row["deleted"]),
    )


def _positive(value: Any) -> int:
    """As the struct of the running hash takes it: a number of a message fits 63 bits."""
    if type(value) is not int or not 1 <= value <= INT64_MAX:
        raise ValueError(f"{value!r} is not a positive number")
    return value
