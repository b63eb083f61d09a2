"""How fast the machine is at the moment, so that a CPU figure can be read on another day or machine."""

import time

STEPS = 400_000


def loop_ns() -> float:
    """CPU of a step of a plain loop that adds integers, in ns: to be said beside a figure of the same run."""
    total, started = 0, time.process_time_ns()
    for step in range(STEPS):
        total += step
    return (time.process_time_ns() - started) / STEPS
