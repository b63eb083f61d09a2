"""Runs of a foreign tool that must accept, or refuse, and the exported proofs that they are about."""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from schemas.note import VerifierKey
from tests.conformance.flips import some_flips
from tests.conformance.processes import Answer, ask
from tests.conformance.tally import Tally

AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Trial:
    """A command line, and whether the tool must accept what it is given."""

    what: str
    command: list[str]
    is_good: bool


@dataclass(frozen=True, slots=True)
class Proof:
    """An exported proof: the key of its log, the leaf, and the `.tlog-proof`."""

    name: str
    key: VerifierKey
    is_epoch: bool
    """Whether it shows a shard's checkpoint in the epoch log; else it shows a record in a shard."""
    leaf: Path
    file: Path


def run_all(tool: str, trials: Iterable[Trial], accepts: Callable[[Answer], bool], tally: Tally) -> None:
    """Run them, two at a time: each is a process that starts, reads and ends."""

    def run(trial: Trial) -> None:
        answer = ask(trial.command)
        verb = "accepts" if trial.is_good else "refuses"
        holds = accepts(answer) is trial.is_good
        tally.check(tool, f"{verb} {trial.what}", holds, f"exit {answer.code}: {answer.output}")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(run, trials))


def says_ok(answer: Answer) -> bool:
    """Exit code and JSON both say so."""
    try:
        return answer.code == 0 and json.loads(answer.output)["ok"] is True
    except (ValueError, KeyError, TypeError):
        return False


def one_of_each(proofs: Sequence[Proof]) -> list[Proof]:
    """The longest proof of a shard, and that of the epoch log."""
    groups = [[p for p in proofs if p.is_epoch is wanted] for wanted in (False, True)]
    return [max(group, key=lambda proof: proof.file.stat().st_size) for group in groups if group]


def flipped_copies(
    original: Path, count: int, folder: Path, rng: random.Random, name: str = ""
) -> Iterator[tuple[str, Path]]:
    """Copies that differ by one byte: (what was done, the file); `name` tells files of one name apart."""
    name = name or original.name
    for position, changed in some_flips(original.read_bytes(), count, rng):
        copy = folder / f"{name}.flipped-{position}"
        copy.write_bytes(changed)
        yield f"{name}, byte {position} flipped", copy
