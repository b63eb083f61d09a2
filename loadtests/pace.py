"""How fast the machine is at the moment, so that a CPU figure can be read on another day or machine; and how
a stage treats garbage, for loops that stand for one.
"""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

STEPS = 400_000


def loop_ns() -> float:
    """CPU of a step of a plain loop that adds integers, in ns: to be said beside a figure of the same run."""
    total, started = 0, time.process_time_ns()
    for step in range(STEPS):
        total += step
    return (time.process_time_ns() - started) / STEPS


@contextmanager
def uncollected() -> Iterator[None]:
    """Let no cycle collection run inside the block, as none runs in a stage."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
