"""How fast a revocation works, on every worker: from its publication to the first denied event.

PYTHONPATH=. .venv/bin/python -m tests.pipeline.revocation_bench [--rounds 50] [--workers 2] [--load 50]

A device for each partition asks without pause, and all workers judge telemetry beside that. In each round one
thing changes, in turn: a person's key is revoked, a person is decommissioned, the policies are published
anew without what they permitted. Measured is from before the entry is signed until a reader of committed
decisions sees the first request denied for it, and the live permit ended, in the last of all partitions; so
it holds for each worker, however the partitions are spread.
"""

import argparse
import itertools
import math
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicPartition

from pipeline import kafka, topics
from pipeline.authority import Authority, NewKey
from pipeline.identity import create_identity
from pipeline.local.kafka import running_kafka
from pipeline.policies import PolicyAuthority
from pipeline.settings import Settings
from pipeline.trust import init_local
from schemas.decisions import DecisionKind, Effect, decode_decision
from schemas.partition import partition_of
from tests.kit.deployment import Deployment, Device, wait_for
from tests.kit.load import under_load
from tests.kit.stageprocess import Worker
from tests.kit.ward import ACTIONS, HOSPITAL

PARTITIONS = 4
ASK_EVERY_S = 0.02
"""Each device; an answer cannot be older than the question."""
LOAD_PAUSE_S = 0.05
NURSE = {"kind": "clinician", "wards": "ICU-2", "shift": "00:00-00:00"}
PUMP = {"kind": "infusion-pump", "ward": "ICU-2"}
LOCKED = '@id("unlock") permit (principal, action == Action::"unlock", resource);'


@dataclass
class Seen:
    """What a reader saw decided on one person: by device, when it was first, in monotonic seconds."""

    permitted: dict[str, float] = field(default_factory=dict)
    denied: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)


class Ward:
    """Devices that ask for whoever `subject` is, and a reader of what is decided."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.devices = list(self._one_for_each_partition())
        self.subject = ""
        self._seen: dict[str, Seen] = {}
        self._over = threading.Event()

    def _one_for_each_partition(self) -> Iterator[Device]:
        wanted = set(range(PARTITIONS))
        while wanted:
            device = self._deployment.enroll(**PUMP)
            partition = partition_of(device.did.encode(), PARTITIONS)
            if partition in wanted:
                wanted.discard(partition)
                yield device

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Ask and read for the length of a block."""
        threads = [threading.Thread(target=body) for body in (self._ask, self._read)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _ask(self) -> None:
        producer = self._deployment.producer
        while not self._over.wait(ASK_EVERY_S):
            if not (subject := self.subject):
                continue
            for device in self.devices:
                value = device.access(subject=subject, action="login", session=f"of {subject[-8:]}")
                key = device.did.encode()
                with suppress(BufferError):
                    producer.produce(
                        topics.ACCESS_RAW, key=key, value=value, partition=partition_of(key, PARTITIONS)
                    )
            producer.poll(0)

    def _read(self) -> None:
        reader = kafka.consumer(self._deployment.settings, "revocation-bench")
        reader.assign(
            [TopicPartition(topics.DECISIONS, number, OFFSET_BEGINNING) for number in range(PARTITIONS)]
        )
        while not self._over.is_set():
            for message in reader.consume(500, 0.05):
                if (error := message.error()) is not None:
                    raise KafkaException(error)
                self._take(message.value() or b"", time.monotonic())
        reader.close()

    def _take(self, value: bytes, now_s: float) -> None:
        decision = decode_decision(value)
        seen = self.of(decision.subject)
        if decision.kind is DecisionKind.REVOCATION:
            seen.ended.setdefault(decision.device_id, now_s)
        elif decision.effect is Effect.PERMIT:
            seen.permitted.setdefault(decision.device_id, now_s)
        elif decision.device_id in seen.permitted:
            seen.denied.setdefault(decision.device_id, now_s)

    def of(self, subject: str) -> Seen:
        """What was decided about a person."""
        return self._seen.setdefault(subject, Seen())


def one_round(ward: Ward, subject: str, change: Callable[[], object]) -> tuple[float, float]:
    """Let a person be permitted everywhere, change something; seconds to the last first denial and end."""
    ward.subject = subject
    seen, everywhere = ward.of(subject), len(ward.devices)
    wait_for(lambda: len(seen.permitted) == everywhere, "permits at every device")
    began_s = time.monotonic()
    change()
    wait_for(lambda: len(seen.denied) == everywhere and len(seen.ended) == everywhere, "denials everywhere")
    ward.subject = ""
    return max(seen.denied.values()) - began_s, max(seen.ended.values()) - began_s


def bench(settings: Settings, rounds: int, workers: int, load: int) -> None:
    topics.apply(kafka.admin(settings), settings)
    init_local(settings)
    authority, policies = Authority(settings), PolicyAuthority(settings)
    deployment = Deployment(settings, authority)
    policies.publish("hospital", HOSPITAL, ACTIONS)
    persons = [create_identity("k1") for _ in range(rounds)]
    authority.refresh()
    authority.enroll_many([(who.did, NewKey("k1", who.public_key, "APPROVAL"), NURSE) for who in persons])
    ward = Ward(deployment)
    running = [Worker(settings, "ingest", slot) for slot in range(workers)]
    denials: dict[str, list[float]] = {}
    ends: list[float] = []
    try:
        with (
            under_load(
                deployment, devices=load, batch=lambda d: [d.telemetry() for _ in range(load)],
                pause_s=LOAD_PAUSE_S,
            ),
            ward.at_work(),
        ):  # fmt: skip
            # A registry entry is written upon the last one: nobody else writes any by now.
            authority.refresh()
            for who, what in zip(persons, itertools.cycle(("key", "person", "policy")), strict=False):
                changes: dict[str, Callable[[], object]] = {
                    "key": partial(authority.revoke, who.did, "k1"),
                    "person": partial(authority.decommission, who.did),
                    "policy": partial(policies.publish, "hospital", LOCKED, ACTIONS),
                }
                denied_s, ended_s = one_round(ward, who.did, changes[what])
                denials.setdefault(what, []).append(denied_s)
                ends.append(ended_s)
                if what == "policy":
                    policies.publish("hospital", HOSPITAL, ACTIONS)
    finally:
        for worker in running:
            worker.end()
        authority.close()
        policies.close()
    for what, seconds in denials.items():
        report(f"{what} changed, first denial on all of {workers} workers", seconds)
    report("all changes, first denial", [each for seconds in denials.values() for each in seconds])
    report("all changes, live permits ended", ends)


def report(what: str, seconds: list[float]) -> None:
    """Median, 99th percentile (nearest rank) and the most, of all rounds."""
    ranked = sorted(seconds)
    p99 = ranked[math.ceil(0.99 * len(ranked)) - 1]
    print(
        f"{what}: median {statistics.median(ranked) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, "
        f"most {ranked[-1] * 1000:.0f} ms ({len(ranked)} rounds)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--load", type=int, default=20, help="devices that send as many readings every 50 ms")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="revocation-bench-") as folder,
        running_kafka(Path(folder) / "kafka") as bootstrap,
    ):
        settings = Settings(
            data_dir=Path(folder) / "data",
            bootstrap_servers=bootstrap,
            partitions=PARTITIONS,
            silence_after_s=86400,
        )
        bench(settings, arguments.rounds, arguments.workers, arguments.load)


if __name__ == "__main__":
    main()
