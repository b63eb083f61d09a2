"""What a sealer refuses when it takes up a shard: each rule broken on a real broker, and the way out.

The shard stops loudly and alone, the published log stays byte for byte, and nothing is ever signed again
until an operator has closed it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from typer.testing import CliRunner

from pipeline import kafka, topics
from pipeline.acceptshard import accept, why_stopped
from pipeline.cli.main import build
from pipeline.lookup import read_record
from pipeline.sealstore import SealStore
from pipeline.settings import UsageError
from pipeline.shard import Shard, origin_of
from pipeline.tilestore import CheckpointConflictError, sync_stores
from pipeline.topics import CHECKPOINTS, DECISIONS, EVENTS, FINDINGS, REJECTED
from pipeline.trust import log_signers
from tests.kit.cheating import Cheater, Place, cheater, detail_of
from tests.kit.deployment import read_topic, wait_for
from tests.pipeline.test_seal import checkpoint_of

pytestmark = pytest.mark.timeout(180)

BASE = 300


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cheater]:
    with cheater(tmp_path_factory.mktemp("rules"), anchor_interval_s=1.0) as made:
        yield made


def filled(log: Cheater, *places: Place) -> None:
    for place in places:
        log.fill(place, BASE)
    with log.sealing():
        for place in places:
            log.wait_sealed(place, BASE)


def published(log: Cheater, place: Place) -> dict[str, bytes]:
    root = log.store(place).root
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def trim(log: Cheater, place: Place, kept_from: int) -> None:
    """Take records from the beginning of a partition, as retention does."""
    client = kafka.admin(log.settings)
    for future in client.delete_records([TopicPartition(*place, kept_from)]).values():
        future.result(20)


def expect_stop(log: Cheater, place: Place, why: str, others: Place) -> None:
    """Start a sealer: this shard stops for this reason, another goes on, and nothing published changes."""
    before = published(log, place)
    size = checkpoint_of(log.deployment, *others)
    with log.sealing() as health:
        wait_for(lambda: "STOPPED" in detail_of(health), "the shard stops")
        log.fill(place, 2)
        log.fill(others, 2)
        log.wait_sealed(others, (size.size if size else 0) + 2)
    assert published(log, place) == before
    reason = why_stopped(log.settings, place)
    assert reason is not None
    assert why in reason


def accepted(log: Cheater, place: Place) -> Path:
    """Close the shard by the command, and see its successor sealed from what the topic holds."""
    old = published(log, place)
    told = CliRunner().invoke(
        build("log"),
        ["log", "accept-shard", place[0], str(place[1]), "--yes", "--data-dir", str(log.settings.data_dir),
         "--bootstrap-servers", log.settings.bootstrap_servers],
        env={"ATTESTREAM_LOG_NAME": log.settings.log_name},
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    (closed,) = (log.settings.data_dir / "log" / "closed" / place[0] / str(place[1])).iterdir()
    assert str(closed) in told.output
    assert {p.relative_to(closed).as_posix(): p.read_bytes() for p in closed.rglob("*") if p.is_file()} == old
    kept = [r for r in read_topic(log.settings, place[0]) if r.partition == place[1]]
    with log.sealing():
        log.wait_sealed(place, len(kept))
        found = checkpoint_of(log.deployment, *place)
        assert found is not None
        assert found.size == len(kept)
    assert why_stopped(log.settings, place) is None
    return closed


def test_a_last_record_that_is_another(log: Cheater) -> None:
    place = (EVENTS, 0)
    filled(log, place, (EVENTS, 1))
    last = read_record(log.settings, place, BASE - 1)
    assert last is not None
    value = last.value or b""
    log.rewrite_record(place, value, bytes([value[0] ^ 1]) + value[1:])
    expect_stop(log, place, f"the record at {BASE - 1} is not the one that was sealed", (EVENTS, 1))
    accepted(log, place)
    about = json.loads(log.store(place).read("shard.json") or b"")
    assert about["generation"] == 1
    assert about["predecessor"] == about["topic_id"]


def test_records_that_were_never_sealed_and_are_gone(log: Cheater) -> None:
    place = (EVENTS, 2)
    filled(log, place)
    log.fill(place, 50)
    trim(log, place, BASE + 20)
    why = f"records {BASE} to {BASE + 19} are gone and were never sealed"
    expect_stop(log, place, why, (EVENTS, 1))
    accepted(log, place)
    assert json.loads(log.store(place).read("shard.json") or b"")["from_offset"] == BASE + 20


def test_sealed_records_that_retention_takes_are_no_matter(log: Cheater) -> None:
    place = (EVENTS, 3)
    filled(log, place)
    trim(log, place, BASE)
    log.fill(place, 5)
    with log.sealing():
        log.wait_sealed(place, BASE + 5)
    assert why_stopped(log.settings, place) is None


def test_a_topic_made_anew(log: Cheater) -> None:
    place, other = (DECISIONS, 0), (REJECTED, 0)
    filled(log, place, other)
    client = kafka.admin(log.settings)
    for future in client.delete_topics([place[0]], operation_timeout=20).values():
        future.result(30)
    wait_for(lambda: place[0] not in client.list_topics(timeout=20).topics, "the topic is gone")
    wait_for(lambda: place[0] in topics.apply(client, log.settings), "the topic is made anew")
    log.fill(place, BASE)
    expect_stop(log, place, "the topic was recreated", other)
    accepted(log, place)


def test_a_topic_cut_off_at_its_end(log: Cheater) -> None:
    place, other = (REJECTED, 1), (REJECTED, 0)
    filled(log, place, other)
    log.running.kill()
    log.running.wait(20)
    log.cut_off_last_batch(place)
    log.start_broker()
    end = kafka.end_offsets(kafka.admin(log.settings), [place])[place]
    assert end < BASE
    expect_stop(log, place, f"the tree has sealed up to {BASE}", other)


def test_a_shard_without_its_description(log: Cheater) -> None:
    place, other = (REJECTED, 2), (REJECTED, 0)
    filled(log, place)
    (log.store(place).root / "shard.json").unlink()
    expect_stop(log, place, "shard.json is missing", other)


def test_a_checkpoint_under_another_key(log: Cheater) -> None:
    place, other = (REJECTED, 3), (REJECTED, 0)
    filled(log, place)
    note = (log.store(place).read_checkpoint() or b"").replace(b"\xe2\x80\x94 ", b"\xe2\x80\x94 other.")
    log.write(place, "checkpoint", note)
    expect_stop(log, place, "no trusted key has signed", other)


def test_a_zombie_sealer_takes_nothing_back(log: Cheater, tmp_path: Path) -> None:
    """A sealer stalls with leaves and partial tiles in hand, another goes on, and the first wakes up."""
    place = (FINDINGS, 0)
    filled(log, place)
    admin = kafka.admin(log.settings)
    stores = [SealStore(tmp_path / name) for name in ("zombie", "successor")]
    signer = log_signers(log.settings)(origin_of(log.settings.log_name, place))
    zombie, successor = (
        Shard(log.settings, place, store, signer, kafka.topic_id(admin, place[0])) for store in stores
    )
    zombie.open(log.settings, admin)
    log.fill(place, 3)
    records = [r for r in read_topic(log.settings, place[0]) if r.partition == place[1]][BASE:]
    zombie.append(records[:2])
    successor.open(log.settings, admin)
    successor.append(records)
    successor.stage()
    sync_stores([successor.published])
    successor.sign()
    before = published(log, place)

    zombie.stage()  # its draft of two leaves more: no checkpoint covers it, and none ever will
    sync_stores([zombie.published])
    with pytest.raises(CheckpointConflictError):
        zombie.sign()

    after = published(log, place)
    assert {path: after[path] for path in before} == before
    tree = log.tree(place)
    assert tree.size == BASE + 3
    assert all(tree.bundle(index) for index in (0, 1))
    for store in stores:
        store.close()


def wait_at_rest(log: Cheater, place: Place) -> None:
    """Wait until a shard has not been published for a few intervals."""
    seen, since_s = log.checkpoint(place), time.monotonic()

    def is_at_rest() -> bool:
        nonlocal seen, since_s
        now = log.checkpoint(place)
        if now != seen:
            seen, since_s = now, time.monotonic()
        return time.monotonic() - since_s > 4 * log.settings.anchor_interval_s

    wait_for(is_at_rest, f"{place} is at rest")


def test_a_stopped_process_that_goes_on_takes_nothing_back(log: Cheater) -> None:
    """The same with processes: SIGSTOP, a second sealer in the first one's place, SIGCONT."""
    place = (FINDINGS, 1)
    filled(log, place)
    with sealer(log) as first:
        log.fill(place, 5)
        log.wait_sealed(place, BASE + 5)
        # With nothing of the epoch log in hand: that it may still publish when it goes on, rightly, and the
        # second would leave.
        wait_at_rest(log, (CHECKPOINTS, 0))
        first.send_signal(signal.SIGSTOP)
        shutil.copytree(log.settings.data_dir / "state" / "seal" / "0", log.settings.data_dir / "state" / "x")
        shutil.rmtree(log.settings.data_dir / "state" / "seal" / "0")
        log.fill(place, 5)
        with log.sealing():  # the same slot: it takes the stopped one's place at once
            log.wait_sealed(place, BASE + 10)
            first.send_signal(signal.SIGCONT)
            assert first.wait(30) != 0, "the fenced one ends, and says so by its exit code"
            log.fill(place, 5)
            log.wait_sealed(place, BASE + 15)
    tree = log.tree(place)
    assert tree.size == BASE + 15
    assert tree.bundle(1)


def test_nothing_to_accept(log: Cheater) -> None:
    with pytest.raises(UsageError, match="nothing to accept"):
        accept(log.settings, (REJECTED, 0))
    with pytest.raises(UsageError, match="epoch log"):
        accept(log.settings, (CHECKPOINTS, 0))
    with pytest.raises(UsageError, match="not a sealed topic"):
        accept(log.settings, (topics.ANCHORS, 0))
    with pytest.raises(UsageError, match="no partition"):
        accept(log.settings, (REJECTED, 99))


@contextmanager
def sealer(log: Cheater) -> Iterator["subprocess.Popen[bytes]"]:
    """A sealer as a process; it is ended with the block."""
    settings = log.settings
    argv = [sys.executable, "-m", "pipeline.cli.main", "run", "seal"]
    argv += ["--data-dir", str(settings.data_dir), "--bootstrap-servers", settings.bootstrap_servers]
    environment = {
        **os.environ,
        "ATTESTREAM_LOG_NAME": settings.log_name,
        "ATTESTREAM_PARTITIONS": str(settings.partitions),
        "ATTESTREAM_CHECKPOINT_INTERVAL_S": "0.2",
    }
    with (settings.data_dir / "seal.log").open("ab") as out:
        process = subprocess.Popen(argv, env=environment, stdout=out, stderr=out)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(20)
