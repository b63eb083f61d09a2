"""How fast something works off what already lies in topics, and at what CPU time: samples and their sum."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from loadtests.errors import LoadTestError
from loadtests.processes import MIB

SAMPLE_S = 0.2
OFTEN_S = 0.05
"""For what is done in great steps: the CPU time until the next look belongs to the next step."""
COLD_SHARE = 0.3
"""Of the records: caches are cold, libraries are loaded, and devices are new while these are worked off."""
QUIET_S = 60.0


class StuckError(LoadTestError):
    """What was to be worked off is not being worked off."""


@dataclass(frozen=True, slots=True)
class Sample:
    """So much was done by then, with so many CPU seconds of the worker and of the broker."""

    at_s: float
    done: int
    cpu_s: float
    broker_cpu_s: float
    rss: int


@dataclass(frozen=True, slots=True)
class Drained:
    """What working off took, over its steady part."""

    name: str
    done: int
    rate: float
    cpu_us: float
    """Of the worker, for each record."""
    broker_cpu_us: float
    rss_mib: float

    def to_json(self) -> dict[str, Any]:
        """Members by name, rounded."""
        return {
            name: round(value, 1) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


def watch(  # noqa: PLR0917 - who, what, and how far
    name: str,
    pids: Callable[[], Mapping[str, int]],
    broker: int | None,
    done: Callable[[], int],
    count: int,
    on_progress: Callable[[int], None] = lambda _n: None,
    *,
    every_s: float = SAMPLE_S,
) -> Drained:
    """Sample until `count` records are done. Raises StuckError when nothing is done for a minute."""
    samples: list[Sample] = []
    moved_s = time.monotonic()
    while True:
        found = done()
        if samples and found > samples[-1].done:
            moved_s = time.monotonic()
        if time.monotonic() - moved_s > QUIET_S:
            raise StuckError(
                f"{name} has done {found:,} of {count:,} records and nothing for {QUIET_S:.0f} s"
            )
        cpu_s, rss = _usage(pids().values())
        broker_cpu_s, _ = _usage([broker] if broker is not None else [])
        samples.append(Sample(time.monotonic(), found, cpu_s, broker_cpu_s, rss))
        on_progress(found)
        if found >= count:
            return steady(name, samples, count)
        time.sleep(every_s)


def steady(name: str, samples: list[Sample], count: int) -> Drained:
    """Work out rate and CPU time between the first sample that is warm and the first at the end."""
    last = next((each for each in samples if each.done >= count), samples[-1])
    first = next((each for each in samples if each.done >= COLD_SHARE * count), samples[0])
    if first.done >= last.done:
        first = samples[0]
    done, seconds = max(1, last.done - first.done), max(1e-9, last.at_s - first.at_s)
    return Drained(
        name=name,
        done=last.done,
        rate=done / seconds,
        cpu_us=(last.cpu_s - first.cpu_s) / done * 1e6,
        broker_cpu_us=(last.broker_cpu_s - first.broker_cpu_s) / done * 1e6,
        rss_mib=max(each.rss for each in samples) / MIB,
    )


def _usage(pids: Any) -> tuple[float, int]:
    """Add up CPU seconds and resident bytes; a process that is over counts no more."""
    cpu_s, rss = 0.0, 0
    for pid in pids:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            times = process.cpu_times()
            cpu_s, rss = cpu_s + times.user + times.system, rss + process.memory_info().rss
    return cpu_s, rss
