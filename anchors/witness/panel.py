"""Asking all witnesses of a policy at once, until their cosignatures are enough or the time is up."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from anchors.errors import WitnessConfigError
from anchors.witness.client import Submission, WitnessClient, WitnessWord
from schemas.checkpoint import SignedCheckpoint
from schemas.note import VerifierKey
from schemas.witnesspolicy import WitnessPolicy

LINGER_S = 1.0
"""Once there are enough, at most so much longer for the others: more cosignatures convince more auditors."""
GRACE_S = 0.5
"""An answer may come at the very deadline, and then has to be verified."""

_Answers = SimpleQueue[tuple[WitnessClient, WitnessWord | Exception]]


@dataclass(frozen=True, slots=True)
class PanelResult:
    """What the witnesses of a policy said to one checkpoint."""

    signed: SignedCheckpoint
    """Its note carries the log's signature and then every verified cosignature, in the policy's order."""
    words: tuple[WitnessWord, ...]
    failures: Mapping[str, str]
    """Why not, by the witness's name in the policy."""
    is_quorum: bool


class WitnessPanel:
    """Asks the witnesses of one policy, each in a thread of its own, about one checkpoint at a time."""

    def __init__(
        self,
        policy: WitnessPolicy,
        known_sizes: Mapping[str, int],
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """Start from the `known_sizes` of an earlier panel.

        Raises WitnessConfigError for a URL that cannot be used, and where the witnesses with a URL are too
        few for the quorum.
        """
        self._policy = policy
        self._clients = [WitnessClient(each, now_s) for each in policy.witnesses if each.url is not None]
        if not policy.quorum_met(client.witness.key for client in self._clients):
            raise WitnessConfigError(
                f"the witness policy ({policy.describe()}) names too few URLs to meet its quorum"
            )
        self._lock = threading.Lock()
        self._proving = threading.Lock()
        self._known_sizes = dict(known_sizes)
        self._busy: set[VerifierKey] = set()

    @property
    def known_sizes(self) -> dict[str, int]:
        """The size that each witness cosigned last, by its vkey; worth keeping, and no harm if lost."""
        with self._lock:
            return dict(self._known_sizes)

    def ask(
        self, signed: SignedCheckpoint, prove: Callable[[int], Sequence[bytes]], timeout_s: float
    ) -> PanelResult:
        """Collect cosignatures for `timeout_s`, or until the quorum is met and the others had a moment.

        `prove(n)` gives the consistency proof from the first n leaves to the checkpoint's, 0 < n < size.
        """
        deadline_s = time.monotonic() + timeout_s
        answers: _Answers = SimpleQueue()
        submission = Submission(signed, self._one_after_another(prove))
        waiting, failures = set(), {}
        for client in self._clients:
            if self._begin(client):
                waiting.add(client.witness.name)
                arguments = (client, submission, deadline_s, answers)
                name = f"witness-{client.witness.name}"
                threading.Thread(target=self._ask, args=arguments, name=name, daemon=True).start()
            else:
                failures[client.witness.name] = "it still owes the answer to an earlier question"
        words: dict[VerifierKey, WitnessWord] = {}
        end_s = self._shortened(deadline_s + GRACE_S, words)
        while waiting:
            try:
                client, answer = answers.get(timeout=max(0.0, end_s - time.monotonic()))
            except Empty:
                break
            waiting.discard(client.witness.name)
            if isinstance(answer, WitnessWord):
                words[client.witness.key] = answer
                end_s = self._shortened(end_s, words)
            else:
                failures[client.witness.name] = str(answer)
        failures.update(dict.fromkeys(waiting, "no answer yet"))
        ordered = tuple(words[each.key] for each in self._policy.witnesses if each.key in words)
        note = signed.note.with_signatures(word.signature for word in ordered)
        cosigned = SignedCheckpoint(signed.checkpoint, note)
        return PanelResult(cosigned, ordered, failures, self._policy.quorum_met(words))

    def _shortened(self, end_s: float, words: Mapping[VerifierKey, WitnessWord]) -> float:
        return min(end_s, time.monotonic() + LINGER_S) if self._policy.quorum_met(words) else end_s

    def _begin(self, client: WitnessClient) -> bool:
        with self._lock:
            is_free = client.witness.key not in self._busy
            self._busy.add(client.witness.key)
            return is_free

    def _ask(
        self, client: WitnessClient, submission: Submission, deadline_s: float, answers: _Answers
    ) -> None:
        key = client.witness.key
        answer: WitnessWord | Exception
        try:
            answer = client.cosign(submission, self.known_sizes.get(str(key), 0), deadline_s)
        except Exception as error:  # noqa: BLE001 - also a proof that fails: told, and not taken for silence
            answer = error
        with self._lock:
            if isinstance(answer, WitnessWord):
                self._known_sizes[str(key)] = submission.size
            self._busy.discard(key)
        answers.put((client, answer))

    def _one_after_another(self, prove: Callable[[int], Sequence[bytes]]) -> Callable[[int], Sequence[bytes]]:
        def proven(old_size: int) -> Sequence[bytes]:
            with self._proving:  # readers of tiles keep what they read, and are not made for threads
                return prove(old_size)

        return proven
