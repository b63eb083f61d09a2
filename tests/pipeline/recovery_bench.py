"""How long a killed worker is missed, and how fast states are restored.

PYTHONPATH=. .venv/bin/python -m tests.pipeline.recovery_bench [--devices 1000000] [--kills 5]

(a) Under load ingest and seal are killed in turn and started again at once (the supervisor waits half a
    second more): from SIGKILL to the next committed batch, and to the next published checkpoint.
(b) A changelog of so many devices as ingest writes it, 64 remembered sequences and detectors each, and a
    worker with an empty RocksDB: from its start until it runs, and the rate of the restore itself.
"""

import argparse
import itertools
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline import kafka, topics
from pipeline.authority import Authority
from pipeline.local.kafka import running_kafka
from pipeline.membership import group_of
from pipeline.settings import Settings
from pipeline.shard import store_of
from pipeline.trust import init_local
from processors.detect import DetectConfig, TelemetryDetectors
from processors.detect.telemetry_state import SignalState
from processors.state import REMEMBERED, DeviceState
from schemas.partition import partition_of
from tests.kit.deployment import Deployment, Device
from tests.kit.load import under_load
from tests.kit.stageprocess import Worker

CHANGELOG = topics.changelog_of(topics.TELEMETRY_RAW)
CODES = (147842, 150456, 151562, 150017, 150018)
RECORDS_A_TRANSACTION = 2000
LOAD_DEVICES, LOAD_BATCH, LOAD_PAUSE_S = 50, 50, 0.05
POLL_S = 0.005
UNDER_WAY_S = 0.3
DEADLINE_S = 300.0


# ---- (a) from kill to the next result ----------------------------------------------------------------------


def some_events(device: Device) -> list[bytes]:
    """So many that the load is about 1,000 events a second, signed no longer beforehand than needed."""
    return [device.telemetry() for _ in range(LOAD_BATCH)]


def committed(admin: AdminClient, settings: Settings) -> int:
    """Source offsets of all partitions that ingest has committed, added up."""
    group = group_of(settings, "ingest")
    answer = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
    return sum(place.offset for place in answer[group].result(20).topic_partitions if place.offset > 0)


def published(settings: Settings) -> list[bytes | None]:
    """The checkpoints of the accepted events."""
    return [store_of(settings, (topics.EVENTS, p)).read_checkpoint() for p in range(settings.partitions)]


def from_kill(worker: Worker, look: Callable[[], object]) -> float:
    """Kill a worker at a random moment of its work; seconds until `look` sees something new."""
    before = look()
    wait_until(lambda: look() != before, f"{worker.stage} works")
    time.sleep(random.uniform(0.5, 1.5))
    worker.process.kill()
    began_s = time.monotonic()
    worker.process.wait()
    worker.start()
    # What was under way at the kill is decided long before a new process can do anything.
    time.sleep(UNDER_WAY_S)
    before = look()
    wait_until(lambda: look() != before, f"{worker.stage} works again")
    return time.monotonic() - began_s


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + DEADLINE_S
    while not is_so():
        if time.monotonic() > until:
            raise SystemExit(f"not within {DEADLINE_S:.0f} s: {what}")
        time.sleep(POLL_S)


def bench_kills(folder: Path, kills: int) -> None:
    with running_kafka(folder / "kafka") as bootstrap:
        settings = Settings(
            data_dir=folder / "data", bootstrap_servers=bootstrap, partitions=4, silence_after_s=86400
        )
        topics.apply(kafka.admin(settings), settings)
        init_local(settings)
        deployment = Deployment(settings, Authority(settings))
        admin = kafka.admin(settings)
        workers = {stage: Worker(settings, stage) for stage in ("ingest", "seal")}
        try:
            with under_load(deployment, devices=LOAD_DEVICES, batch=some_events, pause_s=LOAD_PAUSE_S):
                for stage, what, look in (
                    ("ingest", "committed batch", lambda: committed(admin, settings)),
                    ("seal", "published checkpoint", lambda: published(settings)),
                ):
                    seconds = [from_kill(workers[stage], look) for _ in range(kills)]
                    shown = ", ".join(f"{each:.2f}" for each in sorted(seconds))
                    print(
                        f"{stage}: from SIGKILL to the next {what}: median {statistics.median(seconds):.2f} "
                        f"s, most {max(seconds):.2f} s ({shown})",
                        flush=True,
                    )
        finally:
            for worker in workers.values():
                worker.end()
            deployment.authority.close()


# ---- (b) restoring many states -----------------------------------------------------------------------------


def state_values(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Device ids and states as ingest keeps them after long work: all 64 sequences, five signals."""
    detectors = TelemetryDetectors(DetectConfig.default())
    warm = detectors.new()
    for code in CODES:
        warm.signals[code] = SignalState(code)
    dumped = detectors.dump(warm)
    chance = random.Random(1)
    for number in range(count):
        state = DeviceState(None, 1, 1000 + number, 1_700_000_000_000 + number)
        state.remembered._packed[:] = chance.randbytes(REMEMBERED * 32)
        yield f"did:key:z6Mk{number:044d}".encode(), state.encode(dumped)


def write_changelog(settings: Settings, count: int) -> int:
    """Write the states as ingest does, in transactions; returns the bytes."""
    producer = kafka.producer(
        settings, **{"transactional.id": "bench", "queue.buffering.max.kbytes": 200_000, "linger.ms": 50}
    )
    producer.init_transactions(30)
    size = 0
    states = state_values(count)
    while batch := list(itertools.islice(states, RECORDS_A_TRANSACTION)):
        producer.begin_transaction()
        for key, value in batch:
            producer.produce(CHANGELOG, value, key, partition_of(key, settings.partitions))
            size += len(key) + len(value)
        producer.commit_transaction(60)
    return size


def commit_beginnings(settings: Settings) -> None:
    """What a group has that has worked before: a committed offset for each raw partition."""
    group = kafka.consumer(settings, group_of(settings, "ingest"))
    places = [TopicPartition(topic, p, 0) for topic in topics.RAW_TOPICS for p in range(settings.partitions)]
    group.commit(offsets=places, asynchronous=False)
    group.close()


def restore(settings: Settings) -> tuple[float, str]:
    """Start a worker with an empty RocksDB; seconds until it runs, and its own line about the restore."""
    health = settings.data_dir / "run" / "ingest.health.json"
    began_s, shown = time.monotonic(), ""
    worker = Worker(settings, "ingest")
    try:
        while True:
            time.sleep(0.25)
            found = json.loads(health.read_text()) if health.exists() else {"state": "", "detail": ""}
            seconds = time.monotonic() - began_s
            if found["state"] == "running":
                break
            if worker.process.poll() is not None or seconds > 2 * DEADLINE_S:
                raise SystemExit(f"the worker does not come to run:\n{worker.log.read_text()[-2000:]}")
            if found["detail"] != shown and round(seconds / 0.25) % 12 == 0:
                shown = found["detail"]
                rss_mib = int(Path(f"/proc/{worker.process.pid}/statm").read_text().split()[1]) * 4 // 1024
                print(f"  {seconds:5.1f} s  {shown}  [{rss_mib} MiB]", flush=True)
    finally:
        worker.end()
    lines = [json.loads(line) for line in worker.log.read_text().splitlines() if line.startswith("{")]
    done = next(line for line in lines if line["event"] == "state restored")
    rate = done["states"] / done["seconds"]
    return seconds, f"{done['states']:,} states in {done['seconds']:.1f} s, {rate:,.0f} a second"


def bench_restore(folder: Path, devices: int) -> None:
    with running_kafka(folder / "kafka") as bootstrap:
        settings = Settings(data_dir=folder / "data", bootstrap_servers=bootstrap, silence_after_s=86400)
        topics.apply(kafka.admin(settings), settings)
        init_local(settings)
        began_s = time.monotonic()
        size = write_changelog(settings, devices)
        commit_beginnings(settings)
        wrote_s = time.monotonic() - began_s
        print(f"wrote {devices:,} states, {size / devices:,.0f} bytes each, in {wrote_s:.0f} s", flush=True)
        seconds, line = restore(settings)
        print(f"restored {line}; from the start of the process until it runs {seconds:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--devices", type=int, default=1_000_000, help="0 leaves (b) out")
    parser.add_argument("--kills", type=int, default=5, help="0 leaves (a) out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recovery-bench-") as folder:
        if arguments.kills:
            bench_kills(Path(folder) / "kills", arguments.kills)
        if arguments.devices:
            bench_restore(Path(folder) / "restore", arguments.devices)


if __name__ == "__main__":
    main()
