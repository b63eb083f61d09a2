"""Witness policies (https://c2sp.org/tlog-policy): whose cosignatures make a checkpoint believable.

A line each: `log <vkey> [<url>]`, `witness <name> <vkey> [<url>]`, `group <name> all|any|<k> <member>...`,
and exactly one `quorum <name>|none`. A group names only what stands above it, and a name is a member of one
group at most, so there are no cycles and a witness counts once.

Stricter than the specification in two points: the file must be UTF-8, and no key may be both a log's and a
witness's, because a log that cosigns itself is no witness.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from schemas.errors import FormatError
from schemas.note import COSIGNATURE_V1, ED25519, Note, VerifierKey, parse_vkey, verify_note

MAX_POLICY_BYTES = 1 << 16
MAX_LINES_OF_A_KIND = 64
"""Of logs, of witnesses and of groups; the specification asks for at least 32."""
NO_QUORUM = "none"

_SPACES = re.compile(r"[ \t]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_THRESHOLD = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)


class PolicyError(FormatError):
    """A witness policy breaks the format; the message names the line."""


@dataclass(frozen=True, slots=True)
class PolicyLog:
    """A log that the policy is about; `key.name` is its origin."""

    key: VerifierKey
    url: str | None


@dataclass(frozen=True, slots=True)
class PolicyWitness:
    """A witness, under its name in the policy; `url` is its tlog-witness submission prefix."""

    name: str
    key: VerifierKey
    url: str | None


@dataclass(frozen=True, slots=True)
class PolicyGroup:
    """At least `threshold` of the members must have witnessed."""

    name: str
    threshold: int
    members: tuple["PolicyWitness | PolicyGroup", ...]


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A policy's witness says that it had seen the checkpoint by `time_s` (Unix, the witness's clock)."""

    witness: PolicyWitness
    time_s: int


@dataclass(frozen=True, slots=True)
class WitnessPolicy:
    """A parsed policy; made by `parse_policy`."""

    logs: tuple[PolicyLog, ...]
    witnesses: tuple[PolicyWitness, ...]
    quorum: PolicyWitness | PolicyGroup | None
    """None: no cosignature is required (`quorum none`)."""

    def quorum_met(self, keys: Iterable[VerifierKey]) -> bool:
        """Tell whether the witnesses with these keys, all verified by the caller, are enough."""
        return self.quorum is None or _is_met(self.quorum, frozenset(keys))

    def cosignatures(self, note: Note) -> tuple[Cosignature, ...]:
        """Return the policy's witnesses that cosigned `note`, in the order of its lines; empty for none.

        Raises SignatureError when a line under a witness's key does not hold; other keys are ignored.
        """
        by_key = {witness.key: witness for witness in self.witnesses}
        known = {(key.name, key.key_id) for key in by_key}
        if not any((signature.name, signature.key_id) in known for signature in note.signatures):
            return ()
        return tuple(
            Cosignature(by_key[verified.key], verified.time_s or 0) for verified in verify_note(note, by_key)
        )

    def quorum_time_s(self, cosignatures: Iterable[Cosignature]) -> int | None:
        """Return by when (Unix) the checkpoint existed, by the word of a quorum; None without one.

        It is the earliest time by which cosignatures of a quorum were made, so that it is false only where
        as many witnesses lie as the quorum counts.
        """
        if self.quorum is None:
            return None
        keys: set[VerifierKey] = set()
        for each in sorted(cosignatures, key=lambda cosignature: cosignature.time_s):
            keys.add(each.witness.key)
            if self.quorum_met(keys):
                return each.time_s
        return None

    def describe(self) -> str:
        """Return the quorum in words: `2 of 3: hospital, regulator, maker`."""
        return "no witness is required" if self.quorum is None else _describe(self.quorum)


def parse_policy(text: str | bytes) -> WitnessPolicy:
    """Parse a policy; raises PolicyError naming the line and what is wrong there."""
    reader = _Reader()
    for number, line in enumerate(_lines(text), start=1):
        words = _SPACES.split(line.strip(" \t"))
        if not words[0] or words[0].startswith("#"):
            continue
        try:
            reader.read(words)
        except FormatError as error:
            raise PolicyError(f"witness policy line {number}: {error}") from error
    if not reader.has_quorum:
        raise PolicyError("witness policy has no quorum line")
    return WitnessPolicy(tuple(reader.logs), tuple(reader.witnesses), reader.quorum)


class _Reader:
    """What the lines so far have defined."""

    def __init__(self) -> None:
        self.logs: list[PolicyLog] = []
        self.witnesses: list[PolicyWitness] = []
        self.quorum: PolicyWitness | PolicyGroup | None = None
        self.has_quorum = False
        self._groups = 0
        self._named: dict[str, PolicyWitness | PolicyGroup] = {}
        self._members: set[str] = set()
        self._public_keys: set[bytes] = set()

    def read(self, words: list[str]) -> None:
        match words:
            case ["log", vkey, *url] if len(url) <= 1:
                self._check_count("logs", len(self.logs))
                self.logs.append(PolicyLog(self._key(vkey, ED25519), url[0] if url else None))
            case ["witness", name, vkey, *url] if len(url) <= 1:
                self._check_count("witnesses", len(self.witnesses))
                witness = PolicyWitness(name, self._key(vkey, COSIGNATURE_V1), url[0] if url else None)
                self._define(witness)
                self.witnesses.append(witness)
            case ["group", name, threshold, member, *others]:
                self._check_count("groups", self._groups)
                members = tuple(self._take_member(each) for each in (member, *others))
                self._define(PolicyGroup(name, _threshold(threshold, len(members)), members))
                self._groups += 1
            case ["quorum", name]:
                if self.has_quorum:
                    raise PolicyError("a second quorum")
                self.quorum = None if name == NO_QUORUM else self._look_up(name)
                self.has_quorum = True
            case [keyword, *_] if keyword in ("log", "witness", "group", "quorum"):
                raise PolicyError(f"{keyword} takes other parts than the {len(words) - 1} it has")
            case _:
                raise PolicyError(f"{words[0][:32]!a} is none of log, witness, group, quorum")

    def _check_count(self, what: str, count: int) -> None:
        if count >= MAX_LINES_OF_A_KIND:
            raise PolicyError(f"more than {MAX_LINES_OF_A_KIND} {what}")

    def _key(self, vkey: str, algorithm: int) -> VerifierKey:
        key = parse_vkey(vkey)
        if key.algorithm != algorithm:
            raise PolicyError(f"key {key.name} has signature type {key.algorithm:#04x}, not {algorithm:#04x}")
        if key.public_key in self._public_keys:
            raise PolicyError(f"the public key of {key.name} is listed twice")
        self._public_keys.add(key.public_key)
        return key

    def _define(self, entry: PolicyWitness | PolicyGroup) -> None:
        if entry.name == NO_QUORUM or entry.name in self._named:
            raise PolicyError(f"name {entry.name!a} is taken")
        self._named[entry.name] = entry

    def _look_up(self, name: str) -> PolicyWitness | PolicyGroup:
        if name not in self._named:
            raise PolicyError(f"{name!a} is not defined above")
        return self._named[name]

    def _take_member(self, name: str) -> PolicyWitness | PolicyGroup:
        found = self._look_up(name)
        if name in self._members:
            raise PolicyError(f"{name!a} is a group's member already")
        self._members.add(name)
        return found


def _lines(text: str | bytes) -> list[str]:
    if len(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text) > MAX_POLICY_BYTES:
        raise PolicyError(f"witness policy is longer than {MAX_POLICY_BYTES} bytes")
    try:
        content = text if isinstance(text, str) else text.decode()
    except UnicodeDecodeError as error:
        raise PolicyError(f"witness policy is not UTF-8 at byte {error.start}") from error
    if found := _CONTROL.search(content):
        line = content.count("\n", 0, found.start()) + 1
        raise PolicyError(f"witness policy line {line}: holds the character {found.group()!a}")
    if content and not content.endswith("\n"):
        # What was cut off may have been the rest of a name.
        raise PolicyError("witness policy does not end in a newline")
    return content.split("\n")


def _threshold(word: str, members: int) -> int:
    if word in ("all", "any"):
        return members if word == "all" else 1
    if not _THRESHOLD.fullmatch(word) or int(word) > members:
        raise PolicyError(f"threshold {word[:32]!a} is not all, any, or a number from 1 to {members}")
    return int(word)


def _is_met(entry: PolicyWitness | PolicyGroup, keys: frozenset[VerifierKey]) -> bool:
    # As deep as there are groups at most, and each entry is looked at once: a name is a member once.
    if isinstance(entry, PolicyWitness):
        return entry.key in keys
    return sum(_is_met(member, keys) for member in entry.members) >= entry.threshold


def _describe(entry: PolicyWitness | PolicyGroup) -> str:
    if isinstance(entry, PolicyWitness):
        return entry.name
    parts = (
        _describe(member) if isinstance(member, PolicyWitness) else f"({_describe(member)})"
        for member in entry.members
    )
    return f"{entry.threshold} of {len(entry.members)}: {', '.join(parts)}"
