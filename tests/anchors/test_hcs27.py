"""HCS-27 messages: the standard's own example, every field checked, and never two readings of one text."""

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from anchors.errors import AnchorMessageError
from anchors.hcs27 import (
    AnchorMessage,
    AnchorSignature,
    AnchorSigner,
    TreeHead,
    anchor_signing_input,
    build_anchor,
    build_topic_memo,
    parse_anchor,
    parse_topic_memo,
)

MESSAGE = AnchorMessage(
    registry="attestream",
    log_id="hospital.example/fleet",
    leaf="sha256(0x00||checkpoint)",
    root=TreeHead(123_456, bytes(range(32))),
    previous=TreeHead(120_000, bytes(32)),
)

HEADS = st.builds(TreeHead, st.integers(0, 2**64 - 1), st.binary(min_size=32, max_size=32))
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=30)


@given(TEXTS, TEXTS, TEXTS, HEADS, st.none() | HEADS, st.none() | st.binary(max_size=64))
def test_round_trip(
    registry: str, log_id: str, leaf: str, root: TreeHead, previous: TreeHead | None, sig: bytes | None
) -> None:
    if previous is not None and previous.tree_size > root.tree_size:
        root, previous = previous, root
    signature = AnchorSignature("EdDSA", "log", sig) if sig else None
    message = AnchorMessage(registry, log_id, leaf, root, previous, signature)
    data = build_anchor(message)
    assert len(data) <= 1_024
    assert parse_anchor(data) == message


def test_the_bytes_are_those_of_the_standard() -> None:
    assert build_anchor(MESSAGE).decode() == (
        '{"p":"hcs-27","op":"register","metadata":{"type":"ans-checkpoint-v1",'
        '"stream":{"registry":"attestream","log_id":"hospital.example/fleet"},'
        '"log":{"alg":"sha-256","leaf":"sha256(0x00||checkpoint)","merkle":"rfc9162"},'
        '"root":{"treeSize":"123456","rootHashB64u":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"},'
        '"prev":{"treeSize":"120000","rootHashB64u":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}}'
    )


def test_signature_covers_every_field() -> None:
    key = Ed25519PrivateKey.generate()
    signed = parse_anchor(build_anchor(MESSAGE, AnchorSigner("EdDSA", "log-key", key.sign)))
    assert signed.signature is not None
    key.public_key().verify(signed.signature.signature, anchor_signing_input(signed))
    altered = (
        replace(signed, registry="other"),
        replace(signed, log_id="other"),
        replace(signed, leaf="other"),
        replace(signed, root=TreeHead(123_457, signed.root.root_hash)),
        replace(signed, root=TreeHead(123_456, bytes(32))),
        replace(signed, previous=None),
        replace(signed, signature=replace(signed.signature, key_id="other")),
        replace(signed, signature=replace(signed.signature, algorithm="ES256")),
    )
    for message in altered:
        with pytest.raises(InvalidSignature):
            key.public_key().verify(signed.signature.signature, anchor_signing_input(message))


def test_an_unsigned_message_has_no_signing_input() -> None:
    with pytest.raises(AnchorMessageError, match="no signature"):
        anchor_signing_input(MESSAGE)


def altered(path: str, value: Any) -> bytes:
    message = json.loads(build_anchor(replace(MESSAGE, signature=AnchorSignature("EdDSA", "k", b"s"))))
    *parents, name = path.split(".")
    place = message
    for parent in parents:
        place = place[parent]
    if value is None:
        del place[name]
    else:
        place[name] = value
    return json.dumps(message).encode()


WRONG: list[tuple[str, Any]] = [
    *(
        (path, None)
        for path in (
            *("p", "op", "metadata", "metadata.type", "metadata.stream", "metadata.stream.registry"),
            *("metadata.stream.log_id", "metadata.log", "metadata.log.alg", "metadata.log.leaf"),
            *("metadata.log.merkle", "metadata.root", "metadata.root.treeSize", "metadata.root.rootHashB64u"),
            *("metadata.prev.treeSize", "metadata.prev.rootHashB64u"),
            *("metadata.sig.alg", "metadata.sig.kid", "metadata.sig.b64u"),
        )
    ),
    ("p", "hcs-2"),
    ("op", "delete"),
    ("metadata", "hcs://1/0.0.123456"),
    ("metadata.type", "ans-checkpoint-v2"),
    ("metadata.log.alg", "sha-512"),
    ("metadata.log.merkle", "rfc6962"),
    ("metadata.stream.registry", ""),
    ("metadata.stream.log_id", "\ud800"),
    ("metadata.root.treeSize", 123_456),
    ("metadata.root.treeSize", "0123"),
    ("metadata.root.treeSize", "-1"),
    ("metadata.root.treeSize", "1e3"),
    ("metadata.root.treeSize", str(2**64)),
    ("metadata.root.treeSize", "119999"),
    ("metadata.root.rootHashB64u", "AAAA"),
    ("metadata.root.rootHashB64u", "A" * 43 + "="),
    ("metadata.root.rootHashB64u", "A" * 42 + "B"),
    ("metadata.root.rootHashB64u", "+" * 43),
    ("metadata.sig.b64u", "A"),
    ("metadata.prev", []),
]


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_each_wrong_field_is_refused(path: str, value: Any) -> None:
    with pytest.raises(AnchorMessageError):
        parse_anchor(altered(path, value))


def test_unknown_top_level_fields_are_ignored() -> None:
    assert parse_anchor(altered("m", "a summary")).root == MESSAGE.root


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"1" * 900,
        b"[" * 1_024,
        b'{"p":"hcs-27","p":"hcs-27"}',
        "{}".encode("utf-16"),
        b"\xff",
        b" " * 1_025,
    ],
)
def test_texts_that_are_no_message(data: bytes) -> None:
    with pytest.raises(AnchorMessageError):
        parse_anchor(data)


@given(st.binary(max_size=1_100))
def test_random_bytes_raise_the_one_error(data: bytes) -> None:
    with pytest.raises(AnchorMessageError):
        parse_anchor(data)


@given(st.data())
def test_a_changed_byte_is_refused_or_means_something_else(data: st.DataObject) -> None:
    original = build_anchor(MESSAGE)
    position = data.draw(st.integers(0, len(original) - 1))
    changed = bytearray(original)
    changed[position] ^= data.draw(st.integers(1, 255))
    with suppress(AnchorMessageError):
        assert parse_anchor(bytes(changed)) != MESSAGE


def test_oversized_and_unencodable_messages_are_not_built() -> None:
    with pytest.raises(AnchorMessageError, match="at most 1024"):
        build_anchor(replace(MESSAGE, leaf="x" * 1_000))
    with pytest.raises(AnchorMessageError, match="UTF-8"):
        build_anchor(replace(MESSAGE, leaf="\ud800"))
    with pytest.raises(AnchorMessageError, match="never shrinks"):
        build_anchor(replace(MESSAGE, root=TreeHead(1, bytes(32))))


def test_topic_memo() -> None:
    assert build_topic_memo(86_400) == "hcs-27:0:86400:0"
    assert parse_topic_memo("hcs-27:0:60:0") == 60
    for memo in ("", "hcs-27:0:060:0", "hcs-27:1:60:0", "hcs-27:0:60:1", "hcs-27:0:60:0\n", "hcs-2:0:60"):
        with pytest.raises(AnchorMessageError):
            parse_topic_memo(memo)
