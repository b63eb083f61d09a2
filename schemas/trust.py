"""The trust file: whom an auditor, and every worker, believes. It never comes from the evidence.

JSON: {"log_name", "log_key" (base64, raw Ed25519), "authorities": {key_id: base64}, "authority_threshold",
"ledger": {"kind", "topic", "payer"}}. One log key signs every shard's checkpoints; the verifier key of a
shard follows from its origin and this key. One key, one purpose: no key stands in the file twice.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.checkpoint import log_key
from schemas.ed25519 import check_public_key
from schemas.errors import FormatError
from schemas.note import decode_base64
from schemas.strictjson import is_unicode, load_object

MAX_TRUST_BYTES = 1 << 20


class TrustError(FormatError):
    """The trust file does not say whom to believe."""


@dataclass(frozen=True, slots=True)
class LedgerTrust:
    """Which topic of which ledger carries the anchors, and who may pay for them (empty: not stated)."""

    kind: str = ""
    topic: str = ""
    payer: str = ""


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """Log name and key, and the authorities that may sign registry entries."""

    log_name: str
    log_key: bytes
    authorities: Mapping[str, bytes]
    authority_threshold: int = 1
    ledger: LedgerTrust = field(default_factory=LedgerTrust)

    def to_json(self) -> str:
        """Write the trust file."""
        return json.dumps(
            {
                "log_name": self.log_name,
                "log_key": base64.b64encode(self.log_key).decode(),
                "authorities": {k: base64.b64encode(v).decode() for k, v in self.authorities.items()},
                "authority_threshold": self.authority_threshold,
                "ledger": {
                    "kind": self.ledger.kind,
                    "topic": self.ledger.topic,
                    "payer": self.ledger.payer,
                },
            },
            indent=2,
        )


def parse_trust(text: str | bytes) -> TrustRoot:
    """Read a trust file; raises TrustError naming the member at fault."""
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
    ledger = _member(document, "ledger", dict)
    if not 1 <= threshold <= max(1, len(authorities)):
        message = f"authority_threshold {threshold} does not fit {len(authorities)} authorities"
        raise TrustError(message)
    trust = TrustRoot(
        log_name=_member(document, "log_name", str),
        log_key=_key("log_key", document.get("log_key")),
        authorities={name: _key(f"authorities.{name}", value) for name, value in authorities.items()},
        authority_threshold=threshold,
        ledger=LedgerTrust(*(_member(ledger, name, str, "") for name in ("kind", "topic", "payer"))),
    )
    _check_log_name(trust)
    keys = [trust.log_key, *trust.authorities.values()]
    if len(set(keys)) != len(keys):
        # Two names of one key would also count as two of a threshold.
        message = "trust file: a key is listed twice"
        raise TrustError(message)
    return trust


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
