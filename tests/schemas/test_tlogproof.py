"""The proof file: what the specification shows, and what an attacker sends."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.checkpoint import Checkpoint, sign_checkpoint
from schemas.errors import FormatError
from schemas.note import Ed25519Signer, format_note
from schemas.tlogproof import MAX_HASHES, TlogProof, TlogProofError, format_tlog_proof, parse_tlog_proof

LOG = Ed25519Signer.from_seed("ward.example", bytes(32))
NOTE = sign_checkpoint(Checkpoint(LOG.name, 109482, bytes(32)), [LOG])
HASH = base64.b64encode(bytes(range(32))).decode()
CHECKPOINT = format_note(NOTE).decode()


def test_layout_is_that_of_the_specification() -> None:
    proof = TlogProof(73894, (bytes(range(32)), bytes(range(32))), NOTE, b"age")
    text = f"c2sp.org/tlog-proof@v1\nextra YWdl\nindex 73894\n{HASH}\n{HASH}\n\n{CHECKPOINT}"
    assert format_tlog_proof(proof).decode() == text
    assert parse_tlog_proof(text.encode()) == proof


@given(
    st.integers(0, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=MAX_HASHES),
    st.none() | st.binary(max_size=20),
)
def test_proof_reads_back(index: int, hashes: list[bytes], extra: bytes | None) -> None:
    proof = TlogProof(index, tuple(hashes), NOTE, extra)
    assert parse_tlog_proof(format_tlog_proof(proof)) == proof


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"index 1\n\n{CHECKPOINT}",
        f"c2sp.org/tlog-proof@v2\nindex 1\n\n{CHECKPOINT}",
        f"c2sp.org/tlog-proof@v1\n\n{CHECKPOINT}",
        f"c2sp.org/tlog-proof@v1\nindex 01\n\n{CHECKPOINT}",
        f"c2sp.org/tlog-proof@v1\nindex -1\n\n{CHECKPOINT}",
        f"c2sp.org/tlog-proof@v1\nindex ٣\n\n{CHECKPOINT}",
        f"c2sp.org/tlog-proof@v1\nindex {2**63}\n\n{CHECKPOINT}",
        f"c2sp.org/tlog-proof@v1\nindex {'1' * 5000}\n\n{CHECKPOINT}",
        f"c2sp.org/tlog-proof@v1\nindex 1\nextra YWdl\n\n{CHECKPOINT}",
        f"c2sp.org/tlog-proof@v1\nextra YWd\nindex 1\n\n{CHECKPOINT}",
        f"c2sp.org/tlog-proof@v1\nindex 1\n{HASH[:-4]}\n\n{CHECKPOINT}",
        f"c2sp.org/tlog-proof@v1\nindex 1\n{HASH} \n\n{CHECKPOINT}",
        "c2sp.org/tlog-proof@v1\nindex 1\n" + f"{HASH}\n" * 64 + f"\n{CHECKPOINT}",
        f"c2sp.org/tlog-proof@v1\nindex 1\n{HASH}\n{CHECKPOINT}",
        "c2sp.org/tlog-proof@v1\nindex 1\n\nno checkpoint\n",
        f"c2sp.org/tlog-proof@v1\r\nindex 1\n\n{CHECKPOINT}",
    ],
)
def test_malformed_proof_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_tlog_proof(text.encode())


def test_proof_that_cannot_be_written_is_not_made() -> None:
    for index, hashes in ((-1, ()), (2**63, ()), (0, (b"short",)), (0, (bytes(32),) * 64)):
        with pytest.raises(TlogProofError):
            TlogProof(index, hashes, NOTE)


def test_oversized_proof_is_refused_before_it_is_read() -> None:
    with pytest.raises(TlogProofError, match="more than"):
        parse_tlog_proof(b"\n" * 2_000_001)


@given(st.binary(max_size=200), st.integers(0, 60))
def test_hostile_bytes_are_a_proof_or_one_error(noise: bytes, kept: int) -> None:
    good = format_tlog_proof(TlogProof(3, (bytes(32),), NOTE))
    try:
        proof = parse_tlog_proof(good[:kept] + noise + good[kept:])
    except FormatError:
        return
    assert format_tlog_proof(proof) == good[:kept] + noise + good[kept:]
