"""Checkpoints: strict lines, and the log that was asked for."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.checkpoint import (
    EMPTY_ROOT,
    MAX_SIZE,
    Checkpoint,
    CheckpointError,
    format_checkpoint,
    log_key,
    open_checkpoint,
    parse_checkpoint,
    sign_checkpoint,
)
from schemas.errors import FormatError
from schemas.note import CosignatureSigner, Ed25519Signer, SignatureError, format_note, sign_note

ROOT = bytes(range(32))
ROOT_LINE = base64.b64encode(ROOT).decode()
SEED = bytes([9] * 32)
LOG = Ed25519Signer.from_seed("ward.example/device.events/3", SEED)


def test_text_is_that_of_the_specification() -> None:
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    checkpoint = parse_checkpoint(text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert format_checkpoint(checkpoint) == text


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20),
    st.integers(1, MAX_SIZE),
    st.binary(min_size=32, max_size=32),
    st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=9), max_size=3),
)
def test_checkpoint_reads_back(origin: str, size: int, root: bytes, extensions: list[str]) -> None:
    checkpoint = Checkpoint(origin, size, root, tuple(extensions))
    assert parse_checkpoint(format_checkpoint(checkpoint)) == checkpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "o\n1\n",
        f"o\n1\n{ROOT_LINE}",
        f"\n1\n{ROOT_LINE}\n",
        f"o\n01\n{ROOT_LINE}\n",
        f"o\n-1\n{ROOT_LINE}\n",
        f"o\n+1\n{ROOT_LINE}\n",
        f"o\n1 \n{ROOT_LINE}\n",
        f"o\n١\n{ROOT_LINE}\n",
        f"o\n\n{ROOT_LINE}\n",
        f"o\n{MAX_SIZE + 1}\n{ROOT_LINE}\n",
        f"o\n{'9' * 5000}\n{ROOT_LINE}\n",
        f"o\n0\n{ROOT_LINE}\n",
        f"o\n1\n{ROOT_LINE[:-1]}\n",
        f"o\n1\n{ROOT_LINE[:-4]}\n",
        f"o\n1\n{ROOT_LINE} \n",
        f"o\n1\n{ROOT_LINE}\n\n",
        f"o\n1\n{ROOT_LINE}\n\next\n",
    ],
)
def test_malformed_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError):
        parse_checkpoint(text)


@given(st.text(max_size=200))
def test_hostile_text_is_a_checkpoint_or_one_error(text: str) -> None:
    try:
        checkpoint = parse_checkpoint(text)
    except CheckpointError:
        return
    assert format_checkpoint(checkpoint) == text


def test_the_empty_tree_has_its_own_root_only() -> None:
    assert parse_checkpoint(format_checkpoint(Checkpoint("o", 0, EMPTY_ROOT))).size == 0
    with pytest.raises(CheckpointError):
        Checkpoint("o", 0, ROOT)


@pytest.mark.parametrize(
    "arguments",
    [("", 1, ROOT), ("a\nb", 1, ROOT), ("o", -1, ROOT), ("o", 1, b"short"), ("o", 1, ROOT, ("",))],
)
def test_checkpoint_that_cannot_be_written_is_not_made(arguments: tuple[object, ...]) -> None:
    with pytest.raises(CheckpointError):
        Checkpoint(*arguments)  # type: ignore[arg-type]


def test_one_log_key_serves_every_origin() -> None:
    for origin in ("ward.example", "ward.example/device.events/3"):
        signer = Ed25519Signer.from_seed(origin, SEED)
        data = format_note(sign_checkpoint(Checkpoint(origin, 5, ROOT), [signer]))
        opened = open_checkpoint(data, log_key(origin, signer.public_key))
        assert (opened.checkpoint.origin, opened.checkpoint.size) == (origin, 5)


def test_checkpoint_of_another_shard_is_refused() -> None:
    """The same key signed it, as its own key name, so only the origin line tells."""
    data = format_note(sign_checkpoint(Checkpoint("ward.example/device.events/4", 5, ROOT), [LOG]))
    with pytest.raises(CheckpointError, match="where one of"):
        open_checkpoint(data, LOG.verifier)


def test_unsigned_forged_or_merely_cosigned_checkpoints_are_refused() -> None:
    text = format_checkpoint(Checkpoint(LOG.name, 5, ROOT))
    witness = CosignatureSigner.from_seed(LOG.name, SEED, 1)
    forger = Ed25519Signer.from_seed(LOG.name, bytes(32))
    for signer in (witness, forger):
        with pytest.raises(SignatureError):
            open_checkpoint(format_note(sign_note(text, [signer])), LOG.verifier)
    with pytest.raises(SignatureError):
        open_checkpoint(format_note(sign_note(text, [witness])), witness.verifier)


@given(st.data())
def test_every_flipped_byte_of_a_signed_checkpoint_is_found(data: st.DataObject) -> None:
    signed = bytearray(format_note(sign_checkpoint(Checkpoint(LOG.name, 5, ROOT), [LOG])))
    signed[data.draw(st.integers(0, len(signed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FormatError):
        open_checkpoint(bytes(signed), LOG.verifier)
