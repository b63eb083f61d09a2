"""Proofs against RFC 6962's own recursive definitions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.merkle.errors import ProofError
from processors.merkle.hashing import EMPTY_ROOT, leaf_hash, node_hash, perfect_root
from processors.merkle.proof import (
    consistency_proof,
    inclusion_proof,
    tree_root,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [leaf_hash(number.to_bytes(4, "big")) for number in range(600)]


def _node(height: int, index: int) -> bytes:
    assert (index + 1) << height <= len(LEAVES), "a node outside the tree was read"
    return perfect_root(b"".join(LEAVES[index << height : (index + 1) << height]))


def _mth(leaves: list[bytes]) -> bytes:
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    split = _split(len(leaves))
    return node_hash(_mth(leaves[:split]), _mth(leaves[split:]))


def _path(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*_path(index, leaves[:split]), _mth(leaves[split:])]
    return [*_path(index - split, leaves[split:]), _mth(leaves[:split])]


def _subproof(old: int, leaves: list[bytes], is_complete: bool) -> list[bytes]:
    if old == len(leaves):
        return [] if is_complete else [_mth(leaves)]
    split = _split(len(leaves))
    if old <= split:
        return [*_subproof(old, leaves[:split], is_complete), _mth(leaves[split:])]
    return [*_subproof(old - split, leaves[split:], is_complete=False), _mth(leaves[:split])]


def _split(count: int) -> int:
    split = 1
    while split * 2 < count:
        split *= 2
    return split


@given(st.integers(0, len(LEAVES)))
def test_root_is_the_merkle_tree_hash(size: int) -> None:
    assert tree_root(size, _node) == _mth(LEAVES[:size])


@given(st.data())
def test_inclusion_proof_is_the_audit_path(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(LEAVES)))
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, _node)
    assert proof == _path(index, LEAVES[:size])
    verify_inclusion(LEAVES[index], index, size, proof, _mth(LEAVES[:size]))


@given(st.data())
def test_consistency_proof_is_the_subproof(data: st.DataObject) -> None:
    new = data.draw(st.integers(1, len(LEAVES)))
    old = data.draw(st.integers(1, new))
    proof = consistency_proof(old, new, _node)
    assert proof == _subproof(old, LEAVES[:new], is_complete=True)
    verify_consistency(old, _mth(LEAVES[:old]), new, _mth(LEAVES[:new]), proof)


@given(st.data())
def test_flipped_bit_in_an_inclusion_proof_is_found(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, len(LEAVES)))
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, _node)
    _flip(proof, data)
    with pytest.raises(ProofError):
        verify_inclusion(LEAVES[index], index, size, proof, _mth(LEAVES[:size]))


@given(st.data())
def test_flipped_bit_in_a_consistency_proof_is_found(data: st.DataObject) -> None:
    new = data.draw(st.integers(2, len(LEAVES)))
    old = data.draw(st.integers(1, new - 1))
    proof = consistency_proof(old, new, _node)
    _flip(proof, data)
    with pytest.raises(ProofError):
        verify_consistency(old, _mth(LEAVES[:old]), new, _mth(LEAVES[:new]), proof)


@given(st.data())
def test_proof_of_another_leaf_or_size_is_refused(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, len(LEAVES)))
    index, other = data.draw(st.permutations(range(size)))[:2] if size < 50 else (0, size - 1)
    proof = inclusion_proof(index, size, _node)
    with pytest.raises(ProofError):
        verify_inclusion(LEAVES[other], index, size, proof, _mth(LEAVES[:size]))
    with pytest.raises(ProofError):
        verify_inclusion(LEAVES[index], other, size, proof, _mth(LEAVES[:size]))


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 5), (5, 5)])
def test_leaf_outside_the_tree_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(ProofError):
        inclusion_proof(index, size, _node)
    with pytest.raises(ProofError):
        verify_inclusion(LEAVES[0], index, size, [], LEAVES[0])


@pytest.mark.parametrize(("old", "new"), [(0, 5), (-1, 5), (6, 5)])
def test_sizes_in_no_order_have_no_proof(old: int, new: int) -> None:
    with pytest.raises(ProofError):
        consistency_proof(old, new, _node)
    with pytest.raises(ProofError):
        verify_consistency(old, LEAVES[0], new, LEAVES[1], [])


def _flip(proof: list[bytes], data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(proof) - 1))
    bit = data.draw(st.integers(0, 255))
    value = int.from_bytes(proof[number], "big") ^ (1 << bit)
    proof[number] = value.to_bytes(32, "big")
