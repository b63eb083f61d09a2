"""The monitor itself: killed, robbed of its memory, a stranger behind a web server, fed with any bytes."""

import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline import topics
from pipeline.acceptshard import accept
from pipeline.sqlitefile import DatabaseBusyError, DatabaseError
from pipeline.stage import state_dir
from pipeline.topics import CHECKPOINTS, EVENTS, FINDINGS, REJECTED
from pipeline.trust import trust_path
from pipeline.watch.book import FindingBook
from pipeline.watch.memory import Memory
from processors.integrity.findings import checkpoint_invalid
from processors.merkle.tree import TreeBuilder
from tests.kit.cheating import Cheater, cheater, detail_of
from tests.kit.deployment import read_topic, wait_for

pytestmark = pytest.mark.timeout(180)

BASE = 300
SHARDS = [(topic, number) for topic in (EVENTS, REJECTED, FINDINGS) for number in range(4)]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cheater]:
    with cheater(tmp_path_factory.mktemp("monitor"), anchor_interval_s=60.0) as made:
        for place in SHARDS:
            made.fill(place, BASE)
        with made.sealing():
            for place in SHARDS:
                made.wait_sealed(place, BASE)
        yield made


@contextmanager
def process(log: Cheater) -> Iterator["subprocess.Popen[bytes]"]:
    """A monitor as a process; it is ended with the block."""
    settings = log.settings
    argv = [sys.executable, "-m", "pipeline.cli.main", "run", "monitor"]
    argv += ["--data-dir", str(settings.data_dir), "--bootstrap-servers", settings.bootstrap_servers]
    environment = {
        **os.environ,
        "ATTESTREAM_LOG_NAME": settings.log_name,
        "ATTESTREAM_ANCHOR_INTERVAL_S": "60",
    }
    with (settings.data_dir / "monitor.log").open("ab") as out:
        child = subprocess.Popen(argv, env=environment, stdout=out, stderr=out)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait(20)


TILES = frozenset({"tile_rewritten"})
"""A fork that is put in place of the log rewrites its tiles too, and either may be seen first."""


def random_fork(log: Cheater, place: tuple[str, int]) -> None:
    log.publish(place, TreeBuilder(), [os.urandom(40) for _ in range(BASE)])


def test_killed_over_and_over_it_tells_a_finding_once(log: Cheater) -> None:
    place = (EVENTS, 0)
    with process(log) as child:
        wait_for(
            lambda: state_dir(log.settings, "monitor", 0).joinpath("monitor.sqlite").exists(), "it starts"
        )
        wait_for(lambda: f"{BASE * len(SHARDS)} leaves hold" in health(log), "all is compared")
        child.kill()
    random_fork(log, place)
    for _ in range(2):
        with process(log) as child:
            wait_for(lambda: "FINDINGS OPEN" in health(log), "the fork is seen")
            child.kill()
    with process(log) as child:
        wait_for(lambda: f'"pid": {child.pid}' in health(log) and "running" in health(log), "it runs")
        wait_for(lambda: log.open_findings(log.origin(place)), "the fork is told")
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0
    records = [r.value for r in read_topic(log.settings, topics.INTEGRITY)]
    assert len(set(records)) == 1, "however often it was sent, it is one record"
    memory = Memory(state_dir(log.settings, "monitor", 0) / "monitor.sqlite")
    ((origin, first, second),) = memory.proofs()
    memory.close()
    assert origin == log.origin(place)
    assert first != second


def health(log: Cheater) -> str:
    path = log.settings.data_dir / "run" / "monitor.health.json"
    return path.read_text() if path.exists() else ""


def test_bytes_of_any_kind_cost_it_one_log(log: Cheater) -> None:
    """Garbage where a checkpoint, a tile, a description or a note should be; the rest is followed on."""
    log.write((EVENTS, 1), "checkpoint", os.urandom(500))
    log.write((EVENTS, 2), "checkpoint", log.sign((EVENTS, 2), 2**63 - 1, bytes(32)))
    log.write((EVENTS, 2), "shard.json", b"[" * 100_000)
    log.write((EVENTS, 3), f"tile/entries/001.p/{BASE - 256}", b"")
    log.write((REJECTED, 0), "tile/0/000", os.urandom(100_000))
    log.write((CHECKPOINTS, 0), "checkpoint.cosigned", b"\xff" * 1000)
    before = log.tree((CHECKPOINTS, 0)).builder() if log.checkpoint((CHECKPOINTS, 0)) else TreeBuilder()
    notes = [b"\xff\xfe", f"{log.settings.log_name}/shards\nx\n".encode(), b"", b"\n\n\n"]
    for note in notes:
        log.deployment.publish(CHECKPOINTS, b"x", note, 0)
    log.publish((CHECKPOINTS, 0), before, notes)
    with log.monitoring() as beaten:
        expected = {
            log.origin((EVENTS, 1)): "checkpoint_invalid",
            log.origin((EVENTS, 2)): "log_truncated",
            log.origin((EVENTS, 3)): "entry_rewritten",
            log.origin((REJECTED, 0)): "tile_rewritten",
        }

        def told() -> bool:
            found = {f["device_id"]: f["rule"] for f in log.open_findings()}
            return found.items() >= expected.items()

        wait_for(told, "each log's own finding", 30)
        log.fill((REJECTED, 1), 5)
        with log.sealing():
            log.wait_sealed((REJECTED, 1), BASE + 5)
        wait_for(lambda: "cannot" not in detail_of(beaten).lower(), "nothing else keeps it")
        log.expect("fork", log.origin((REJECTED, 2)), lambda: random_fork(log, (REJECTED, 2)), also=TILES)


def test_a_stranger_behind_a_web_server(log: Cheater, tmp_path: Path) -> None:
    """All that it has of ours is the trust file and an address."""
    (tmp_path / "data").mkdir()
    shutil.copy(trust_path(log.settings), tmp_path / "data" / "trust.json")
    place = (FINDINGS, 0)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(log.settings.data_dir / "log"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        with log.monitoring(data_dir=tmp_path / "data", monitor_log=address) as beaten:
            wait_for(lambda: "leaves hold" in detail_of(beaten), "it follows")
            wait_for(lambda: " 0 leaves hold" not in detail_of(beaten), "it has compared")
            log.expect("fork", log.origin(place), lambda: random_fork(log, place), also=TILES)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_an_accepted_shard_is_reported_and_no_fork(log: Cheater) -> None:
    place = (FINDINGS, 1)
    with log.monitoring(anchor_interval_s=1.0) as beaten:
        wait_for(lambda: "leaves hold" in detail_of(beaten), "it follows")
        about = log.store(place).root / "shard.json"
        about.rename(about.with_name("kept"))
        accept(log.settings, place)
        with log.sealing():
            log.wait_sealed(place, BASE)
        wait_for(lambda: log.open_findings(log.origin(place)), "the successor is reported", 12)
        with log.sealing():
            log.fill(place, 3)
            log.wait_sealed(place, BASE + 3)
        assert {f["rule"] for f in log.open_findings(log.origin(place))} == {"shard_replaced"}


# ---- the memory --------------------------------------------------------------------------------------------


def test_a_damaged_memory_is_put_aside_and_a_busy_one_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "monitor.sqlite"
    path.write_bytes(b"not a database" * 1000)
    memory = Memory(path)
    assert memory.was_lost
    assert len(list(tmp_path.glob("*.damaged-*"))) == 1
    with pytest.raises(DatabaseBusyError):
        Memory(path)
    memory.close()
    again = Memory(path)
    assert not again.was_lost
    again.close()
    with pytest.raises(DatabaseError):
        Memory(tmp_path / "no folder" / "monitor.sqlite")


def test_a_finding_is_opened_once_and_cleared_once(log: Cheater, tmp_path: Path) -> None:
    def numbers() -> list[int]:
        return [number for number, _origin, _value in memory.outbox()]

    finding = checkpoint_invalid("somewhere", "because", time_us=1)
    memory = Memory(tmp_path / "monitor.sqlite")
    book = FindingBook(log.settings, memory)
    with memory.round():
        book.open(finding)
        book.open(finding)
    assert len(numbers()) == 1
    again = FindingBook(log.settings, memory)
    assert again.open_count == 1
    assert again.is_open("checkpoint_invalid", "somewhere")
    with memory.round():
        again.open(finding)
        again.clear("checkpoint_invalid", "elsewhere", 2, "checkpoint")
        again.clear("checkpoint_invalid", "somewhere", 2, "other")
    assert len(numbers()) == 1
    with memory.round():
        again.clear("checkpoint_invalid", "somewhere", 2, "checkpoint")
        again.clear("checkpoint_invalid", "somewhere", 2, "checkpoint")
    assert len(numbers()) == 2
    with memory.round():
        again.open(finding)
    assert (len(numbers()), again.open_count) == (3, 1)

    def taken() -> bool:
        again.send()
        return not numbers()

    wait_for(taken, "Kafka takes them")
    memory.close()
