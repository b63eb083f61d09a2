"""The anchor message: HCS-27, "ANS Transparency Log Checkpoints" (draft 1.0).

One JSON object of at most 1,024 bytes commits to a log's size and root hash and links to the commitment
before it. The signature is optional, since the ledger already proves who paid for the message. Where
present it is a detached JWS (RFC 7515): its header is {"alg", "kid"}, its payload the metadata without
`sig` as minified JSON with sorted keys, so that it can be checked from the message alone.
"""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from anchors.errors import AnchorMessageError
from anchors.ledger import MAX_MESSAGE_BYTES
from schemas.strictjson import load_object

METADATA_TYPE = "ans-checkpoint-v1"
HASH_ALGORITHM = "sha-256"
MERKLE_PROFILE = "rfc9162"
ROOT_HASH_BYTES = 32

_KIND_NAMES: dict[type, str] = {str: "a string", dict: "an object"}
_DECIMAL = re.compile(r"0|[1-9]\d{0,19}", re.ASCII)
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_TOPIC_MEMO = re.compile(r"hcs-27:0:([1-9]\d{0,9}):0", re.ASCII)


@dataclass(frozen=True, slots=True)
class TreeHead:
    """A log's size and its 32-byte RFC 6962 root hash."""

    tree_size: int
    root_hash: bytes


@dataclass(frozen=True, slots=True)
class AnchorSignature:
    """Who signed the metadata, with which JWS algorithm (`EdDSA` for Ed25519)."""

    algorithm: str
    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class AnchorMessage:
    """The commitment of one ledger message."""

    registry: str
    """The namespace of the stream: the product or deployment."""
    log_id: str
    """The log within it: its checkpoint origin."""
    leaf: str
    """How a leaf hash is made from an entry, in words of the publisher."""
    root: TreeHead
    previous: TreeHead | None = None
    """The commitment of the stream's previous message; None only for its first."""
    signature: AnchorSignature | None = None


@dataclass(frozen=True, slots=True)
class AnchorSigner:
    """A key to sign anchor messages with; `sign` gets the JWS signing input."""

    algorithm: str
    key_id: str
    sign: Callable[[bytes], bytes]


def build_anchor(message: AnchorMessage, signer: AnchorSigner | None = None) -> bytes:
    """The ledger message's bytes; with a signer, `message.signature` is made anew.

    Raises AnchorMessageError when a field is not valid or the message exceeds 1,024 bytes.
    """
    metadata = _metadata(message)
    signature = message.signature
    if signer is not None:
        signing_input = _signing_input(metadata, signer.algorithm, signer.key_id)
        signature = AnchorSignature(signer.algorithm, signer.key_id, signer.sign(signing_input))
    if signature is not None:
        metadata["sig"] = {
            "alg": signature.algorithm,
            "kid": signature.key_id,
            "b64u": _to_base64url(signature.signature),
        }
    data = _minified({"p": "hcs-27", "op": "register", "metadata": metadata})
    parse_anchor(data)
    return data


def anchor_signing_input(message: AnchorMessage) -> bytes:
    """The bytes that `message.signature` signs; raises AnchorMessageError when it has none."""
    if message.signature is None:
        raise AnchorMessageError("the anchor message carries no signature")
    return _signing_input(_metadata(message), message.signature.algorithm, message.signature.key_id)


def parse_anchor(data: bytes) -> AnchorMessage:
    """Read a message strictly; raises AnchorMessageError naming the first field that is wrong.

    Unknown top-level fields are ignored, as the standard demands. A metadata reference to an HCS-1
    file (the standard's form for oversized metadata) is not ours and is refused.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise AnchorMessageError(f"an anchor message has at most {MAX_MESSAGE_BYTES} bytes, not {len(data)}")
    try:
        outer = load_object(data)
    except ValueError as error:
        raise AnchorMessageError(f"an anchor message must be a JSON object in UTF-8: {error}") from error
    _expect(outer, "p", "hcs-27")
    _expect(outer, "op", "register")
    metadata = _field(outer, "metadata", dict)
    _expect(metadata, "type", METADATA_TYPE)
    stream = _field(metadata, "stream", dict)
    log = _field(metadata, "log", dict)
    _expect(log, "alg", HASH_ALGORITHM)
    _expect(log, "merkle", MERKLE_PROFILE)
    message = AnchorMessage(
        registry=_text(stream, "registry"),
        log_id=_text(stream, "log_id"),
        leaf=_text(log, "leaf"),
        root=_tree_head(_field(metadata, "root", dict), "root"),
        previous=_tree_head(_field(metadata, "prev", dict), "prev") if "prev" in metadata else None,
        signature=_signature(_field(metadata, "sig", dict)) if "sig" in metadata else None,
    )
    if message.previous is not None and message.previous.tree_size > message.root.tree_size:
        raise AnchorMessageError("prev.treeSize is above root.treeSize: a log never shrinks")
    return message


def build_topic_memo(ttl_s: int) -> str:
    """The memo of a checkpoint topic: `hcs-27:0:<seconds a reader may cache>:0`."""
    memo = f"hcs-27:0:{ttl_s}:0"
    parse_topic_memo(memo)
    return memo


def parse_topic_memo(memo: str) -> int:
    """The cache time in seconds; raises AnchorMessageError for any other memo."""
    match = _TOPIC_MEMO.fullmatch(memo)
    if match is None:
        raise AnchorMessageError(f"{memo[:100]!r} is not the memo of an HCS-27 checkpoint topic")
    return int(match[1])


def _metadata(message: AnchorMessage) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "type": METADATA_TYPE,
        "stream": {"registry": message.registry, "log_id": message.log_id},
        "log": {"alg": HASH_ALGORITHM, "leaf": message.leaf, "merkle": MERKLE_PROFILE},
        "root": _tree_head_json(message.root),
    }
    if message.previous is not None:
        metadata["prev"] = _tree_head_json(message.previous)
    return metadata


def _tree_head_json(head: TreeHead) -> dict[str, str]:
    return {"treeSize": str(head.tree_size), "rootHashB64u": _to_base64url(head.root_hash)}


def _signing_input(metadata: dict[str, Any], algorithm: str, key_id: str) -> bytes:
    header = _to_base64url(_minified({"alg": algorithm, "kid": key_id}))
    payload = _to_base64url(_minified(metadata, sort_keys=True))
    return f"{header}.{payload}".encode()


def _minified(value: dict[str, Any], *, sort_keys: bool = False) -> bytes:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=sort_keys)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise AnchorMessageError(f"an anchor message must be UTF-8: {error}") from error


def _tree_head(value: dict[str, Any], where: str) -> TreeHead:
    size_text = _text(value, "treeSize")
    if not _DECIMAL.fullmatch(size_text) or int(size_text) >= 2**64:
        raise AnchorMessageError(f"{where}.treeSize must be a decimal number without leading zeros")
    root_hash = _from_base64url(_text(value, "rootHashB64u"), f"{where}.rootHashB64u")
    if len(root_hash) != ROOT_HASH_BYTES:
        raise AnchorMessageError(f"{where}.rootHashB64u must hold 32 bytes, not {len(root_hash)}")
    return TreeHead(int(size_text), root_hash)


def _signature(value: dict[str, Any]) -> AnchorSignature:
    signature = _from_base64url(_text(value, "b64u"), "sig.b64u")
    return AnchorSignature(_text(value, "alg"), _text(value, "kid"), signature)


def _field(value: dict[str, Any], name: str, kind: type) -> Any:
    found = value.get(name)
    if not isinstance(found, kind):
        raise AnchorMessageError(f"{name} must be {_KIND_NAMES[kind]}")
    return found


def _text(value: dict[str, Any], name: str) -> str:
    text: str = _field(value, name, str)
    if not text or not _encodable(text):
        raise AnchorMessageError(f"{name} must be a text that is not empty and encodes as UTF-8")
    return text


def _encodable(text: str) -> bool:
    """JSON can escape half of a surrogate pair, which is no character."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _expect(value: dict[str, Any], name: str, expected: str) -> None:
    if value.get(name) != expected:
        raise AnchorMessageError(f"{name} must be {expected!r}")


def _to_base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_base64url(text: str, where: str) -> bytes:
    """Canonical only: of several texts that a lenient decoder maps to the same bytes, one is accepted."""
    if _BASE64URL.fullmatch(text) and len(text) % 4 != 1:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        if _to_base64url(data) == text:
            return data
    raise AnchorMessageError(f"{where} must be unpadded base64url")
