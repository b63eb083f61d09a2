"""After the stream: the books, a proof for a stranger, a flipped byte; each is noted in the result."""

import random
import tempfile
from pathlib import Path

from rich.markup import escape

from pipeline.demo.books import read_books
from pipeline.demo.observed import Observed
from pipeline.demo.report import Result
from pipeline.demo.show import Show
from pipeline.demo.tamper import TamperError, published_logs, tamper_with_copy
from pipeline.evidence import prove
from pipeline.settings import PipelineError, Settings
from pipeline.topics import EVENTS
from pipeline.trust import load_trust, trust_path
from pipeline.verify import verify
from schemas.evidence import parse_evidence


def count_books(settings: Settings, show: Show, observed: Observed, result: Result) -> None:
    """Count each raw record's verdicts by reading whole topics."""
    with show.phase("Counting the books in the topics") as phase:
        balance = read_books(settings, observed.since).balance()
        result.balance = balance
        rejected = sum(balance.rejected.values())
        phase.outcome = f"{balance.raw:,} raw = {balance.accepted:,} accepted + {rejected:,} rejected"
        if not balance.even:
            phase.fail("; ".join(balance.faults()))


def prove_one(settings: Settings, show: Show, observed: Observed, result: Result) -> None:
    """Take evidence for a random event, and verify it from its bytes and the trust file."""
    with show.phase("Proving a random event to a stranger") as phase:
        if observed.sample is None:
            phase.fail("no event was accepted")
            return
        partition, offset = observed.sample
        try:
            file = prove(settings, EVENTS, partition, offset).to_json()
        except PipelineError as error:
            phase.fail(str(error))
            return
        # From here on only what the stranger has: the file's bytes and a trust file.
        trust = load_trust(trust_path(settings))
        evidence = parse_evidence(file.encode())
        verdict = verify(evidence, trust)
        result.evidence_verified = verdict.holds and evidence.anchor is not None
        phase.outcome = f"{len(file):,} bytes of evidence and the trust file suffice"
        for step in verdict.steps:
            phase.notes.append((show.mark(good=step.holds), escape(f"{step.name}: {step.detail}")))
        for text in verdict.not_proven:
            phase.notes.append((show.dot, f"[dim]not proven: {escape(text)}[/]"))
        if not result.evidence_verified:
            phase.fail("it does not hold" if not verdict.holds else "it has no anchor")


def tamper(settings: Settings, show: Show, rng: random.Random, result: Result) -> None:
    """Flip one bit in a copy of a random published log, and look whether it is found."""
    with show.phase("Flipping one byte in a copy of the log") as phase:
        logs = [log for log in published_logs(settings.data_dir / "log") if log.checkpoint.size]
        if not logs:
            phase.fail("nothing was published")
            return
        key = load_trust(trust_path(settings)).log_key
        with tempfile.TemporaryDirectory(prefix="attestream-copy-") as folder:
            try:
                log = rng.choice(logs)
                tampering = tamper_with_copy(log, Path(folder) / "copy", key, rng)
            except TamperError as error:
                phase.fail(str(error))
                return
        result.tampering = tampering
        if tampering.found:
            phase.outcome = f"found at {tampering.origin}: {tampering.told}"
        else:
            phase.fail(f"byte {tampering.position} of {tampering.path}: {tampering.told}")
