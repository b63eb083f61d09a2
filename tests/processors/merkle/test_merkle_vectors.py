"""The vectors of the Go module that most logs are verified with; the files state their origin and licence."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from processors.merkle.errors import ProofError
from processors.merkle.hashing import leaf_hash, perfect_root
from processors.merkle.proof import consistency_proof, inclusion_proof, verify_consistency, verify_inclusion

_FOLDER = Path(__file__).parents[2] / "vectors" / "merkle"
VECTORS: dict[str, Any] = json.loads((_FOLDER / "transparency-dev-merkle.json").read_text())
HASHES = [bytes.fromhex(value) for value in VECTORS["hashes"]]
LEAVES = [leaf_hash(bytes.fromhex(value)) for value in VECTORS["leaves"]]
TESTDATA: dict[str, Any] = json.loads((_FOLDER / "testdata.json").read_text())
TESTDATA_HASHES = [bytes.fromhex(value) for value in TESTDATA["hashes"]]


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


def _verdict(vector: dict[str, Any]) -> bool:
    """Whether the proof is accepted; one within a subtree is one in a tree that begins at `start`."""
    proof = [TESTDATA_HASHES[item] for item in vector["proof"]]
    match vector["kind"]:
        case "inclusion":
            index, size = vector["index"], vector["size"]
        case "subtree_inclusion":
            index, size = vector["index"] - vector["start"], vector["end"] - vector["start"]
        case "consistency":
            old_size, new_size = vector["old_size"], vector["new_size"]
        case "subtree_consistency":
            old_size, new_size = vector["end"], vector["size"]
    if "leaf" in vector:
        leaf, root = (TESTDATA_HASHES[vector[field]] for field in ("leaf", "root"))
        return _accepts(verify_inclusion, leaf, index, size, proof, root)
    old_root, new_root = (TESTDATA_HASHES[vector[field]] for field in ("old_root", "new_root"))
    return _accepts(verify_consistency, old_size, old_root, new_size, new_root, proof)


def test_every_file_of_the_testdata_is_there() -> None:
    vectors = TESTDATA["vectors"]
    assert len({vector["name"] for vector in vectors}) == len(vectors)
    assert Counter(vector["kind"] for vector in vectors) == {
        "inclusion": 98,
        "consistency": 98,
        "subtree_inclusion": 204,
        "subtree_consistency": 94,
    }
    assert Counter(vector["want_err"] for vector in vectors) == {True: 464, False: 30}


@pytest.mark.parametrize("vector", TESTDATA["vectors"], ids=lambda vector: vector["name"])
def test_testdata_vector(vector: dict[str, Any]) -> None:
    assert _verdict(vector) is not vector["want_err"]
