"""Does an event cost the same at 1,000 and at 100,000 devices? Ingest's loop without a broker.

Judge, states, outputs, changelog records and RocksDB are those of the stage, signatures are real and
verified; only the producer counts what it is given in place of sending it. So what does not depend on the
number of devices, consuming and producing, is left out, and a difference shows the more.

Devices report once a second, all at an even pace, and a batch holds the next events of all partitions, as a
backlog that is worked off has them. Each device first sends so much that its detectors know what is usual;
then a whole block of its samples is measured, since what a block costs falls on its last event. A device has
sent as much in a small fleet as in a large one, since its state grows with what it has sent; small fleets are
measured several times instead.

A machine that is shared has minutes in which everything costs half as much again. So a small fleet reports
beside the one in question, a block after each batch or so of it, and says what the same minutes cost.
"""

import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtests.corpusevents import Record, chunk_of
from loadtests.corpusplan import Plan
from pipeline.loadtest.ingestloop import AtDevices, Loop
from processors.detect.blocks import BLOCK

LOG = "scale.example"
WARM_BLOCKS = 5
"""Then what is usual is known, and states live in their tables: an event costs little more or less from there
on."""
STEADY_BLOCKS = 7
"""Then a state is as large as it gets: its signs of noise reach back so far."""
MEASURED_EVENTS, MOST_RUNS = 200_000, 5
"""So many events are measured, or so many runs."""
CHUNK = 2000
BESIDE = 1000
"""Devices of the small fleet; a batch has as many records."""
BESIDE_BLOCKS = 8
"""Of the small fleet, measured beside a block of the other, whatever size its batches have."""


def median_run(devices: int, batch: int, warm_blocks: int = WARM_BLOCKS) -> AtDevices:
    """Measure one number of devices as often as it takes, and return the run in the middle."""
    runs = min(MOST_RUNS, max(1, MEASURED_EVENTS // (BLOCK * devices)))
    found = [at_devices(devices, batch, warm_blocks, beside=BESIDE, seed=number) for number in range(runs)]
    return sorted(found, key=lambda run: run.cpu_us / run.beside_us)[len(found) // 2]


def at_devices(  # noqa: PLR0917 - how many, how, and beside what
    devices: int,
    batch: int,
    warm_blocks: int = WARM_BLOCKS,
    jobs: int | None = None,
    seed: int = 0,
    beside: int = 0,
) -> AtDevices:
    """Measure one number of devices once, with a fleet of `beside` devices in between if there are any.

    Raises LoadTestError where an event was not accepted.
    """
    warm, together = BLOCK * warm_blocks, _rounds_together(devices, batch)
    with TemporaryDirectory(prefix="attestream-scale-") as made, _pool(jobs) as pool, ExitStack() as stack:
        small = None
        if beside:
            before, rounds = STEADY_BLOCKS * BLOCK, (STEADY_BLOCKS + BESIDE_BLOCKS) * BLOCK
            small = _Fleet(Path(made) / "small", beside, beside, rounds, seed)
            stack.callback(small.loop.close)
            small.send(pool, before, BLOCK, is_measured=False)
        fleet = _Fleet(Path(made) / "fleet", devices, batch, warm + BLOCK, seed)
        stack.callback(fleet.loop.close)
        fleet.send(pool, warm, together, is_measured=False)
        for _ in range(BLOCK // together):
            fleet.send(pool, together, together, is_measured=True)
            if small is not None:
                small.send(pool, BESIDE_BLOCKS * together, BLOCK, is_measured=True)
        return fleet.loop.result(small.loop.cpu_us if small is not None else 0.0)


class _Fleet:
    """Devices that report in rounds, one event of each in every round."""

    def __init__(self, folder: Path, devices: int, batch: int, rounds: int, seed: int) -> None:
        self._plan = Plan(
            log_name=LOG,
            devices=devices,
            records=devices * rounds,
            seed=seed,
            first_us=time.time_ns() // 1000 - rounds * 1_000_000,
            event_rate=float(devices),
            shares=(1.0, 0.0, 0.0),
        )
        self._plan.check()
        self.loop = Loop(self._plan, folder, batch)
        self._next = 0

    def send(self, pool: ProcessPoolExecutor, rounds: int, together: int, *, is_measured: bool) -> None:
        """Send so many rounds, some together. While it is measured nothing else is done."""
        ahead, end = _asked(pool, self._plan, self._next, together), self._next + rounds
        while self._next < end:
            events = [record for part in ahead for record in part.result()]
            self._next += together
            if self._next < end and not is_measured:
                ahead = _asked(pool, self._plan, self._next, together)
            self.loop.feed(events, is_measured=is_measured)
            if self._next < end and is_measured:
                ahead = _asked(pool, self._plan, self._next, together)


def _rounds_together(devices: int, batch: int) -> int:
    """How many rounds fill a batch: a part of a block, so that none is measured in part."""
    return next((each for each in (1, 2, 4) if each * devices >= batch), BLOCK)


@contextmanager
def _pool(jobs: int | None) -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(
        jobs or os.cpu_count() or 1, mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        yield pool


def _asked(pool: ProcessPoolExecutor, plan: Plan, number: int, together: int) -> list[Future[list[Record]]]:
    """Let the events of some rounds be signed; in each every device sends one."""
    first, end = number * plan.devices, (number + together) * plan.devices
    return [pool.submit(chunk_of, plan, start, min(CHUNK, end - start)) for start in range(first, end, CHUNK)]
