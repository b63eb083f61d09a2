"""Makes a corpus: a fleet's events on real vitals, with forgeries among them, signed on all processors.

Deterministic: one plan gives one file. Each device's events come at even intervals by its own clock and count
up without a gap; a forgery is somebody else's, so it stands between them and uses up none of their numbers.
An attacker takes ward after ward, two devices in each, over the whole length of the corpus: a ward's first
attack is told once, and how fast is to be measured at all times.
"""

import multiprocessing
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from loadtests import corpus
from loadtests.corpus import KINDS, SEED_FILE, Header
from loadtests.corpusevents import Record, chunk_of, draw, envelope_bytes, identity_of
from loadtests.corpusplan import Plan, nurses_of
from loadtests.errors import CorpusError, PlanError
from schemas.ed25519 import public_key
from schemas.events import MAX_READINGS

CHUNK = 2000
"""Records of one task of a process; part of what the file's bytes follow from."""


def make(
    folder: Path, plan: Plan, jobs: int | None = None, on_progress: Callable[[int], None] = lambda _n: None
) -> Path:
    """Make the corpus of a plan in a folder, and the seed of its keys beside it, for its owner only.

    `on_progress` hears how many records there are. Raises PlanError and CorpusError.
    """
    plan.check()
    plan = replace(plan, readings=_readings_for(plan))
    _keep_seed(folder, plan.seed)
    drawn, nurses = draw(plan), nurses_of(plan.devices)
    header = Header(
        log_name=plan.log_name,
        devices=plan.devices,
        nurses=nurses,
        records=plan.records,
        forged=int(drawn.forged.sum()),
        mix={kind.value: int((drawn.kinds == at).sum()) for at, kind in enumerate(KINDS)},
        first_us=plan.first_us,
        last_us=plan.first_us + plan.span_us,
        event_rate=plan.event_rate,
    )
    keys = (public_key(identity_of(plan, number).seed) for number in range(plan.devices + nurses))
    return corpus.write(folder, header, keys, _records(plan, jobs or os.cpu_count() or 1, on_progress))


def new_seed() -> int:
    """Draw a seed that nobody guesses: whoever knows it has the keys."""
    return secrets.randbits(128)


def _keep_seed(folder: Path, seed: int) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / SEED_FILE
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{seed}\n")
    except OSError as error:
        raise CorpusError(f"cannot write into {folder}: {error.strerror}") from error


def _readings_for(plan: Plan) -> int:
    """How many readings make an event as long as was asked for; raises PlanError."""
    if plan.record_size is None:
        return plan.readings
    sizes = {each: envelope_bytes(plan, each) for each in range(plan.readings, MAX_READINGS + 1)}
    least, most = min(sizes.values()), max(sizes.values())
    if not least <= plan.record_size <= most:
        raise PlanError(
            f"a record size of {plan.record_size:,} bytes: with {plan.readings} to {MAX_READINGS} readings "
            f"an event has {least:,} to {most:,}"
        )
    wanted = plan.record_size
    return min(sizes, key=lambda each: abs(sizes[each] - wanted))


def _records(plan: Plan, jobs: int, on_progress: Callable[[int], None]) -> Iterator[Record]:
    """Make chunks in other processes, a few of them ahead, and yield their records in order."""
    starts = iter(range(0, plan.records, CHUNK))
    waiting: deque[Future[list[Record]]] = deque()
    done = 0
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for start in starts:
            waiting.append(pool.submit(chunk_of, plan, start, CHUNK))
            if len(waiting) > 2 * jobs:
                break
        while waiting:
            made = waiting.popleft().result()
            if (start := next(starts, -1)) >= 0:
                waiting.append(pool.submit(chunk_of, plan, start, CHUNK))
            yield from made
            done += len(made)
            on_progress(done)
