"""The local broker: what it survives, and whom it leaves alone."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from pipeline.local import aot
from pipeline.local.errors import StackBusyError
from pipeline.local.files import choose_ports, free_port, read_json, write_json
from pipeline.local.kafka import Broker, broker_properties, running_kafka, start
from pipeline.local.process import ProcessId, stop

TOPIC = "survivors"


def write(bootstrap_servers: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap_servers, "acks": "all", "log_level": 0})
    for value in values:
        producer.produce(TOPIC, value, partition=0)
    assert producer.flush(30) == 0


def read_all(bootstrap_servers: str, count: int) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "reader", "log_level": 0})
    try:
        consumer.assign([TopicPartition(TOPIC, 0, 0)])
        found: list[bytes] = []
        while len(found) < count:
            messages = consumer.consume(count - len(found), timeout=30)
            assert messages, f"only {len(found)} of {count} records came back"
            found.extend(value for message in messages if isinstance(value := message.value(), bytes))
        return found
    finally:
        consumer.close()


def test_records_survive_kill_9_and_down_and_up(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    before = [b"before %d" % number for number in range(500)]
    after = [b"after %d" % number for number in range(500)]
    with broker.owned():
        broker.prepare()
        process = start(broker)
        address = broker.bootstrap_servers
        admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
        admin.create_topics([NewTopic(TOPIC, 1)])[TOPIC].result(30)
        write(address, before)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process = start(broker)
        assert broker.bootstrap_servers == address
        write(address, after)
        stop(process, 30)
    with running_kafka(tmp_path) as again:
        assert again == address
        assert read_all(again, 1000) == before + after


def test_two_brokers_run_side_by_side(kafka: str, tmp_path: Path) -> None:
    with running_kafka(tmp_path) as other:
        assert other != kafka
        clusters = {
            AdminClient({"bootstrap.servers": address}).list_topics(timeout=30).cluster_id
            for address in (kafka, other)
        }
        assert len(clusters) == 2


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    with (
        Broker(tmp_path).owned(),
        pytest.raises(StackBusyError, match="another process"),
        Broker(tmp_path).owned(),
    ):
        pass


def test_a_broker_left_by_a_crash_is_ended(tmp_path: Path, reap: Callable[[int], ProcessId]) -> None:
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    known = reap(left.pid)
    broker = Broker(tmp_path)
    with broker.owned():
        broker.record(left.pid)
    with Broker(tmp_path).owned():
        assert not known.alive()
    left.wait()


def test_a_stranger_with_the_recorded_pid_is_left_alone(
    tmp_path: Path, reap: Callable[[int], ProcessId]
) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    known = reap(stranger.pid)
    with Broker(tmp_path).owned():
        pass
    write_json(
        tmp_path / "kafka" / "broker.pid.json", {"pid": stranger.pid, "started_s": known.started_s - 3600}
    )
    with Broker(tmp_path).owned():
        assert known.alive()
    stranger.kill()
    stranger.wait()


@pytest.mark.parametrize("content", [b"not json", b"{}", b'{"pid": "x"}', b"[]", b""])
def test_a_damaged_pid_file_is_ignored(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "kafka").mkdir()
    (tmp_path / "kafka" / "broker.pid.json").write_bytes(content)
    with Broker(tmp_path).owned():
        pass


@pytest.mark.parametrize("digest_matches", [False, True], ids=["damaged", "refused by the JVM"])
def test_a_bad_aot_cache_does_not_keep_kafka_from_starting(
    tmp_path: Path, own_cache: Path, *, digest_matches: bool
) -> None:
    cache = aot.path(own_cache)
    cache.parent.mkdir()
    fresh = tmp_path / "fresh.aot"
    fresh.write_bytes(b"not an AOT cache" * 4096)
    aot.publish(fresh, cache)
    if not digest_matches:
        cache.write_bytes(b"bit rot" * 4096)
    with running_kafka(tmp_path, cache_dir=own_cache) as address:
        assert AdminClient({"bootstrap.servers": address}).list_topics(timeout=30).brokers
    if not digest_matches:
        assert not cache.exists()


def test_an_aot_cache_is_trained_and_used(tmp_path: Path, own_cache: Path) -> None:
    command = [sys.executable, "-m", "pipeline.local.aot_train", str(own_cache)]
    subprocess.run(command, check=True, timeout=240)
    cache = aot.usable(own_cache)
    assert cache is not None
    assert sorted(file.suffix for file in cache.parent.iterdir()) == [".aot", ".lock", ".sha256"]
    with running_kafka(tmp_path, cache_dir=own_cache) as address:
        assert AdminClient({"bootstrap.servers": address}).list_topics(timeout=30).brokers
    assert aot.usable(own_cache) == cache


def test_an_aot_cache_that_nothing_uses_goes_after_a_month(tmp_path: Path, own_cache: Path) -> None:
    aot.path(own_cache).parent.mkdir()
    for name in ("used", "unused"):
        fresh = tmp_path / "fresh.aot"
        fresh.write_bytes(name.encode())
        aot.publish(fresh, aot.path(own_cache).with_stem(name))
    now_s = aot.path(own_cache).with_stem("used").stat().st_mtime + aot.UNUSED_AFTER_S
    os.utime(aot.path(own_cache).with_stem("unused"), (0, 0))
    aot.discard_unused(own_cache, now_s)
    assert sorted(file.name for file in aot.path(own_cache).parent.iterdir()) == ["used.aot", "used.sha256"]


def test_a_given_port_is_used(tmp_path: Path) -> None:
    port = free_port()
    with running_kafka(tmp_path, port=port) as address:
        assert address == f"127.0.0.1:{port}"


def test_ports_are_remembered_unless_they_are_taken(tmp_path: Path) -> None:
    import socket

    path = tmp_path / "ports.json"
    first = choose_ports(path, {"broker": None, "controller": None})
    assert choose_ports(path, {"broker": None, "controller": None}) == first
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", first["broker"]))
        squatter.listen()
        second = choose_ports(path, {"broker": None, "controller": None})
    assert second["broker"] != first["broker"]
    assert second["controller"] == first["controller"]
    assert read_json(path) == second


@pytest.mark.parametrize("junk", ["x", -1, 0, 70_000, None, 1.5])
def test_a_senseless_remembered_port_is_replaced(junk: object) -> None:
    assert 0 < free_port(junk) < 65_536


def test_three_brokers_would_share_one_builder(tmp_path: Path) -> None:
    voters = "1@127.0.0.1:1001,2@127.0.0.1:1002,3@127.0.0.1:1003"
    three = [
        broker_properties(
            node_id=node, data_dir=tmp_path / str(node), port=node, controller_port=1000 + node,
            voters=voters, replication=3,
        )
        for node in (1, 2, 3)
    ]  # fmt: skip
    assert {properties["controller.quorum.voters"] for properties in three} == {voters}
    assert {properties["transaction.state.log.min.isr"] for properties in three} == {"2"}
    assert len({properties["listeners"] for properties in three}) == 3
    assert all("127.0.0.1" in properties["listeners"] for properties in three)
