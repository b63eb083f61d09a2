"""The trust file: whom an auditor, and every worker, believes. It never comes from the evidence.

JSON: {"log_name", "log_key" (base64, raw Ed25519), "previous_log_keys", "authorities": {key_id: base64},
"authority_threshold", "witnesses": {"policy"}, "ledger": {"kind", "topic", "payer", "checkpoints"}}. One log
key signs every shard's checkpoints; the verifier key of a shard follows from its origin and this key. After a
rotation the earlier keys are listed too, so that what they signed still verifies. One key, one purpose: no
key stands in the file twice.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.checkpoint import SignedCheckpoint, log_key, open_checkpoint
from schemas.ed25519 import check_public_key
from schemas.errors import FormatError
from schemas.evidence import ChainPoint, parse_point, point_json
from schemas.members import Members
from schemas.note import decode_base64
from schemas.strictjson import is_unicode, load_object
from schemas.witnesspolicy import WitnessPolicy, parse_policy

MAX_TRUST_BYTES = 1 << 20
MAX_PREVIOUS_KEYS = 100
MAX_POINTS = 10_000


class TrustError(FormatError):
    """The trust file does not say whom to believe."""


@dataclass(frozen=True, slots=True)
class LedgerTrust:
    """Which topic of which ledger carries the anchors, and who may pay for them (empty: not stated)."""

    kind: str = ""
    topic: str = ""
    payer: str = ""
    checkpoints: tuple[ChainPoint, ...] = ()
    """Points of the topic's history that the auditor has from elsewhere and believes."""


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """Log name and keys, the authorities that may sign registry entries, witnesses and ledger."""

    log_name: str
    log_key: bytes
    authorities: Mapping[str, bytes]
    authority_threshold: int = 1
    ledger: LedgerTrust = field(default_factory=LedgerTrust)
    previous_log_keys: tuple[bytes, ...] = ()
    """Earlier log keys, the newest first."""
    witness_policy: str = ""
    """A C2SP tlog-policy; empty: no witnesses are known."""

    @property
    def log_keys(self) -> tuple[bytes, ...]:
        """The key that signs now, then the earlier ones."""
        return (self.log_key, *self.previous_log_keys)

    @property
    def witnesses(self) -> WitnessPolicy | None:
        """The parsed policy; None where there is none."""
        return parse_policy(self.witness_policy) if self.witness_policy else None

    def to_json(self) -> str:
        """Write the trust file."""
        ledger = self.ledger
        return json.dumps(
            {
                "log_name": self.log_name,
                "log_key": base64.b64encode(self.log_key).decode(),
                "previous_log_keys": [base64.b64encode(key).decode() for key in self.previous_log_keys],
                "authorities": {k: base64.b64encode(v).decode() for k, v in self.authorities.items()},
                "authority_threshold": self.authority_threshold,
                "witnesses": {"policy": self.witness_policy} if self.witness_policy else {},
                "ledger": {
                    "kind": ledger.kind,
                    "topic": ledger.topic,
                    "payer": ledger.payer,
                    "checkpoints": [point_json(point) for point in ledger.checkpoints],
                },
            },
            indent=2,
        )


def open_trusted_checkpoint(data: bytes, origin: str, trust: TrustRoot) -> SignedCheckpoint:
    """Open a checkpoint of `origin` that the log's key signed, the present one or an earlier one.

    Raises FormatError as `open_checkpoint` does.
    """
    return open_checkpoint(data, *(log_key(origin, key) for key in trust.log_keys))


def parse_trust(text: str | bytes) -> TrustRoot:
    """Read a trust file; raises TrustError naming the member at fault.

    A file without `previous_log_keys`, `witnesses` or the ledger's `checkpoints` has none.
    """
    if len(text) > MAX_TRUST_BYTES:
        message = f"trust file of {len(text)} bytes is above the limit of {MAX_TRUST_BYTES}"
        raise TrustError(message)
    try:
        document = load_object(text)
    except ValueError as error:
        message = f"trust file is not a JSON object: {error}"
        raise TrustError(message) from error
    authorities = _member(document, "authorities", dict)
    threshold = _member(document, "authority_threshold", int)
    if not 1 <= threshold <= max(1, len(authorities)):
        message = f"authority_threshold {threshold} does not fit {len(authorities)} authorities"
        raise TrustError(message)
    previous = _member(document, "previous_log_keys", list, [])
    if len(previous) > MAX_PREVIOUS_KEYS:
        message = f"trust file: more than {MAX_PREVIOUS_KEYS} previous_log_keys"
        raise TrustError(message)
    trust = TrustRoot(
        log_name=_member(document, "log_name", str),
        log_key=_key("log_key", document.get("log_key")),
        authorities={name: _key(f"authorities.{name}", value) for name, value in authorities.items()},
        authority_threshold=threshold,
        ledger=_ledger(_member(document, "ledger", dict)),
        previous_log_keys=tuple(_key("previous_log_keys", value) for value in previous),
        witness_policy=_member(_member(document, "witnesses", dict, {}), "policy", str, ""),
    )
    _check_log_name(trust)
    keys = [*trust.log_keys, *trust.authorities.values(), *_witness_keys(trust)]
    if len(set(keys)) != len(keys):
        # Two names of one key would also count as two of a threshold.
        message = "trust file: a key is listed twice"
        raise TrustError(message)
    return trust


def _ledger(found: Mapping[str, Any]) -> LedgerTrust:
    points = Members({"checkpoints": [], **found}, "trust file: ledger", TrustError)
    return LedgerTrust(
        kind=_member(found, "kind", str, ""),
        topic=_member(found, "topic", str, ""),
        payer=_member(found, "payer", str, ""),
        checkpoints=tuple(parse_point(each) for each in points.children("checkpoints", MAX_POINTS)),
    )


def _witness_keys(trust: TrustRoot) -> list[bytes]:
    try:
        policy = trust.witnesses
    except FormatError as error:
        message = f"trust file: witnesses.policy: {error}"
        raise TrustError(message) from error
    return [witness.key.public_key for witness in policy.witnesses] if policy else []


def _check_log_name(trust: TrustRoot) -> None:
    try:
        log_key(trust.log_name, trust.log_key)
    except FormatError as error:
        message = f"trust file: log_name cannot name a log: {error}"
        raise TrustError(message) from error


def _member(document: Mapping[str, Any], name: str, kind: type, default: object = None) -> Any:
    value = document.get(name, default)
    if not isinstance(value, kind) or isinstance(value, bool):
        message = f"trust file: {name} must be a {kind.__name__}"
        raise TrustError(message)
    if isinstance(value, str) and not is_unicode(value):
        message = f"trust file: {name} is not Unicode text"
        raise TrustError(message)
    return value


def _key(name: str, value: object) -> bytes:
    if not isinstance(value, str) or not is_unicode(name):
        message = f"trust file: {name!a} is not the base64 of a key under a name"
        raise TrustError(message)
    try:
        raw = decode_base64(value, name)
        check_public_key(raw)
    except FormatError as error:
        message = f"trust file: {name}: {error}"
        raise TrustError(message) from error
    return raw
