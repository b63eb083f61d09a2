"""The parties file: who is told of which alerts, and how. A C2SP signed note whose text is one JSON object.

{"log_name", "version", "parties": [{"name", "filter", "outputs"}]}. Authorities of the trust file sign it, as
many as its `authority_threshold` says, each under the key name `<log name>/parties`. The log's name stands
inside, so that a file of another deployment is refused. Whoever reads it remembers the highest version that
he has seen, and takes no lower one.

No member is a secret: a secret is named by the environment variable or the file that holds it. A member that
is not known is an error, because a filter that was spelled wrongly would tell too many, or nobody.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from blake3 import blake3

from schemas.members import Members
from schemas.note import ED25519, SignatureError, VerifierKey, parse_note, verify_note
from schemas.partyoutputs import (
    MAX_FILE_BYTES,
    Output,
    PartyError,
    name_of,
    parse_output,
    texts,
)
from schemas.records import SEVERITY_RANK, Severity
from schemas.strictjson import load_object
from schemas.trust import TrustRoot

MAX_PARTIES = 64
MAX_OUTPUTS = 8
MAX_VALUES = 256
"""Of one member of a filter."""
MAX_VERSION = 2**31 - 1
RESERVED_NAMES = frozenset({"changelog", "control"})
"""`alerts.changelog` and `alerts.control` are not a party's."""

_DETECTION_FINDING, _API_ACTIVITY = 2004, 6003
CLASSES = (_DETECTION_FINDING, _API_ACTIVITY)
"""OCSF classes of what stands in `alerts`."""
_RULE = re.compile(r"[a-z0-9_.]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """What a party is told of: every member that is given must fit; an empty one fits everything."""

    severity: Severity = Severity.INFORMATIONAL
    """The lowest severity that is told."""
    classes: tuple[int, ...] = ()
    """OCSF class uids."""
    wards: tuple[str, ...] = ()
    manufacturers: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()

    def fits(self, severity: Severity, class_uid: int, ward: str, manufacturer: str, rule: str) -> bool:
        """Tell whether an alert of these is for the party; an unknown ward or manufacturer is empty."""
        return (
            SEVERITY_RANK[severity] >= SEVERITY_RANK[self.severity]
            and (not self.classes or class_uid in self.classes)
            and (not self.wards or ward in self.wards)
            and (not self.manufacturers or manufacturer in self.manufacturers)
            and (not self.rules or rule in self.rules)
        )

    def describe(self) -> str:
        """Say it in a line."""
        parts = [f"{self.severity.value.lower()} and above"]
        lists = {"class": self.classes, "ward": self.wards, "by": self.manufacturers, "rule": self.rules}
        parts += [f"{name} {' or '.join(map(str, values))}" for name, values in lists.items() if values]
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Party:
    """A subscribed party; its name is part of the name of its topic."""

    name: str
    filter: AlertFilter
    outputs: tuple[Output, ...]


@dataclass(frozen=True, slots=True)
class Parties:
    """A parties file that was believed; `digest` is BLAKE3 of its signed text."""

    log_name: str
    version: int
    parties: tuple[Party, ...]
    digest: bytes


def parties_key(log_name: str, public_key: bytes) -> VerifierKey:
    """Return the key that checks an authority's signature under a parties file."""
    return VerifierKey(parties_key_name(log_name), ED25519, public_key)


def parties_key_name(log_name: str) -> str:
    """Return the key name of an authority's signature: what it says it is for."""
    return f"{log_name}/parties"


def open_parties(data: bytes, trust: TrustRoot) -> Parties:
    """Read a signed parties file; raises PartyError, NoteError or SignatureError, which say what is wrong."""
    note = parse_note(data)
    keys = {parties_key(trust.log_name, key) for key in trust.authorities.values()}
    signed = len({each.key for each in verify_note(note, keys)})
    if signed < trust.authority_threshold:
        raise SignatureError(f"parties file: {signed} authorities signed, {trust.authority_threshold} must")
    return parse_parties(note.text, trust.log_name)


def parse_parties(text: str | bytes, log_name: str) -> Parties:
    """Read the text of a parties file; raises PartyError naming the member at fault."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(data) > MAX_FILE_BYTES:
        raise PartyError(f"parties file of {len(data)} bytes is above the limit of {MAX_FILE_BYTES}")
    try:
        document = load_object(data)
    except ValueError as error:
        raise PartyError(f"parties file is not a JSON object: {error}") from error
    root = Members(document, "parties file", PartyError)
    root.only(("log_name", "version", "parties"))
    if root.text("log_name") != log_name:
        raise root.fault("log_name", f"is not {log_name}: the file is for another log")
    version = root.number("version")
    if not 1 <= version <= MAX_VERSION:
        raise root.fault("version", f"is not from 1 to {MAX_VERSION}")
    parties = tuple(_party(each) for each in root.children("parties", MAX_PARTIES))
    _check_unique((party.name for party in parties), "parties file: party")
    _check_listeners(parties)
    return Parties(log_name, version, parties, blake3(data).digest())


def _party(found: Members) -> Party:
    found.only(("name", "filter", "outputs"))
    name = name_of(found, RESERVED_NAMES)
    outputs = tuple(parse_output(each) for each in found.children("outputs", MAX_OUTPUTS))
    _check_unique((output.name for output in outputs), f"parties file: party {name}: output")
    return Party(name, _filter(found.child("filter")), outputs)


def _filter(found: Members) -> AlertFilter:
    found.only(("severity", "classes", "wards", "manufacturers", "rules"))
    severity = Severity.INFORMATIONAL
    if "severity" in found:
        try:
            severity = Severity(found.text("severity").upper())
        except ValueError:
            names = ", ".join(each.value.lower() for each in Severity)
            raise found.fault("severity", f"is none of {names}") from None
    classes = found.numbers("classes", len(CLASSES)) if "classes" in found else []
    if unknown := [each for each in classes if each not in CLASSES]:
        raise found.fault("classes", f"has {unknown[0]}, which is none of {', '.join(map(str, CLASSES))}")
    rules = texts(found, "rules", MAX_VALUES)
    if unfit := [each for each in rules if not _RULE.fullmatch(each)]:
        raise found.fault("rules", f"has {unfit[0][:64]!a}, which cannot be a rule")
    return AlertFilter(
        severity,
        tuple(classes),
        texts(found, "wards", MAX_VALUES),
        texts(found, "manufacturers", MAX_VALUES),
        rules,
    )


def _check_unique(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise PartyError(f"{what} {name} is there twice")
        seen.add(name)


def _check_listeners(parties: tuple[Party, ...]) -> None:
    places = [output.listen for party in parties for output in party.outputs if output.listen is not None]
    _check_unique((f"{host}:{port}" for host, port in places if port), "parties file: listener")
