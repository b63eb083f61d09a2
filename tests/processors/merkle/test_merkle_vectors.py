"""The vectors of the Go module that most logs are verified with; the file states its origin and licence."""

import json
from pathlib import Path
from typing import Any

import pytest

from processors.merkle.errors import ProofError
from processors.merkle.hashing import leaf_hash, perfect_root
from processors.merkle.proof import consistency_proof, inclusion_proof, verify_consistency, verify_inclusion

_FILE = Path(__file__).parents[2] / "vectors" / "merkle" / "transparency-dev-merkle.json"
VECTORS: dict[str, Any] = json.loads(_FILE.read_text())
HASHES = [bytes.fromhex(value) for value in VECTORS["hashes"]]
LEAVES = [leaf_hash(bytes.fromhex(value)) for value in VECTORS["leaves"]]


def _node(height: int, index: int) -> bytes:
    return perfect_root(b"".join(LEAVES[index << height : (index + 1) << height]))


def _accepts(verify: Any, *arguments: Any) -> bool:
    try:
        verify(*arguments)
    except ProofError:
        return False
    return True


def test_every_vector_is_there() -> None:
    counts = {kind: len(VECTORS[kind]) for kind in ("inclusion", "consistency")}
    assert counts == {"inclusion": 132, "consistency": 142}
    assert len(VECTORS["built_inclusion"]) == len(VECTORS["built_consistency"]) == 36


@pytest.mark.parametrize(("index", "size", "leaf", "root", "proof", "valid"), VECTORS["inclusion"])
def test_inclusion_vector(index: int, size: int, leaf: int, root: int, proof: list[int], valid: bool) -> None:
    path = [HASHES[item] for item in proof]
    assert _accepts(verify_inclusion, HASHES[leaf], index, size, path, HASHES[root]) is valid


@pytest.mark.parametrize(("old", "new", "old_root", "new_root", "proof", "valid"), VECTORS["consistency"])
def test_consistency_vector(
    old: int, new: int, old_root: int, new_root: int, proof: list[int], valid: bool
) -> None:
    path = [HASHES[item] for item in proof]
    assert _accepts(verify_consistency, old, HASHES[old_root], new, HASHES[new_root], path) is valid


@pytest.mark.parametrize(("index", "size", "leaf", "root", "proof"), VECTORS["built_inclusion"])
def test_inclusion_proof_is_built_alike(
    index: int, size: int, leaf: int, root: int, proof: list[int]
) -> None:
    path = [HASHES[item] for item in proof]
    assert inclusion_proof(index, size, _node) == path
    verify_inclusion(HASHES[leaf], index, size, path, HASHES[root])


@pytest.mark.parametrize(("old", "new", "old_root", "new_root", "proof"), VECTORS["built_consistency"])
def test_consistency_proof_is_built_alike(
    old: int, new: int, old_root: int, new_root: int, proof: list[int]
) -> None:
    path = [HASHES[item] for item in proof]
    assert consistency_proof(old, new, _node) == path
    verify_consistency(old, HASHES[old_root], new, HASHES[new_root], path)
