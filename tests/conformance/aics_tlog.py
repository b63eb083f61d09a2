"""Aics-tlog takes checkpoints, inclusion and growth of published logs, and nothing with a byte flipped."""

import base64
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from schemas.note import VerifierKey
from schemas.tlogproof import parse_tlog_proof
from tests.conformance.demonstration import Demonstration
from tests.conformance.tally import Tally
from tests.conformance.tools import PythonTools
from tests.conformance.trials import Proof, Trial, flipped_copies, one_of_each, run_all, says_ok

TOOL = "aics-tlog"
FLIPS = 5


def check(
    tools: PythonTools,
    demo: Demonstration,
    witnesses: Sequence[VerifierKey],
    tally: Tally,
    rng: random.Random,
) -> None:
    """Run its three `verify-...` commands on the published logs and the exported proofs."""
    trials = _Trials(tools, demo, witnesses, rng)
    run_all(TOOL, trials.checkpoints(), says_ok, tally)
    run_all(TOOL, trials.cosigned(), says_ok, tally)
    run_all(TOOL, trials.inclusion(), says_ok, tally)


@dataclass(frozen=True, slots=True)
class _Parts:
    """A proof in the pieces that it asks for."""

    key: VerifierKey
    is_epoch: bool
    index: int
    leaf: Path
    hashes: Path
    checkpoint: Path


class _Trials:
    def __init__(
        self,
        tools: PythonTools,
        demo: Demonstration,
        witnesses: Sequence[VerifierKey],
        rng: random.Random,
    ) -> None:
        self._quorum = [*(f"--witness-key={each}" for each in witnesses), f"--quorum={len(witnesses)}"]
        self._program, self._demo, self._rng = tools.command("aics-tlog"), demo, rng
        self._folder = demo.work_folder("aics-tlog")

    def checkpoints(self) -> Iterator[Trial]:
        """Every published checkpoint, held against its tiles."""
        for log in self._demo.logs():
            key = self._demo.key_of(log.checkpoint.origin)
            command = self._command(
                "verify-checkpoint", key, "--tiles", str(log.folder), "--origin", key.name
            )
            yield Trial(f"the checkpoint of {key.name}", command, is_good=True)

    def cosigned(self) -> Iterator[Trial]:
        """The first and the last cosigned checkpoint of the epoch log: their quorum, and growth between."""
        if not self._demo.cosigned:
            return
        key = self._demo.key_of(self._demo.trust.log_name)
        first, last = self._folder / "first-cosigned", self._folder / "last-cosigned"
        first.write_bytes(self._demo.cosigned[0])
        last.write_bytes(self._demo.cosigned[-1])

        def command(file: Path) -> list[str]:
            return self._command("verify-checkpoint", key, "--note", str(file), *self._quorum)

        yield Trial(first.name, command(first), is_good=True)
        yield Trial(last.name, command(last), is_good=True)
        for what, file in self._flipped(last, last.name):
            yield Trial(what, command(file), is_good=False)
        tiles = ("--tiles", str(self._demo.epoch_log().folder))
        notes = ("--old-checkpoint", str(first), "--checkpoint", str(last))
        yield Trial("growth", self._command("verify-consistency", key, *tiles, *notes), is_good=True)
        swapped = ("--old-checkpoint", str(last), "--checkpoint", str(first))
        shrinks = self._command("verify-consistency", key, *tiles, *swapped)
        yield Trial("shrinking", shrinks, is_good=first.read_bytes() == last.read_bytes())

    def inclusion(self) -> Iterator[Trial]:
        """Every exported proof, and pieces of some of them flipped."""
        for proof in self._demo.proofs:
            yield Trial(proof.name, self._inclusion(self._parts(proof)), is_good=True)
        for proof in one_of_each(self._demo.proofs):
            parts = self._parts(proof)
            for what, changed in self._flipped(parts.leaf, f"{proof.name} leaf"):
                yield Trial(what, self._inclusion(replace(parts, leaf=changed)), is_good=False)
            hashes = parts.hashes.read_text().split()
            for what, changed in self._flipped(parts.hashes, f"{proof.name} hashes"):
                # This list is the tool's own format, and it takes other white space for a line's end.
                if changed.read_text().split() != hashes:
                    yield Trial(what, self._inclusion(replace(parts, hashes=changed)), is_good=False)
            for what, changed in self._flipped(parts.checkpoint, f"{proof.name} checkpoint"):
                yield Trial(what, self._inclusion(replace(parts, checkpoint=changed)), is_good=False)

    def _command(self, command: str, key: VerifierKey, *arguments: str) -> list[str]:
        return [self._program, command, "--log-key", str(key), *arguments]

    def _inclusion(self, parts: _Parts) -> list[str]:
        leaf = ("--index", str(parts.index), "--leaf", str(parts.leaf))
        files = ("--proof", str(parts.hashes), "--checkpoint", str(parts.checkpoint))
        quorum = self._quorum if parts.is_epoch else ()
        return self._command("verify-inclusion", parts.key, *leaf, *files, *quorum)

    def _parts(self, proof: Proof) -> _Parts:
        data = proof.file.read_bytes()
        parsed = parse_tlog_proof(data)
        hashes = self._folder / f"{proof.name}.hashes"
        checkpoint = self._folder / f"{proof.name}.checkpoint"
        hashes.write_text("".join(base64.b64encode(value).decode() + "\n" for value in parsed.hashes))
        checkpoint.write_bytes(data.partition(b"\n\n")[2])
        return _Parts(proof.key, proof.is_epoch, parsed.index, proof.leaf, hashes, checkpoint)

    def _flipped(self, file: Path, name: str) -> Iterator[tuple[str, Path]]:
        return flipped_copies(file, FLIPS, self._folder, self._rng, name)
