"""A local stack under steady load for long: does any process grow?

PYTHONPATH=. .venv/bin/python -m tests.faults.soak [--seconds 3600] [--rate 400] [--backlog 0] [--seed 1]

First, where asked for, a backlog of so many records is taken up by stages that start on it. Then devices
send steadily, while now and then consumers are slow, the broker is paused, and, in the first half, a worker
is killed: in the second half every process keeps its life, so that growth is growth. The resident memory of
each process is read once a second. `build/soak.json` has slope, maximum and verdict of each.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

from pipeline import kafka, topics
from pipeline.authority import Authority
from pipeline.local.stack import LocalStack
from pipeline.local.status import read_status
from pipeline.membership import group_of
from pipeline.settings import Settings
from pipeline.shard import store_of
from schemas.checkpoint import parse_checkpoint
from schemas.note import parse_note
from schemas.partition import partition_of
from tests.faults.growth import MIB, Growth, judge
from tests.kit.deployment import Deployment, Device

REPORT = Path("build/soak.json")
DEVICES = 100
SLICE_S = 0.1
REJECTED_SHARE = 0.02
DISTURB_EVERY_S, SLOW_S, PAUSE_S = 30.0, 15.0, 5.0
SLOW_STAGES = ("ingest", "seal", "correlate")
KILLED_STAGES = ("ingest", "seal", "correlate", "monitor", "anchor")
SETTLE_DEADLINE_S = 300.0
SERIES_STEP = 15


@dataclass
class Soak:
    """One run: its stack, its load, and what was seen."""

    settings: Settings
    seed: int
    samples: dict[str, list[tuple[float, int, int]]] = field(default_factory=dict)
    """Of each process: seconds since the beginning, pid, resident bytes."""
    disturbances: Counter[str] = field(default_factory=Counter)
    sent: int = 0

    def __post_init__(self) -> None:
        self.began_s = time.monotonic()
        self.over = threading.Event()
        self.chance = random.Random(self.seed)

    def pid(self, name: str) -> int | None:
        with contextlib.suppress(KeyError):
            return read_status(self.settings.data_dir).process(name).pid
        return None

    # ---- what is done to it ----------------------------------------------------------------------------

    def send_steadily(self, deployment: Deployment, rate: float) -> None:
        """Send `rate` events a second until it is over; some are no events at all."""
        devices = itertools.cycle(self._devices(deployment))
        before, started_s = self.sent, time.monotonic()
        while not self.over.wait(SLICE_S):
            due = (time.monotonic() - started_s) * rate
            while self.sent - before < due:
                self._send(deployment, next(devices), is_event=self.chance.random() >= REJECTED_SHARE)
            deployment.producer.poll(0)

    def send_backlog(self, deployment: Deployment, count: int) -> None:
        """Send so many events at once."""
        devices = itertools.cycle(self._devices(deployment))
        for _ in range(count):
            self._send(deployment, next(devices), is_event=True)
        deployment.producer.flush(120)

    def _devices(self, deployment: Deployment) -> list[Device]:
        return [deployment.enroll() for _ in range(DEVICES)]

    def _send(self, deployment: Deployment, device: Device, *, is_event: bool) -> None:
        key = device.did.encode()
        value = device.telemetry() if is_event else b"no envelope"
        while True:
            try:
                deployment.producer.produce(
                    topics.TELEMETRY_RAW,
                    key=key,
                    value=value,
                    partition=partition_of(key, self.settings.partitions),
                )
            except BufferError:  # the broker is paused: wait as a gateway would
                deployment.producer.poll(0.1)
            else:
                self.sent += 1
                return

    def disturb(self, until_s: float, kills_until_s: float) -> None:
        """One disturbance after another, with rests between them."""
        kinds = itertools.cycle(("slow", "pause", "kill"))
        rest_s = min(DISTURB_EVERY_S, (until_s - time.monotonic()) / 8)
        while time.monotonic() + rest_s + SLOW_S < until_s and not self.over.wait(rest_s):
            kind = next(kinds)
            if kind == "slow":
                self._slow(self.chance.choice(SLOW_STAGES))
            elif kind == "pause":
                self._stop_for("kafka", PAUSE_S)
            elif time.monotonic() < kills_until_s:
                self._kill(self.chance.choice(KILLED_STAGES))

    def _slow(self, stage: str) -> None:
        """Let a stage work a quarter of the time: its backlog grows."""
        self.disturbances[f"slow {stage}"] += 1
        until_s = time.monotonic() + SLOW_S
        while time.monotonic() < until_s:
            self._stop_for(stage, 0.75)
            time.sleep(0.25)

    def _stop_for(self, name: str, seconds: float) -> None:
        pid = self.pid(name)
        if pid is None:
            return
        if name == "kafka":
            self.disturbances["kafka paused"] += 1
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            try:
                time.sleep(seconds)
            finally:
                os.kill(pid, signal.SIGCONT)

    def _kill(self, stage: str) -> None:
        pid = self.pid(stage)
        if pid is not None:
            self.disturbances[f"kill {stage}"] += 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # ---- what is seen ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def sampled(self) -> Iterator[None]:
        """Sample within the block."""
        over = threading.Event()
        with threads(threading.Thread(target=self._sample, args=(over,))):
            try:
                yield
            finally:
                over.set()

    def _sample(self, over: threading.Event) -> None:
        """Read every process's memory once a second until it is over."""
        page = os.sysconf("SC_PAGE_SIZE")
        while not over.wait(1.0):
            status = read_status(self.settings.data_dir)
            seconds = time.monotonic() - self.began_s
            rows = [(row.name, row.pid) for row in status.processes] + [("supervisor", status.supervisor_pid)]
            for name, pid in rows:
                with contextlib.suppress(OSError):
                    if pid is not None:
                        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
                        self.samples.setdefault(name, []).append((seconds, pid, resident))

    def backlog(self, admin: AdminClient, *, counts_seal: bool) -> int:
        """Records that ingest has not judged, or that no checkpoint covers."""
        raw = [(topic, p) for topic in topics.RAW_TOPICS for p in range(self.settings.partitions)]
        ends = kafka.end_offsets(admin, raw)
        group = group_of(self.settings, "ingest")
        found = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(20)
        at = {(place.topic, place.partition): max(0, place.offset) for place in found.topic_partitions or ()}
        unjudged: int = sum(end - at.get(place, 0) for place, end in ends.items())
        if not counts_seal:
            return unjudged
        sealed = 0
        for topic in (topics.EVENTS, topics.REJECTED):
            for number in range(self.settings.partitions):
                data = store_of(self.settings, (topic, number)).read_checkpoint()
                sealed += parse_checkpoint(parse_note(data).text).size if data else 0
        return max(unjudged, sum(ends.values()) - sealed)

    def settle(self, admin: AdminClient, *, counts_seal: bool = True) -> float | None:
        """Wait until nothing is left to judge and to seal; seconds that took, None if it did not end."""
        began_s = time.monotonic()
        while time.monotonic() - began_s < SETTLE_DEADLINE_S:
            if self.backlog(admin, counts_seal=counts_seal) == 0:
                return round(time.monotonic() - began_s, 1)
            time.sleep(1.0)
        return None


def _series(samples: list[tuple[float, int, int]]) -> list[tuple[int, float]]:
    """Memory for a drawing: a point in so many seconds."""
    return [(round(at), round(size / MIB, 1)) for at, _, size in samples[::SERIES_STEP]]


def _take_up(soak: Soak, backlog: int) -> dict[str, float | None]:
    """Let records wait for ingest, and then all of its outputs for every other stage."""
    with LocalStack(soak.settings, stages=()):
        deployment = Deployment(soak.settings, Authority(soak.settings))
        soak.send_backlog(deployment, backlog)
        deployment.authority.close()
    print(f"a backlog of {backlog:,} records waits", flush=True)
    with LocalStack(soak.settings, stages=("ingest",)), soak.sampled():
        judged_s = soak.settle(kafka.admin(soak.settings), counts_seal=False)
    print(f"judged in {judged_s} s", flush=True)
    return {"ingest": judged_s}


@contextlib.contextmanager
def threads(*bodies: threading.Thread) -> Iterator[None]:
    for body in bodies:
        body.start()
    try:
        yield
    finally:
        for body in bodies:
            body.join()


def run(folder: Path, seconds: float, rate: float, backlog: int, seed: int) -> dict[str, Any]:
    settings = Settings(data_dir=folder, partitions=4)
    soak = Soak(settings, seed)
    taken_up = _take_up(soak, backlog) if backlog else {}
    with LocalStack(settings), soak.sampled():
        admin = kafka.admin(settings)
        if backlog:
            taken_up["seal"] = soak.settle(admin)
            print(f"sealed in {taken_up['seal']} s", flush=True)
        steady_from_s = time.monotonic() - soak.began_s
        drained_s = _steady(soak, admin, seconds, rate)
    judged = {
        name: judge(found, from_s=steady_from_s, half_s=seconds / 2) for name, found in soak.samples.items()
    }
    grown = [name for name, growth in judged.items() if growth.verdict == "grows"]
    return {
        "seconds": seconds,
        "seed": seed,
        "records": soak.sent,
        "backlog": {"records": backlog, "taken_up_s": taken_up},
        "disturbances": dict(sorted(soak.disturbances.items())),
        "drained_after_s": drained_s,
        "processes": {name: growth.to_json() for name, growth in sorted(judged.items())},
        "series_mib": {name: _series(found) for name, found in sorted(soak.samples.items())},
        "flat": not grown if any(growth.slope_mib_per_h is not None for growth in judged.values()) else None,
        "grown": grown,
        "ok": not grown and drained_s is not None and None not in taken_up.values(),
    }


def _steady(soak: Soak, admin: AdminClient, seconds: float, rate: float) -> float | None:
    deployment = Deployment(soak.settings, Authority(soak.settings))
    began_s = time.monotonic()
    try:
        with threads(
            threading.Thread(target=soak.send_steadily, args=(deployment, rate)),
            threading.Thread(target=soak.disturb, args=(began_s + seconds, began_s + seconds / 2)),
        ):
            while time.monotonic() - began_s < seconds:
                time.sleep(min(30.0, seconds / 4))
                print(f"{time.monotonic() - began_s:6.0f} s, {soak.sent:,} records", flush=True)
            soak.over.set()
        deployment.producer.flush(60)
        return soak.settle(admin)
    finally:
        soak.over.set()
        deployment.authority.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--rate", type=float, default=400.0, help="events a second")
    parser.add_argument("--backlog", type=int, default=0, help="records that wait before the stages start")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        report = run(Path(folder), arguments.seconds, arguments.rate, arguments.backlog, arguments.seed)
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=1) + "\n")
    print(Growth.heading())
    for name, row in report["processes"].items():
        print(Growth.line(name, row))
    verdict = {True: "flat", False: "NOT FLAT", None: "too short to tell growth from warming up"}[
        report["flat"]
    ]
    print(f"{verdict}; {REPORT} has the rest")
    sys.exit(0 if report["ok"] else 1)


if __name__ == "__main__":
    main()
