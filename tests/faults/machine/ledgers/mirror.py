"""The mirror as the anchor worker sees it: the real one behind it, and ways to lag, leave out and lie."""

import base64
import json
import threading
import time
from collections.abc import Callable
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlsplit

from anchors.hedera.ids import EntityId, format_timestamp, parse_timestamp
from anchors.hedera.running_hash import RUNNING_HASH_BYTES, running_hash_v3
from tests.faults.machine.ledgerproxy import HttpReply, forwarded

Row = dict[str, Any]
NS = 1_000_000_000


class MirrorFront:
    """`answer` is for `http_peer`. `url` is the real mirror's, `refused` what was refused at consensus."""

    def __init__(self, rng: Random, call_timeout_s: float, refused: dict[str, str]) -> None:
        self.url = ""
        self.rng, self._call_timeout_s, self._refused = rng, call_timeout_s, refused
        self.mode = ""
        self.hit = 0
        """Answers that the mode changed."""
        self.shown_at: dict[int, float] = {}
        """When each message was first shown as it is, by its sequence number."""
        self._released = threading.Event()
        self._old: dict[str, HttpReply] = {}
        self._lag_ns = 0
        self._from: Row = {}
        self._topic = ""

    def begin(self, mode: str, topic: str) -> None:
        """Behave so from now on, towards messages behind those that are there."""
        self._released.clear()
        self._old = {}
        self._lag_ns = round(self.rng.uniform(0.5, 2.0) * NS)
        self._topic = topic
        rows = self._real_rows("order=desc&limit=1")
        self._from = rows[0] if rows else {}
        self.hit, self.mode = 0, mode

    def heal(self) -> None:
        """Tell what is there."""
        self.mode = ""
        self._released.set()

    def answer(self, path: str, _body: bytes) -> HttpReply | None:
        """Answer one request."""
        mode = self.mode
        broken = getattr(self, f"_{mode}_instead", None)
        if broken is not None:
            self.hit += 1
            reply: HttpReply | None = broken(path)
            return reply
        real = forwarded(self.url + path)
        if real is None:
            return None
        if "/transactions/" in path:
            return self._transaction(path, real)
        if real.status != 200:
            return real
        content = json.loads(real.data)
        if "/messages" in path:
            return self._messages(path, content)
        if "/blocks" in path and mode == "lags":
            block = content["blocks"][0]["timestamp"]
            block["to"] = format_timestamp(min(parse_timestamp(block["to"]), self._shown_until_ns()))
        return HttpReply(json.dumps(content).encode())

    # ---- no answer, or none of use ---------------------------------------------------------------------

    def _down_instead(self, _path: str) -> None:
        return None

    def _hangs_instead(self, _path: str) -> None:
        self._released.wait(2 * self._call_timeout_s)

    def _errors_instead(self, _path: str) -> HttpReply:
        return HttpReply(b'{"_status":{}}', self.rng.choice((429, 500, 502, 503)))

    def _truncated_instead(self, path: str) -> HttpReply | None:
        real = forwarded(self.url + path)
        if real is None:
            return None
        cut = real.data[: self.rng.randrange(len(real.data))]
        return HttpReply(cut, real.status, promised=len(real.data) if self.rng.random() < 0.5 else None)

    # ---- what is there, or not -------------------------------------------------------------------------

    def _shown_until_ns(self) -> int:
        return time.time_ns() - self._lag_ns

    def _transaction(self, path: str, real: HttpReply) -> HttpReply:
        code = self._refused.get(path.rpartition("/")[2])
        if code is not None:
            return HttpReply(json.dumps({"transactions": [{"result": code}]}).encode())
        if self.mode == "lags" and real.status == 200:
            placed = json.loads(real.data)["transactions"][0]["consensus_timestamp"]
            if parse_timestamp(placed) > self._shown_until_ns():
                return HttpReply(b"{}", 404)
        return real

    def _messages(self, path: str, content: Any) -> HttpReply:
        mode, rows = self.mode, content["messages"]
        if mode == "old" and path in self._old and self.rng.random() < 0.7:
            self.hit += 1
            return self._old[path]
        alter: Callable[[list[Row], int], list[Row]] | None = getattr(self, f"_{mode}_rows", None)
        shown = rows
        if alter is not None:
            after = int(parse_qs(urlsplit(path).query)["sequencenumber"][0].removeprefix("gt:"))
            shown = alter(rows, after)
            self.hit += shown != rows
        for row in shown:
            if row in rows:
                self.shown_at.setdefault(row["sequence_number"], time.time())
        reply = HttpReply(json.dumps({**content, "messages": shown}).encode())
        if mode == "old":
            self._old.setdefault(path, reply)
        return reply

    def _is_after(self, row: Row) -> bool:
        return bool(row["sequence_number"] > self._from.get("sequence_number", 0))

    def _lags_rows(self, rows: list[Row], _after: int) -> list[Row]:
        until_ns = self._shown_until_ns()
        return [row for row in rows if parse_timestamp(row["consensus_timestamp"]) <= until_ns]

    def _gap_rows(self, rows: list[Row], _after: int) -> list[Row]:
        missing = self._from.get("sequence_number", 0) + 1
        return [row for row in rows if row["sequence_number"] != missing]

    # ---- what is not there -----------------------------------------------------------------------------

    def _wrong_hash_rows(self, rows: list[Row], _after: int) -> list[Row]:
        wrong = base64.b64encode(self.rng.randbytes(RUNNING_HASH_BYTES)).decode()
        return [{**row, "running_hash": wrong} if self._is_after(row) else row for row in rows]

    def _another_root_rows(self, rows: list[Row], after: int) -> list[Row]:
        """Our own messages with other roots, and a chain of hashes that recomputes."""
        forged = [{**row, "message": _with_another_root(row["message"])} for row in self._new_rows()]
        old = [row for row in rows if not self._is_after(row)]
        return old + [row for row in self._chained(forged) if row["sequence_number"] > after]

    def _foreign_rows(self, rows: list[Row], after: int) -> list[Row]:
        """A message that nobody placed, instead of those that were; the chain recomputes."""
        first = self._new_rows()[:1]
        foreign = base64.b64encode(b'{"p":"hcs-2"}').decode()
        forged = [{**row, "message": foreign, "payer_account_id": "0.0.9"} for row in first]
        old = [row for row in rows if not self._is_after(row)]
        return old + [row for row in self._chained(forged) if row["sequence_number"] > after]

    def _new_rows(self) -> list[Row]:
        known = self._from.get("sequence_number", 0)
        return self._real_rows(f"order=asc&limit=100&sequencenumber=gt:{known}")

    def _chained(self, rows: list[Row]) -> list[Row]:
        known = self._from.get("running_hash")
        running_hash = base64.b64decode(known) if known else bytes(RUNNING_HASH_BYTES)
        chained = []
        for row in rows:
            running_hash = running_hash_v3(
                running_hash,
                payer=EntityId.parse(row["payer_account_id"]),
                topic=EntityId.parse(row["topic_id"]),
                consensus_time_ns=parse_timestamp(row["consensus_timestamp"]),
                sequence=row["sequence_number"],
                message=base64.b64decode(row["message"]),
            )
            chained.append({**row, "running_hash": base64.b64encode(running_hash).decode()})
        return chained

    def _real_rows(self, query: str) -> list[Row]:
        real = forwarded(f"{self.url}/api/v1/topics/{self._topic}/messages?{query}")
        if real is None or real.status != 200:
            return []
        rows: list[Row] = json.loads(real.data)["messages"]
        return rows


def _with_another_root(message: str) -> str:
    anchor = json.loads(base64.b64decode(message))
    size = anchor["metadata"]["root"]["treeSize"]
    other = base64.urlsafe_b64encode(size.rjust(32).encode()[:32]).rstrip(b"=").decode()
    anchor["metadata"]["root"]["rootHashB64u"] = other
    return base64.b64encode(json.dumps(anchor, separators=(",", ":")).encode()).decode()
