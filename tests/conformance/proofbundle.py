"""Proofbundle takes every exported proof, cosignatures included, and none of which one byte differs."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from schemas.note import VerifierKey
from tests.conformance.demonstration import Demonstration
from tests.conformance.tally import Tally
from tests.conformance.tools import PythonTools
from tests.conformance.trials import Proof, Trial, flipped_copies, one_of_each, run_all, says_ok

TOOL = "proofbundle"
FLIPS = 10
FLIPS_OF_LEAF = 2


def check(
    tools: PythonTools,
    demo: Demonstration,
    witnesses: Sequence[VerifierKey],
    tally: Tally,
    rng: random.Random,
) -> None:
    """Run `proofbundle verify-proof` on each exported proof."""
    run_all(TOOL, _trials(tools, demo, witnesses, rng), says_ok, tally)


def _trials(
    tools: PythonTools, demo: Demonstration, witnesses: Sequence[VerifierKey], rng: random.Random
) -> Iterator[Trial]:
    folder = demo.work_folder("proofbundle")

    def command(proof: Proof, file: Path, leaf: Path) -> list[str]:
        quorum: list[str] = []
        if proof.is_epoch:
            quorum = [*(f"--witness-vkey={key}" for key in witnesses), f"--threshold={len(witnesses)}"]
        log = ["--log-vkey", str(proof.key), "--expected-origin", proof.key.name]
        payload = ["--payload-file", str(leaf)]
        return [tools.command("proofbundle"), "verify-proof", *payload, *log, *quorum, "--json", str(file)]

    for proof in demo.proofs:
        yield Trial(proof.name, command(proof, proof.file, proof.leaf), is_good=True)
    for proof in one_of_each(demo.proofs):
        for what, file in flipped_copies(proof.file, FLIPS, folder, rng, f"{proof.name} proof"):
            yield Trial(what, command(proof, file, proof.leaf), is_good=False)
        for what, leaf in flipped_copies(proof.leaf, FLIPS_OF_LEAF, folder, rng, f"{proof.name} leaf"):
            yield Trial(what, command(proof, proof.file, leaf), is_good=False)
