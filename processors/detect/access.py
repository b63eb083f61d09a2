"""Detector over access events: somebody keeps trying at a device and keeps failing.

Counted by broker time and twice: the failures of one subject (guessing one password), and those of all
subjects that have no finding of their own (one guess each with many names). A success after them is the
worst news and is reported at once. Memory is bounded: the last 64 failures and at most 8 open subjects a
device; what goes beyond is still counted at the device.

State, little-endian: version u8, failures u8, per failure (append_ms i64, offset i64, subject 8 bytes),
episodes u8, per episode (subject 8 bytes, first i64, failures u32, last_ms i64, granted u8, length u16,
subject text).
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blake3 import blake3

from processors.detect.config import DetectConfig
from processors.detect.errors import StateError
from processors.model import VerifiedEvent
from processors.splice import Splice, all_anew
from schemas.records import EvidenceRef, Finding, FindingStatus, Severity

RULE = "repeated_failed_access"
VERSION = 1
MAX_FAILURES = 64
MAX_SUBJECTS = 8
_MAX_COUNT = 2**32 - 1
_EVERYONE = bytes(8)
_FAILURE = struct.Struct("<qq8s")
_EPISODE = struct.Struct("<8sqIqBH")
_FAILED = frozenset({"DENIED", "FAILED"})


@dataclass(slots=True)
class _Episode:
    key: bytes
    first_offset: int
    failures: int
    last_ms: int
    subject: str = ""
    granted: bool = False


@dataclass(frozen=True, slots=True)
class _Verdict:
    status: FindingStatus
    severity: Severity
    score: float
    explanation: str
    cited_offsets: Sequence[int] = ()


class AccessState:
    """One device's recent failures (append_ms, raw offset, subject hash), and its open episodes."""

    __slots__ = ("episodes", "failures")

    def __init__(self) -> None:
        self.failures: list[tuple[int, int, bytes]] = []
        self.episodes: dict[bytes, _Episode] = {}


def _hash(subject: str) -> bytes:
    return blake3(subject.encode("utf-8", "surrogatepass")).digest(8)


class AccessDetectors:
    """Repeated failed access, per device. Holds no state: that is the caller's, by device."""

    def __init__(self, config: DetectConfig) -> None:
        self._limits = config.failed_access
        self._window_ms = int(config.failed_access.window_s * 1000)
        self._digest = config.digest

    def new(self) -> AccessState:
        """Return the state of a device not seen before."""
        return AccessState()

    def load(self, data: bytes) -> AccessState:
        """Read a state; `b""` is a new one. Raises StateError for bytes that `dump` never wrote."""
        state = AccessState()
        if not data:
            return state
        if data[0] != VERSION:
            message = f"access state of version {data[0]}, this build reads {VERSION}"
            raise StateError(message)
        try:
            at = 2
            for _ in range(data[1]):
                state.failures.append(_FAILURE.unpack_from(data, at))
                at += _FAILURE.size
            episodes = data[at]
            at += 1
            for _ in range(episodes):
                key, first_offset, failures, last_ms, granted, length = _EPISODE.unpack_from(data, at)
                at += _EPISODE.size
                text = data[at : at + length]
                at += length
                state.episodes[key] = _Episode(
                    key, first_offset, failures, last_ms, text.decode("utf-8", "surrogatepass"), bool(granted)
                )
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            message = f"access state of {len(data)} bytes cannot be read"
            raise StateError(message) from error
        if at != len(data):
            message = f"access state has {len(data)} bytes where its counts ask for {at}"
            raise StateError(message)
        return state

    def dump_all(self, states: Sequence[AccessState]) -> list[bytes]:
        """Write states, each as `dump` does."""
        return [self.dump(state) for state in states]

    def dump_changes(self, states: Sequence[AccessState], is_whole: Sequence[bool]) -> list[bytes | Splice]:
        """Write states; they are small."""
        return all_anew(self.dump_all(states), is_whole)

    def dump(self, state: AccessState) -> bytes:
        """Write a state so that `load` gives exactly it."""
        parts = [bytes((VERSION, len(state.failures)))]
        parts += (_FAILURE.pack(*each) for each in state.failures)
        parts.append(bytes((len(state.episodes),)))
        for key, each in state.episodes.items():
            text = each.subject.encode("utf-8", "surrogatepass")
            parts.append(
                _EPISODE.pack(key, each.first_offset, each.failures, each.last_ms, each.granted, len(text))
            )
            parts.append(text)
        return b"".join(parts)

    def process(
        self, events: Sequence[VerifiedEvent], state_of: Callable[[str], AccessState]
    ) -> list[Finding]:
        """Judge accepted access events in their order, updating states; return findings in that order."""
        findings: list[Finding] = []
        for verified in events:
            state = state_of(verified.event.device_id)
            failed = verified.event.body["outcome"] in _FAILED
            if not failed and not state.failures and not state.episodes:
                continue
            findings += self._forget(verified, state)
            if failed:
                findings += self._failure(verified, state)
            elif state.episodes:
                findings += self._granted(verified, state)
        return findings

    def _forget(self, verified: VerifiedEvent, state: AccessState) -> list[Finding]:
        oldest_ms = verified.source.append_ms - self._window_ms
        state.failures = [each for each in state.failures if each[0] >= oldest_ms]
        over = [key for key, each in state.episodes.items() if each.last_ms < oldest_ms]
        findings = []
        for key in over:
            episode = state.episodes.pop(key)
            text = f"{_who(episode)}: no failed access within {self._limits.window_s:g} s any more"
            verdict = _Verdict(FindingStatus.CLEARED, Severity.INFORMATIONAL, 0.0, text)
            findings.append(self._finding(verified, episode, verdict))
        return findings

    def _failure(self, verified: VerifiedEvent, state: AccessState) -> list[Finding]:
        subject = verified.event.body["subject"]
        key = _hash(subject)
        state.failures.append((verified.source.append_ms, verified.source.offset, key))
        del state.failures[:-MAX_FAILURES]
        mine = [offset for _, offset, whose in state.failures if whose == key]
        found = self._count(verified, state, key, subject, mine)
        if key not in state.episodes:
            others = [offset for _, offset, whose in state.failures if whose not in state.episodes]
            found += self._count(verified, state, _EVERYONE, "", others)
        return found

    def _count(
        self, verified: VerifiedEvent, state: AccessState, key: bytes, subject: str, offsets: list[int]
    ) -> list[Finding]:
        source, limit = verified.source, self._limit(key)
        episode = state.episodes.get(key)
        if episode is None:
            open_subjects = len(state.episodes) - (_EVERYONE in state.episodes)
            if len(offsets) < limit or (key != _EVERYONE and open_subjects >= MAX_SUBJECTS):
                return []
            episode = _Episode(key, offsets[0], len(offsets), source.append_ms, subject)
            state.episodes[key] = episode
            status, severity, cited = FindingStatus.OPENED, Severity.MEDIUM, offsets[-limit:]
        else:
            episode.failures = min(episode.failures + 1, _MAX_COUNT)
            episode.last_ms = source.append_ms
            if episode.failures % limit or str(episode.failures // limit).rstrip("0") != "1":
                return []
            status, severity = FindingStatus.UPDATED, Severity.HIGH
            cited = [episode.first_offset, source.offset]
        window = f"at most {self._limits.window_s:g} s apart"
        text = f"{_who(episode)}: {episode.failures} failed accesses, {window}"
        score = round(episode.failures / limit, 1)
        return [self._finding(verified, episode, _Verdict(status, severity, score, text, cited))]

    def _granted(self, verified: VerifiedEvent, state: AccessState) -> list[Finding]:
        key = _hash(verified.event.body["subject"])
        episode = state.episodes.get(key)
        if episode is None and any(each[2] == key for each in state.failures):
            episode = state.episodes.get(_EVERYONE)
        if episode is None or episode.granted:
            return []
        episode.granted = True
        text = f"{_who(episode)}: access was granted after {episode.failures} failures"
        score = round(episode.failures / self._limit(episode.key), 1)
        cited = [episode.first_offset, verified.source.offset]
        verdict = _Verdict(FindingStatus.UPDATED, Severity.CRITICAL, score, text, cited)
        return [self._finding(verified, episode, verdict)]

    def _limit(self, key: bytes) -> int:
        return self._limits.device_limit if key == _EVERYONE else self._limits.subject_limit

    def _finding(self, verified: VerifiedEvent, episode: _Episode, verdict: _Verdict) -> Finding:
        source = verified.source
        others = dict.fromkeys(each for each in verdict.cited_offsets if each != source.offset)
        evidence = [EvidenceRef(source.topic, source.partition, offset) for offset in others]
        evidence.append(source.reference(verified.digest))
        scope = "device" if episode.key == _EVERYONE else "subject"
        first = f"{source.topic}/{source.partition}/{episode.first_offset}"
        return Finding(
            rule=RULE,
            severity=verdict.severity,
            device_id=verified.event.device_id,
            time_us=source.append_us,
            explanation=verdict.explanation,
            evidence=tuple(evidence),
            score=verdict.score,
            status=verdict.status,
            subject=episode.subject if scope == "subject" else None,
            parameters={
                "scope": scope,
                "limit": str(self._limit(episode.key)),
                "window_s": f"{self._limits.window_s:g}",
                "failures": str(episode.failures),
                "config": self._digest,
            },
            cause=f"{scope} {episode.subject} from {first}",
        )


def _who(episode: _Episode) -> str:
    return "all subjects together" if episode.key == _EVERYONE else f"subject {episode.subject}"
