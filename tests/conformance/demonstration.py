"""The log under test: a demo with attacks, run by the command line as a user would, with foreign witnesses.

What is left when the stack is down: the published logs, the trust file, the cosigned checkpoints as they
grew, and evidence with its exported proofs.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.believed import EPOCH_PATH
from pipeline.demo.tamper import PublishedLog, published_logs
from pipeline.logsource import open_source
from pipeline.settings import Settings
from pipeline.trust import init_local, load_trust, log_identity, trust_path
from processors.logentries import leaf_offset
from processors.merkle.reader import TiledTree, TileReader
from schemas.checkpoint import log_key
from schemas.evidence import parse_evidence
from schemas.note import VerifierKey, parse_vkey
from schemas.trust import TrustRoot
from tests.conformance.processes import Answer, ask
from tests.conformance.trials import Proof
from tests.conformance.witnesses import ForeignWitness

COSIGNED = "checkpoint.cosigned"
PROVEN_TOPICS = ("device.events", "device.rejected", "identity.registry", "alerts")
PROOFS_WANTED = 6
PROVEN_AT_ONCE = 2
WATCH_EVERY_S = 0.2
ANCHORED_DEADLINE_S = 60.0
GROWTH_DEADLINE_S = 45.0
FEWEST_COSIGNED = 3
EVIDENCE = "evidence.json"


class DemoFailedError(Exception):
    """The demo itself did not succeed; nothing can be said about its log."""


@dataclass
class Demonstration:
    """A deployment in a folder of its own."""

    folder: Path
    cosigned: list[bytes] = field(default_factory=list)
    """The epoch log's checkpoints with their cosignatures, in the order in which they were published."""
    evidence: list[Path] = field(default_factory=list)
    proofs: list[Proof] = field(default_factory=list)

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def trust(self) -> TrustRoot:
        return load_trust(trust_path(self._settings))

    @property
    def _settings(self) -> Settings:
        return Settings(data_dir=self.data_dir)

    def key_of(self, origin: str) -> VerifierKey:
        """The verifier key of one of its logs."""
        return log_key(origin, self.trust.log_key)

    def work_folder(self, name: str) -> Path:
        """A new folder for what a check writes."""
        folder = self.folder / name
        folder.mkdir()
        return folder

    def log_seed(self) -> bytes:
        """The log's private key, for what only a cheating operator would sign."""
        return log_identity(self._settings).seed

    def reader(self, log: PublishedLog) -> TileReader:
        """The tiles of one of its logs."""
        return open_source(str(log.folder))

    def epoch_log(self) -> PublishedLog:
        """The log of all logs."""
        return next(log for log in self.logs() if log.checkpoint.origin == self.trust.log_name)

    def logs(self) -> list[PublishedLog]:
        """Every published log."""
        return published_logs(self.data_dir / "log")

    def prepare(self) -> VerifierKey:
        """Make the keys, so that witnesses can know the log before it begins; returns the epoch log's."""
        init_local(self._settings)
        return self.key_of(self.trust.log_name)

    def play(self, seconds: float, witnesses: Sequence[ForeignWitness]) -> None:
        """Run the demo, take evidence while the stack is up, and take it down."""
        policy = self.folder / "policy.txt"
        policy.write_text(policy_of(witnesses))
        environment = {**os.environ, "ATTESTREAM_WITNESS_POLICY": str(policy)}
        arguments = [
            "demo",
            "--seconds",
            f"{seconds:g}",
            "--keep",
            "--report",
            str(self.folder / "report.json"),
        ]
        log = self.folder / "demo.log"
        try:
            with log.open("wb") as output:
                demo = subprocess.Popen(
                    self._command(*arguments), env=environment, stdout=output, stderr=subprocess.STDOUT
                )
                try:
                    while demo.poll() is None:
                        self._watch()
                        time.sleep(WATCH_EVERY_S)
                finally:
                    demo.terminate()
                    demo.wait()
            if demo.returncode:
                raise DemoFailedError(log.read_text(errors="replace")[-3000:])
            self._prove()
            if witnesses:
                self._await_growth()
        finally:
            ask(self._command("down"))

    def attestream(self, *arguments: str) -> Answer:
        """Run our command line with just these arguments."""
        return ask([sys.executable, "-m", "pipeline.cli.main", *arguments])

    def _command(self, command: str, *arguments: str) -> list[str]:
        return [
            sys.executable, "-m", "pipeline.cli.main", command, "--data-dir", str(self.data_dir), *arguments
        ]  # fmt: skip

    def _watch(self) -> None:
        """Note each cosigned checkpoint: it is replaced as the log grows."""
        data = open_source(str(self.data_dir / "log")).at(EPOCH_PATH).read(COSIGNED)
        if data is not None and data not in self.cosigned:
            self.cosigned.append(data)

    def _await_growth(self) -> None:
        """A short demo may end before the log was cosigned a second time; the stack goes on."""
        until = time.monotonic() + GROWTH_DEADLINE_S
        self._watch()
        while len(self.cosigned) < FEWEST_COSIGNED and time.monotonic() < until:
            time.sleep(WATCH_EVERY_S)
            self._watch()

    def _prove(self) -> None:
        places = self._places()[:PROOFS_WANTED]
        folders = [self.folder / "proofs" / str(number) for number in range(len(places))]
        with ThreadPoolExecutor(PROVEN_AT_ONCE) as pool:
            list(pool.map(self._prove_one, places, folders))
        self.evidence = [folder / EVIDENCE for folder in folders]
        self.proofs = [proof for folder in folders for proof in _exported(folder)]

    def _prove_one(self, place: tuple[str, int, int], folder: Path) -> None:
        """Take evidence, again until it is anchored: only then is the root one that witnesses cosigned."""
        folder.mkdir(parents=True)
        topic, partition, offset = place
        record = ["--topic", topic, "--partition", str(partition), "--offset", str(offset)]
        output = ["-o", str(folder / EVIDENCE), "--export-proofs", str(folder)]
        until = time.monotonic() + ANCHORED_DEADLINE_S
        while True:
            answer = ask(self._command("prove", *record, *output, "--wait", f"{ANCHORED_DEADLINE_S:g}"))
            if answer.code:
                raise DemoFailedError(answer.output)
            if parse_evidence((folder / EVIDENCE).read_bytes()).anchor is not None:
                return
            if time.monotonic() > until:
                raise DemoFailedError(f"{topic}[{partition}] at {offset} is not anchored: {answer.output}")
            time.sleep(WATCH_EVERY_S)

    def _places(self) -> list[tuple[str, int, int]]:
        """The first and the last leaf of a log of each kind: places of records."""
        places: list[tuple[str, int, int]] = []
        for log in self.logs():
            topic, partition = log.folder.parent.name, int(log.folder.name)
            if topic not in PROVEN_TOPICS or topic in {place[0] for place in places}:
                continue
            size = log.checkpoint.size
            tree = TiledTree(self.reader(log), size, log.checkpoint.root)
            places += [(topic, partition, leaf_offset(tree.entry(index))) for index in {0, size - 1}]
        return places


def _exported(folder: Path) -> list[Proof]:
    """The proofs that `attestream prove --export-proofs` wrote: of the record, and of one registry entry."""
    found = []
    for prefix in ("", "registry-0-"):
        for kind, leaf in (("shard", "leaf"), ("epoch", "epoch-leaf")):
            file = folder / f"{prefix}{kind}.tlog-proof"
            if file.exists():
                key = parse_vkey((folder / f"{prefix}{kind}.vkey").read_text().strip())
                name = f"{folder.name}-{prefix}{kind}"
                found.append(Proof(name, key, kind == "epoch", folder / f"{prefix}{leaf}", file))
    return found


def policy_of(witnesses: Sequence[ForeignWitness]) -> str:
    """A witness policy that asks for all of them."""
    lines = [f"witness {each.tool} {each.key} {each.url}" for each in witnesses]
    if not witnesses:
        return "quorum none\n"
    names = " ".join(each.tool for each in witnesses)
    return "\n".join([*lines, f"group strangers all {names}", "quorum strangers", ""])
