"""CPU time and memory of processes, and what the stages count themselves, over the time of a run."""

import os
import platform
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import psutil

SAMPLE_S = 1.0
SCRAPE_S = 2.0
MIB = 2**20
PACKAGES = (
    "attestream",
    "confluent-kafka",
    "faust-streaming",
    "numpy",
    "py-ed25519-zebra-bindings",
    "rocksdict",
)

Pids = Callable[[], Mapping[str, int]]
Ports = Callable[[], Mapping[str, int]]
"""Names of processes, and where each has its Prometheus metrics on the loopback interface."""


@dataclass(slots=True)
class Series:
    """One process over time: seconds of CPU time used so far, and bytes resident, at the samples' times."""

    at_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Mark:
    """CPU seconds of each process and counters of each stage at one moment."""

    at_s: float
    cpu_s: Mapping[str, float]
    counted: Mapping[str, Mapping[str, float]]


class Watch:
    """A thread that samples the processes of a run; a process may begin and end meanwhile."""

    def __init__(self, pids: Pids, ports: Ports, clock: Callable[[], float] = time.monotonic) -> None:
        self.series: defaultdict[str, Series] = defaultdict(Series)
        self._pids, self._ports, self._clock = pids, ports, clock
        self._known: dict[int, psutil.Process] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="processes", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def mark(self) -> Mark:
        """Look now, at the stages' own counters too."""
        cpu_s = {name: cpu for name, (cpu, _rss) in self._look().items()}
        counted = {name: counters(port) for name, port in self._ports().items()}
        return Mark(self._clock(), cpu_s, counted)

    def _run(self) -> None:
        while True:
            at_s = self._clock()
            for name, (cpu_s, rss) in self._look().items():
                series = self.series[name]
                series.at_s.append(at_s)
                series.cpu_s.append(cpu_s)
                series.rss.append(rss)
            if self._stop.wait(SAMPLE_S):
                return

    def _look(self) -> dict[str, tuple[float, int]]:
        found = {}
        for name, pid in self._pids().items():
            with suppress(psutil.Error):
                process = self._known.get(pid)
                if process is None:
                    process = self._known[pid] = psutil.Process(pid)
                with process.oneshot():
                    times = process.cpu_times()
                    found[name] = (times.user + times.system, process.memory_info().rss)
        return found


def counters(port: int) -> dict[str, float]:
    """Read a stage's metrics, summed over their labels; empty where it does not answer."""
    found: defaultdict[str, float] = defaultdict(float)
    with suppress(OSError, ValueError):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SCRAPE_S) as answer:
            lines = answer.read(4 << 20).decode().splitlines()
        for line in lines:
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name.partition("{")[0]] += float(value)
    return dict(found)


def machine() -> dict[str, Any]:
    """Facts about the machine and the versions that were measured."""
    model = ""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    found = {}
    for name in PACKAGES:
        with suppress(Exception):
            found[name] = version(name)
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": found,
        "load_before": [round(each, 2) for each in os.getloadavg()],
    }
