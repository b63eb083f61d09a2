"""Asking one witness (https://c2sp.org/tlog-witness): add-checkpoint, going on from the size that it knows.

Whatever comes back is bounded in size and time, redirects are not followed, and nothing counts before the
cosignature has been verified under the key that the policy names, with a time that is about now.
"""

import functools
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import structlog

from anchors.bounded import with_deadline
from anchors.errors import (
    WitnessAnswerError,
    WitnessConfigError,
    WitnessConflictError,
    WitnessRefusedError,
    WitnessRequestError,
    WitnessUnavailableError,
)
from anchors.witness.addcheckpoint import PATH, SIZE_CONTENT_TYPE, AddCheckpoint, parse_size
from schemas.checkpoint import SignedCheckpoint
from schemas.errors import FormatError
from schemas.note import Note, Signature, format_note, parse_signatures, verify_note
from schemas.witnesspolicy import PolicyWitness

log = structlog.get_logger("anchors.witness")

MAX_ANSWER_BYTES = 1 << 16
MAX_CLOCK_DIFFERENCE_S = 300
"""Between a witness's clock and ours; beyond it a cosignature says nothing about now."""
MAX_SIZES_TOLD = 3
"""How often a witness may say that it knows another size: another submitter may come between, not forever."""
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 2.0
_SAID_BYTES = 200
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_URL = re.compile(r"https?://[^\s?#]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Submission:
    """A checkpoint to be cosigned."""

    signed: SignedCheckpoint
    prove: Callable[[int], Sequence[bytes]]
    """prove(n): the consistency proof from the first n leaves, 0 < n < size, lowest hash first."""

    @property
    def size(self) -> int:
        """Leaves of its tree."""
        return self.signed.checkpoint.size


@dataclass(frozen=True, slots=True)
class WitnessWord:
    """A verified cosignature of the submitted checkpoint."""

    witness: PolicyWitness
    signature: Signature
    time_s: int
    """Unix, by the witness's clock."""


class WitnessClient:
    """One witness of a policy. Raises WitnessConfigError where the policy gives no http(s) URL for it."""

    def __init__(self, witness: PolicyWitness, now_s: Callable[[], float] = time.time) -> None:
        url = urlsplit(witness.url or "")
        if witness.url is None or not _URL.fullmatch(witness.url) or not url.hostname or "@" in url.netloc:
            raise WitnessConfigError(f"witness {witness.name}: {witness.url!a} is no URL to submit to")
        self.witness = witness
        self._url = f"{witness.url.rstrip('/')}/{PATH}"
        self._now_s = now_s
        # A proxy for the outside world cannot reach a witness on this machine.
        self._proxies: dict[str, str] | None = {} if url.hostname in _LOOPBACK else None

    def cosign(self, submission: Submission, known_size: int, deadline_s: float) -> WitnessWord:
        """Ask until `deadline_s` (monotonic); `known_size` is the size that it cosigned last, 0 if unknown.

        Raises WitnessUnavailableError (in time no usable answer), WitnessRefusedError, WitnessConflictError
        and WitnessAnswerError; only the first may be different in a moment.
        """
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return self._cosign(submission, known_size, deadline_s)
            except WitnessUnavailableError:
                if time.monotonic() + pause_s >= deadline_s:
                    raise
            time.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)

    def _cosign(self, submission: Submission, known_size: int, deadline_s: float) -> WitnessWord:
        checkpoint = format_note(submission.signed.note)
        old_size = min(known_size, submission.size)
        for _ in range(MAX_SIZES_TOLD):
            proof = submission.prove(old_size) if 0 < old_size < submission.size else ()
            request = AddCheckpoint(old_size, tuple(proof), checkpoint)
            status, content_type, body = self._post(request.encode(), deadline_s)
            if status == 200:
                return self._verified(submission.signed.note, body)
            if status == 409 and content_type == SIZE_CONTENT_TYPE:
                old_size = self._told_size(body, old_size, submission.size)
                if old_size < known_size:
                    log.warning(
                        "a witness has forgotten what it cosigned",
                        witness=self.witness.name,
                        cosigned=known_size,
                        knows=old_size,
                    )
            else:
                self._refused(status, body, old_size, submission.size)
        raise WitnessUnavailableError(f"{self._name} says each time that it knows another size")

    def _told_size(self, body: bytes, old_size: int, size: int) -> int:
        try:
            told = parse_size(body)
        except WitnessRequestError as error:
            raise WitnessAnswerError(f"{self._name} answers 409: {error}") from error
        if told > size:
            raise WitnessConflictError(f"{self._name} has cosigned {told} leaves, more than these {size}")
        if told == old_size == size:
            raise WitnessConflictError(f"{self._name} has cosigned another root of {size} leaves")
        if told == old_size:
            raise WitnessAnswerError(f"{self._name} does not take {told} leaves for the {told} it knows")
        return told

    def _refused(self, status: int, body: bytes, old_size: int, size: int) -> None:
        if status == 429 or status >= 500:
            raise WitnessUnavailableError(f"{self._name} answers {status}: {_said(body)}")
        if status == 409 or (status == 422 and old_size):
            # What it cosigned has another root than our tree had at that size; a log checks its own proofs.
            raise WitnessConflictError(
                f"{self._name} knows {old_size} leaves that are not the first of these {size}: {_said(body)}"
            )
        if 300 <= status < 400:
            raise WitnessRefusedError(
                f"{self._name} redirects; the policy must name its last address", status
            )
        raise WitnessRefusedError(f"{self._name} refuses: {_said(body)}", status)

    def _verified(self, note: Note, body: bytes) -> WitnessWord:
        key = self.witness.key
        try:
            signatures = parse_signatures(body)
            verified = verify_note(Note(note.text, signatures), [key])[0]
        except FormatError as error:
            raise WitnessAnswerError(
                f"{self._name} answers with no cosignature of its own: {error}"
            ) from error
        time_s, now_s = verified.time_s or 0, self._now_s()
        if abs(now_s - time_s) > MAX_CLOCK_DIFFERENCE_S:
            raise WitnessAnswerError(f"{self._name} dates its cosignature {time_s - now_s:+.0f} s from now")
        # Theirs may hold a key twice; the first is the one that was verified.
        signature = next(each for each in signatures if (each.name, each.key_id) == (key.name, key.key_id))
        return WitnessWord(self.witness, signature, time_s)

    @property
    def _name(self) -> str:
        return f"witness {self.witness.name}"

    def _post(self, body: bytes, deadline_s: float) -> tuple[int, str, bytes]:
        """Return status, content type and body of the answer; raises WitnessUnavailableError for none."""
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler(self._proxies),
            _NoRedirects(),
            _Http(deadline_s),
            _Https(deadline_s),
        )
        headers = {"Content-Type": "application/octet-stream", "User-Agent": "attestream"}
        request = urllib.request.Request(self._url, body, headers, method="POST")  # noqa: S310 - http(s) only, see above
        try:
            try:
                response = opener.open(request, timeout=_left_s(deadline_s))
            except urllib.error.HTTPError as error:
                response = error
            with response:
                data = response.read(MAX_ANSWER_BYTES + 1)
                status, content_type = response.status, response.headers.get_content_type()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise WitnessUnavailableError(f"{self._name} does not answer: {error}") from error
        if len(data) > MAX_ANSWER_BYTES:
            raise WitnessAnswerError(f"{self._name} answers with more than {MAX_ANSWER_BYTES} bytes")
        return int(status), str(content_type), data


def _left_s(deadline_s: float) -> float:
    return max(0.001, deadline_s - time.monotonic())


def _said(body: bytes) -> str:
    """Another party's words, fit for a log line."""
    return ascii(body[:_SAID_BYTES].decode(errors="replace").strip())


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Let the redirection be the answer."""


class _Response(http.client.HTTPResponse):
    """Read up to the deadline, also where a byte comes now and then."""

    def __init__(self, sock: Any, *arguments: Any, deadline_s: float, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp, _ = with_deadline(sock, self.fp, deadline_s)


class _Http(urllib.request.HTTPHandler):
    def __init__(self, deadline_s: float) -> None:
        super().__init__()
        self._deadline_s = deadline_s

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_bounded(http.client.HTTPConnection, self._deadline_s), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, deadline_s: float) -> None:
        super().__init__()
        self._deadline_s = deadline_s

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_bounded(http.client.HTTPSConnection, self._deadline_s), req)


def _bounded(kind: type[http.client.HTTPConnection], deadline_s: float) -> Any:
    """A class of connections whose answers must be there by the deadline."""
    response_class = functools.partial(_Response, deadline_s=deadline_s)
    return type(f"Bounded{kind.__name__}", (kind,), {"response_class": staticmethod(response_class)})
