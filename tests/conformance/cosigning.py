"""Witnesses that nobody here wrote cosign the epoch log as it grows, by our client, and refuse to be fooled.

Our own verifier accepts what they signed, by a trust file that demands all of them.
"""

import functools
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from anchors.errors import AnchorError, WitnessConflictError
from anchors.witness.client import Submission, WitnessClient
from processors.merkle.reader import TiledTree
from schemas.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint, sign_checkpoint
from schemas.ed25519 import public_key
from schemas.note import COSIGNATURE_V1, Ed25519Signer, VerifierKey
from schemas.witnesspolicy import PolicyWitness, parse_policy
from tests.conformance.demonstration import Demonstration, policy_of
from tests.conformance.processes import Answer
from tests.conformance.tally import Tally
from tests.conformance.witnesses import ForeignWitness

ASK_TIMEOUT_S = 10.0
FEWEST_SIZES = 2
"""From one to the next a consistency proof is needed."""


def check_growth(demo: Demonstration, witness: ForeignWitness, tally: Tally) -> None:
    """It cosigned several sizes in turn, each of which is a prefix of the log as it is now."""
    policy = parse_policy(policy_of([witness]))
    key, epoch = demo.key_of(demo.trust.log_name), demo.epoch_log()
    tree = TiledTree(demo.reader(epoch), epoch.checkpoint.size, epoch.checkpoint.root)
    sizes = []
    for data in demo.cosigned:
        signed = open_checkpoint(data, key)
        if policy.cosignatures(signed.note):
            sizes.append(signed.checkpoint.size)
            is_prefix = tree.root_at(signed.checkpoint.size) == signed.checkpoint.root
            tally.check(
                witness.tool, f"cosigned {signed.checkpoint.size} leaves that are a prefix", is_prefix
            )
    grew = len(set(sizes)) >= FEWEST_SIZES and sizes == sorted(sizes)
    tally.check(
        witness.tool, "cosigned as the log grew", grew, f"sizes {sizes} of {len(demo.cosigned)} checkpoints"
    )


def check_refusals(demo: Demonstration, witness: ForeignWitness, tally: Tally) -> None:
    """It refuses a fork that is signed by the log's own key, and our client says whose word it is."""
    client = WitnessClient(PolicyWitness(witness.tool, witness.key, witness.url))
    newest = open_checkpoint(demo.cosigned[-1], demo.key_of(demo.trust.log_name))
    forks: dict[str, tuple[int, list[bytes]]] = {
        "a fork that is larger": (newest.checkpoint.size + 100, [bytes(32)] * 3),
        "a fork of the same size": (newest.checkpoint.size, []),
    }
    for what, (size, proof) in forks.items():
        forged = _signed(demo, Checkpoint(demo.trust.log_name, size, b"\x01" * 32))
        said = _ask(client, Submission(forged, functools.partial(_proof, proof)), newest.checkpoint.size)
        tally.check(witness.tool, f"refuses {what}", isinstance(said, WitnessConflictError), repr(said))
    oldest = open_checkpoint(demo.cosigned[0], demo.key_of(demo.trust.log_name))
    if oldest.checkpoint.size < newest.checkpoint.size:
        submission = Submission(oldest, functools.partial(_proof, []))
        said = _ask(client, submission, oldest.checkpoint.size)
        tally.check(witness.tool, "refuses to go back", isinstance(said, WitnessConflictError), repr(said))


def check_evidence(demo: Demonstration, witnesses: Sequence[ForeignWitness], tally: Tally) -> None:
    """`attestream verify` accepts the cosignatures, and misses the one of a stranger who did not sign."""
    everyone = _trust(demo, "everyone", policy_of(witnesses))
    nobody = ForeignWitness(
        "stranger", VerifierKey("stranger.example/w", COSIGNATURE_V1, public_key(bytes(32))), ""
    )
    missing = _trust(demo, "missing", policy_of([*witnesses, nobody]))
    tools = [each.tool for each in witnesses]
    for file in demo.evidence:
        answer = demo.attestream("verify", str(file), "--trust", str(everyone), "--json")
        for tool in tools:
            tally.check(
                tool, f"its cosignature in evidence {file.parent.name} holds", answer.code == 0, answer.output
            )
    answer = demo.attestream("verify", str(demo.evidence[0]), "--trust", str(missing), "--json")
    for tool in tools:
        tally.check(tool, "does not stand for a stranger", _misses_witnesses(answer), answer.output)


def _misses_witnesses(answer: Answer) -> bool:
    try:
        broken = [step["name"] for step in json.loads(answer.output)["steps"] if not step["holds"]]
    except (ValueError, KeyError, TypeError):
        return False
    return answer.code == 1 and broken == ["witnesses"]


def _trust(demo: Demonstration, name: str, policy: str) -> Path:
    file = demo.folder / f"{name}.trust.json"
    file.write_text(replace(demo.trust, witness_policy=policy).to_json())
    return file


def _signed(demo: Demonstration, checkpoint: Checkpoint) -> SignedCheckpoint:
    signer = Ed25519Signer.from_seed(demo.trust.log_name, demo.log_seed())
    return SignedCheckpoint(checkpoint, sign_checkpoint(checkpoint, [signer]))


def _proof(hashes: list[bytes], _old_size: int) -> list[bytes]:
    return hashes


def _ask(client: WitnessClient, submission: Submission, known_size: int) -> object:
    """What it says: a cosignature, or our client's error."""
    try:
        return client.cosign(submission, known_size, time.monotonic() + ASK_TIMEOUT_S)
    except AnchorError as error:
        return error
