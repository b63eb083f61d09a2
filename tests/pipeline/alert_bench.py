"""How fast an attack is told in a flood, and whether each record is accounted for.

PYTHONPATH=. .venv/bin/python -m tests.pipeline.alert_bench [--seconds 60] [--rate 1000] [--groups 10]

Rejections and findings come at `rate` a second, as ingest writes them; `groups` new groups (a rule or reason
about one device) begin in each second and go on for 20 s. Correlate, route and deliver run as processes; a
party has a webhook and an SSE stream. Measured is, for the first record of each group, from the moment at
which it was to be published (so that a producer that falls behind hides nothing) until an output has it.
Memory is that of each process at a third of the time and at the end. At the end the alerts' `covers` must
name each record.
"""

import argparse
import base64
import json
import math
import os
import statistics
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Producer

from pipeline import kafka, topics
from pipeline.local.kafka import running_kafka
from pipeline.partytopics import party_topic
from pipeline.settings import Settings
from pipeline.trust import init_local
from processors.covers import places
from schemas.records import EvidenceRef, Finding, Severity
from tests.kit.deployment import read_topic, wait_for
from tests.kit.receivers import LOOPBACK, Request, endpoint, free_port
from tests.kit.stageprocess import Worker
from tests.kit.subscribed import party, subscribe

STAGES = ("correlate", "route", "deliver")
LASTS_S = 20
PARTITIONS = 4
FINDINGS_SHARE = 4
"""Every so many groups one is of findings, the others of rejections."""


@dataclass
class Seen:
    """When an output had the first record of each group, and how many messages it got."""

    at: dict[str, float] = field(default_factory=dict)
    messages: int = 0

    def take(self, finding: dict[str, object], firsts: dict[str, float]) -> None:
        now_s = time.monotonic()
        self.messages += 1
        for place in places(finding.get("unmapped", {}).get("covers", {})):  # type: ignore[attr-defined]
            if place in firsts:
                self.at.setdefault(place, now_s)


class Flood:
    """Publishes at a rate; knows when each group's first record was due, by its place."""

    def __init__(self, settings: Settings, options: argparse.Namespace) -> None:
        self._options = options
        self._producer: Producer = kafka.producer(settings, **{"linger.ms": 5})
        self.firsts: dict[str, float] = {}
        self.published = 0
        self.late_s = 0.0

    def run(self) -> None:
        """Publish until the time is over."""
        rate, began_s = self._options.rate, time.monotonic()
        groups, told = self._options.groups, set()
        for number in range(int(rate * self._options.seconds)):
            due_s = began_s + number / rate
            pause_s = due_s - time.monotonic()
            if pause_s > 0:
                self._producer.poll(0)
                time.sleep(pause_s)
            self.late_s = max(self.late_s, -pause_s)
            newest = int((due_s - began_s) * groups)
            group = max(0, newest - number % (groups * LASTS_S))
            self._publish(number, group, due_s if group not in told else None)
            told.add(group)
        if self._producer.flush(60):
            raise SystemExit("Kafka did not take the flood")

    def _publish(self, number: int, group: int, due_s: float | None) -> None:
        device = f"did:key:flood-{group}"

        def delivered(error: object, message: object) -> None:
            if error is not None:
                raise SystemExit(f"not published: {error}")
            self.published += 1
            if due_s is not None:
                place = f"{message.topic()}/{message.partition()}/{message.offset()}"  # type: ignore[attr-defined]
                self.firsts[place] = due_s

        headers: list[tuple[str, str | bytes | None]] = []
        if group % FINDINGS_SHARE == 0:
            evidence = (EvidenceRef("device.telemetry.raw", 0, number),)
            found = Finding(
                "sequence_gap",
                Severity.HIGH,
                device,
                time.time_ns() // 1000,
                "missing",
                evidence,
                cause=str(number),
            )
            value, topic = found.encode(os.urandom(16)), topics.FINDINGS
        else:
            source = b"device.telemetry.raw/0/%d" % number
            headers = [("reason", b"bad_signature"), ("source", source), ("device", device.encode())]
            value, topic = os.urandom(100), topics.REJECTED
        self._producer.produce(
            topic, value, device.encode(), group % PARTITIONS, headers=headers, on_delivery=delivered
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--groups", type=int, default=10, help="new ones in each second")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="attestream-alerts-")))
        servers = stack.enter_context(running_kafka(folder / "kafka"))
        settings = Settings(
            data_dir=folder, log_name="flood.example", bootstrap_servers=servers, partitions=4
        )
        init_local(settings)
        topics.apply(kafka.admin(settings), settings)
        _measure(settings, options, stack)


def _measure(settings: Settings, options: argparse.Namespace, stack: ExitStack) -> None:
    flood, hook, sse = Flood(settings, options), Seen(), Seen()
    os.environ["BENCH_HOOK"] = "whsec_" + base64.b64encode(os.urandom(32)).decode()
    made = stack.enter_context(endpoint())

    def answer(request: Request) -> None:
        hook.take(json.loads(request.body)["data"]["finding"], flood.firsts)
        made.requests.clear()

    made.answer = answer
    port = free_port()
    outputs = (
        {
            "name": "hook",
            "kind": "webhook",
            "url": made.url,
            "secret": {"env": "BENCH_HOOK"},
            "allow": [LOOPBACK],
        },
        {"name": "live", "kind": "sse", "listen": f"127.0.0.1:{port}"},
    )
    subscribe(settings, 1, [party("soc", *outputs)])
    workers = [Worker(settings, stage) for stage in STAGES]
    for worker in workers:
        stack.callback(worker.end)
    for stage in STAGES:
        wait_for(lambda stage=stage: _is_running(settings, stage), f"{stage} runs")  # type: ignore[misc]
    stack.enter_context(_listening(port, sse, flood))
    sizes = [_sizes(workers)]
    publishing = threading.Thread(target=flood.run)
    publishing.start()
    time.sleep(options.seconds / 3)
    sizes.append(_sizes(workers))
    publishing.join()
    wait_for(lambda: _covered(settings) >= flood.published, "each record is told of", 60)
    sizes.append(_sizes(workers))
    wait_for(lambda: all(len(each.at) == len(flood.firsts) for each in (hook, sse)), "outputs have all", 60)
    print(f"{flood.published:,} records in {options.seconds:g} s, each told of; {len(flood.firsts)} groups")
    print(f"the producer was late by at most {flood.late_s * 1000:.0f} ms")
    for name, seen in (("webhook", hook), ("sse", sse)):
        print(f"{name}: {seen.messages:,} messages; first of each group {_told(seen, flood.firsts)}")
    for topic in (topics.ALERTS, party_topic("soc")):
        print(f"in {topic}: first of each group {_told(_appended(settings, topic), flood.firsts)}")
    for number, stage in enumerate(STAGES):
        mib = " -> ".join(f"{each[number]:.0f}" for each in sizes)
        print(f"{stage}: RSS {mib} MiB (before, at a third, at the end)")


def _told(seen: Seen, firsts: dict[str, float]) -> str:
    took_s = sorted(seen.at[place] - due_s for place, due_s in firsts.items())
    p99 = took_s[min(len(took_s) - 1, math.ceil(0.99 * len(took_s)) - 1)]
    return f"median {statistics.median(took_s):.2f} s, p99 {p99:.2f} s, max {took_s[-1]:.2f} s"


def _appended(settings: Settings, topic: str) -> Seen:
    """When the broker took the alert of each record, on the monotonic clock."""
    seen, ahead_s = Seen(), time.time() - time.monotonic()
    for record in read_topic(settings, topic):
        covers = json.loads(record.value or b"")["unmapped"].get("covers", {})
        for place in places(covers):
            seen.at.setdefault(place, record.append_ms / 1000 - ahead_s)
    return seen


def _covered(settings: Settings) -> int:
    counted: Counter[str] = Counter()
    for record in read_topic(settings, topics.ALERTS):
        covers = json.loads(record.value or b"")["unmapped"].get("covers", {})
        counted.update(dict.fromkeys(places(covers), 1))
    return len(counted)


def _sizes(workers: Sequence[Worker]) -> list[float]:
    pages = [int(Path(f"/proc/{w.process.pid}/statm").read_text().split()[1]) for w in workers]
    return [each * os.sysconf("SC_PAGESIZE") / 2**20 for each in pages]


def _is_running(settings: Settings, stage: str) -> bool:
    path = settings.data_dir / "run" / f"{stage}.health.json"
    return path.exists() and json.loads(path.read_text())["state"] == "running"


@contextmanager
def _listening(port: int, seen: Seen, flood: Flood) -> Iterator[None]:
    """Listen to the SSE stream in a thread, until the stage that serves it ends."""
    answer = wait_for(lambda: _open(port), "the stream is served")

    def listen() -> None:
        try:
            for line in answer:
                if line.startswith(b"data: "):
                    seen.take(json.loads(line[6:])["data"]["finding"], flood.firsts)
        except (OSError, ValueError):
            return  # the stage has ended

    threading.Thread(target=listen, daemon=True).start()
    yield


def _open(port: int):  # type: ignore[no-untyped-def]
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/alerts?from=1", timeout=120)
    except OSError:
        return None


if __name__ == "__main__":
    main()
