"""Trains the broker's AOT cache: a throwaway broker of its own, at the lowest priority.

Run as `python -m pipeline.local.aot_train CACHE_DIR`. Two JVMs one after the other (record what a
broker loads, then write the cache), both tied to this process; whatever happens, the stack itself
has nothing to do with them and loses only speed.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipeline.local import aot, jars, jvm
from pipeline.local.errors import BrokerFailedError
from pipeline.local.kafka import Broker, start
from pipeline.local.leash import hold_leash
from pipeline.local.process import spawn, stop, tail

RECORD_GRACE_S = 120.0
CREATE_DEADLINE_S = 300.0
READ_DEADLINE_S = 30.0


def train(cache_dir: Path) -> bool:
    """Make the cache unless it is there or being made; False when another process is at it.

    Raises BrokerFailedError when the JVM cannot do it.
    """
    cache = aot.path(cache_dir)
    try:
        with jars.locked(cache.with_suffix(".lock"), wait=False):
            if aot.usable(cache_dir) is None:
                for leftover in cache.parent.glob("train-*"):
                    shutil.rmtree(leftover, ignore_errors=True)
                aot.discard_unused(cache_dir, time.time())
                with tempfile.TemporaryDirectory(prefix="train-", dir=cache.parent) as scratch:
                    aot.publish(_create(cache_dir, Path(scratch), _record(cache_dir, Path(scratch))), cache)
            return True
    except BlockingIOError:
        return False


def _record(cache_dir: Path, scratch: Path) -> Path:
    """Run a broker through a day's work and keep the list of what it loaded."""
    configuration = scratch / "kafka.aotconf"
    broker = Broker(scratch, cache_dir=cache_dir)
    broker.extra_options = ["-XX:AOTMode=record", f"-XX:AOTConfiguration={configuration}"]
    with broker.owned():
        broker.prepare()
        process = start(broker)
        grace_s = 0.0  # interrupted, there is nothing to wait for
        try:
            _exercise(broker.bootstrap_servers)
            grace_s = RECORD_GRACE_S
        finally:
            stop(process, grace_s)
    return _made(configuration, broker.log_path)


def _create(cache_dir: Path, scratch: Path, configuration: Path) -> Path:
    fresh, log_path = scratch / "kafka.aot", scratch / "create.log"
    options = ["-XX:AOTMode=create", f"-XX:AOTConfiguration={configuration}", f"-XX:AOTCache={fresh}"]
    process = spawn(jvm.command(cache_dir, "kafka.Kafka", [], options), log_path)
    try:
        process.wait(CREATE_DEADLINE_S)
    except subprocess.TimeoutExpired:
        stop(process, 0)
    return _made(fresh, log_path)


def _made(file: Path, log_path: Path) -> Path:
    if not file.exists():
        raise BrokerFailedError(f"the JVM did not write {file.name}; the end of its log:\n{tail(log_path)}")
    return file


def _exercise(bootstrap_servers: str) -> None:
    """One transaction written and read: the code that every client of ours makes a broker load."""
    from confluent_kafka import Consumer, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic

    address: dict[str, str | int | float | bool] = {"bootstrap.servers": bootstrap_servers}
    admin = AdminClient(address)
    admin.create_topics([NewTopic("training", num_partitions=8)])["training"].result()
    producer = Producer({**address, "transactional.id": "training"})
    producer.init_transactions()
    producer.begin_transaction()
    for number in range(1000):
        producer.produce("training", b"value %d" % number, key=b"key %d" % number)
    producer.flush()
    consumer = Consumer({**address, "group.id": "training", "auto.offset.reset": "earliest"})
    consumer.subscribe(["training"])
    offsets = [TopicPartition("training", 0, 1)]
    producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
    producer.commit_transaction()
    deadline_s = time.monotonic() + READ_DEADLINE_S
    while not consumer.consume(100, timeout=1.0) and time.monotonic() < deadline_s:
        pass
    consumer.close()


def main() -> None:
    """Entry point of `python -m pipeline.local.aot_train`."""
    signal.signal(signal.SIGTERM, lambda _signum, _frame: sys.exit(1))  # unwinds: no scratch is left
    hold_leash(lambda: os.kill(os.getpid(), signal.SIGTERM))
    train(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
