"""What a witness answers (https://c2sp.org/tlog-witness, v1.1): it cosigns what extends what it knows.

Each check below has the status that the specification gives it, in its order. The cosignature leaves only
after the checkpoint is durable: a witness that is killed may have remembered what it never told, which the
log finds out from the next 409, and never the other way round.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import structlog

from anchors.errors import WitnessConfigError, WitnessRequestError
from anchors.witness.addcheckpoint import SIZE_CONTENT_TYPE, format_size, parse_add_checkpoint
from anchors.witness.memory import Cosigned, Memory
from schemas.checkpoint import Checkpoint, parse_checkpoint
from schemas.errors import FormatError
from schemas.note import (
    ED25519,
    CosignatureSigner,
    Note,
    Signature,
    SignatureError,
    VerifierKey,
    format_note,
    format_signatures,
    parse_note,
    verify_note,
)

log = structlog.get_logger("anchors.witness")

ConsistencyCheck = Callable[[int, bytes, int, bytes, Sequence[bytes]], bool]
"""(old size, old root, new size, new root, proof): whether the old tree is a prefix; old size is above 0."""


_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    content_type: str = _TEXT


@dataclass(frozen=True, slots=True)
class KnownLog:
    """A log that this witness follows; after a change of its key it has two entries."""

    origin: str
    key: VerifierKey


class _NoError(Exception):
    """Answered with an error status; undoes the transaction it leaves."""

    def __init__(self, status: int, body: str | bytes, content_type: str = _TEXT) -> None:
        super().__init__()
        data = body if isinstance(body, bytes) else f"{body}\n".encode()
        self.answer = Answer(status, data, content_type)


class Witness:
    """Decides; any number of threads may ask at once."""

    def __init__(
        self,
        signer: CosignatureSigner,
        logs: Iterable[KnownLog],
        memory: Memory,
        is_consistent: ConsistencyCheck,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """The signer's own time is not used. Raises WitnessConfigError for a key that is no log's."""
        self._signer, self._memory, self._is_consistent, self._now_s = signer, memory, is_consistent, now_s
        self._keys: dict[str, list[VerifierKey]] = {}
        for known in logs:
            if known.key.algorithm != ED25519 or known.key.public_key == signer.public_key:
                raise WitnessConfigError(f"{known.key.name}: a witness's key signs no log")
            self._keys.setdefault(known.origin, []).append(known.key)

    @property
    def key(self) -> VerifierKey:
        """What others list in their policies."""
        return self._signer.verifier

    def add_checkpoint(self, body: bytes) -> Answer:
        """Cosign, or say why not; raises WitnessStoreError when the memory fails, and nothing is signed."""
        try:
            return self._add_checkpoint(body)
        except _NoError as no:
            return no.answer

    def latest(self, origin_hash: str) -> Answer:
        """Return the newest cosigned checkpoint of the log whose origin has this SHA-256 (lowercase hex)."""
        for origin, cosigned in self._memory.all().items():
            if hashlib.sha256(origin.encode()).hexdigest() == origin_hash:
                return Answer(200, cosigned.note)
        return Answer(404, b"no checkpoint of such a log was cosigned\n")

    def _add_checkpoint(self, body: bytes) -> Answer:
        try:
            request = parse_add_checkpoint(body)
            note = parse_note(request.checkpoint)
            checkpoint = parse_checkpoint(note.text)
        except (WitnessRequestError, FormatError) as error:
            raise _NoError(400, str(error)) from error
        self._check_signature(note, checkpoint)
        if request.old_size > checkpoint.size:
            raise _NoError(400, "the old size is larger than the checkpoint's")
        with self._memory.transaction() as transaction:
            known = transaction.get(checkpoint.origin)
            self._check_extends(known, request.old_size, request.proof, checkpoint)
            cosignature, time_s = self._cosign(known, note)
            whole = format_note(note.with_signatures([cosignature]))
            transaction.put(checkpoint.origin, Cosigned(checkpoint.size, checkpoint.root, time_s, whole))
        # A crash before this line answers nothing; one after it has told what is durable.
        log.info("cosigned", origin=checkpoint.origin, size=checkpoint.size)
        return Answer(200, format_signatures([cosignature]))

    def _check_signature(self, note: Note, checkpoint: Checkpoint) -> None:
        keys = self._keys.get(checkpoint.origin)
        if keys is None:
            raise _NoError(404, "the log is not known here")
        try:
            verify_note(note, keys)
        except SignatureError as error:
            raise _NoError(403, str(error)) from error

    def _check_extends(
        self, known: Cosigned | None, old_size: int, proof: Sequence[bytes], new: Checkpoint
    ) -> None:
        known_size = known.size if known else 0
        if old_size != known_size:
            raise _NoError(409, format_size(known_size), SIZE_CONTENT_TYPE)
        if known is None or old_size == 0:
            if proof:
                raise _NoError(422, "nothing can be proven of an empty tree")
        elif not self._is_consistent(known.size, known.root, new.size, new.root, proof):
            self._tell_fork(new, known)
            # Also for another root of the same size; version 1.0 had 409 for that.
            raise _NoError(422, f"not shown to extend the {known.size} leaves that were cosigned")

    def _cosign(self, known: Cosigned | None, note: Note) -> tuple[Signature, int]:
        time_s = int(self._now_s())
        if known is not None and time_s < known.time_s:
            # Two cosignatures would state a larger log at an earlier time.
            log.error("the clock is behind the last cosignature", behind_s=known.time_s - time_s)
            raise _NoError(503, "the witness's clock is behind its last cosignature")
        signer = replace(self._signer, time_s=time_s)
        return Signature(signer.name, signer.key_id, signer.sign(note.text.encode())), time_s

    def _tell_fork(self, new: Checkpoint, known: Cosigned) -> None:
        # Signed by the log: with the checkpoint that is remembered it may prove a fork, or be a bad proof.
        log.error(
            "refused a signed checkpoint that was not shown to extend the cosigned one",
            origin=new.origin,
            size=new.size,
            root=new.root.hex(),
            cosigned_size=known.size,
            cosigned_root=known.root.hex(),
        )
