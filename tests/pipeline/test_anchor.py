"""Anchor on a real Kafka and a durable ledger: killed, cut off, robbed of its database, lied to."""

import base64
import json
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anchors.hedera.keys import create_operator_key
from pipeline import topics
from pipeline.anchorstore import AnchorStore
from pipeline.ledgers import ledger_access
from pipeline.settings import Settings, UsageError
from pipeline.shard import store_of
from pipeline.trust import load_trust, trust_path
from processors.merkle.tree import TreeBuilder
from schemas.checkpoint import log_key, open_checkpoint
from tests.faults.machine.ledgerproxy import mirror_in_front
from tests.kit.deployment import Deployment, wait_for
from tests.pipeline.anchor_bench import Bench, count_sizes

pytestmark = pytest.mark.timeout(120)

STORE = ("pipeline.anchorstore", "AnchorStore")
CLIENT = ("anchors.hedera.client", "HederaLedger")


@pytest.fixture
def bench(deployment: Deployment, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(deployment, tmp_path)
    made.ledger_up()
    yield made
    made.ledger_down()


def test_a_process_anchors_a_growing_log(bench: Bench) -> None:
    first = bench.grow(3)
    with bench.process() as child:
        bench.wait_confirmed(first)
        second = bench.grow(300)
        bench.wait_confirmed(second)
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0
    bench.check(first, second)
    assert [(s["tree_size"], s["sequence"]) for s in bench.records("CONFIRMED")] == [(first, 1), (second, 2)]
    assert [s["tree_size"] for s in bench.records("SUBMITTED")] == [first, second]
    said, submitted = bench.records("CONFIRMED")[-1], bench.records("SUBMITTED")[-1]
    trust = load_trust(trust_path(bench.settings))
    opened = open_checkpoint(said["checkpoint"], log_key(trust.log_name, trust.log_key)).checkpoint
    assert (opened.size, opened.root) == (said["tree_size"], said["root"])
    assert (trust.ledger.kind, trust.ledger.topic, trust.ledger.payer) == (
        said["ledger"],
        said["ledger_topic"],
        said["payer"],
    )
    assert said["transaction_id"] == submitted["transaction_id"] != ""
    assert submitted["sequence"] is submitted["running_hash"] is submitted["mirror"] is None


@pytest.mark.parametrize(
    "moment",
    [
        ("pipeline.ledgers", "LedgerAccess", "create_topic", "after"),
        (*STORE, "use_topic", "after"),
        (*CLIENT, "prepare", "after"),
        (*STORE, "put_in_flight", "after"),
        (*CLIENT, "submit", "after"),
        (*STORE, "submitted", "after"),
        (*STORE, "confirmed", "before"),
        (*STORE, "confirmed", "after"),
        (*STORE, "acknowledged", "before"),
    ],
    ids=lambda moment: f"{moment[3]}-{moment[2]}",
)
def test_killed_at_this_moment_a_size_is_anchored_once(bench: Bench, moment: tuple[str, ...]) -> None:
    size = bench.grow(5)
    bench.die_at(*moment)
    assert len(bench.confirmed_sizes()) <= len(bench.messages()) <= 1
    with bench.anchoring():
        bench.wait_confirmed(size)
        later = bench.grow(1)
        bench.wait_confirmed(later)
    bench.check(size, later)
    assert {s["tree_size"] for s in bench.records("SUBMITTED")} == {size, later}
    with_store = AnchorStore(bench.state / "anchor.sqlite")
    assert (with_store.outbox(), with_store.in_flight()) == ([], None)
    with_store.close()


def test_a_ledger_that_was_down_gets_the_newest_root(bench: Bench) -> None:
    first = bench.grow(2)
    with bench.anchoring():
        bench.wait_confirmed(first)
        bench.ledger_down()
        missed = bench.grow(2)
        wait_for(lambda: "NOT ANCHORING since" in bench.detail(), "the outage is told")
        newest = bench.grow(2)
        bench.ledger_up()
        bench.wait_confirmed(newest)
        wait_for(lambda: f"size {newest} is anchored" in bench.detail(), "all is well again")
    assert [a.root.tree_size for a in bench.anchors()] in ([first, newest], [first, missed, newest])
    bench.check_claims()


def test_an_outage_of_kafka_delays_the_claims_alone(bench: Bench) -> None:
    first = bench.grow(2)
    cut_off = bench.settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    with bench.anchoring(settings=cut_off):
        wait_for(lambda: f"size {first} is anchored" in bench.detail(), "anchored without Kafka")
        second = bench.grow(2)
        wait_for(lambda: f"size {second} is anchored" in bench.detail(), "anchored without Kafka")
    assert bench.confirmed_sizes() == set()
    with bench.anchoring():
        bench.wait_confirmed(second)
    bench.check(first, second)
    assert bench.confirmed_sizes() == {first, second}


def test_bytes_that_expired_in_an_outage_give_way_to_the_newest_root(bench: Bench) -> None:
    first = bench.grow(2)
    with bench.anchoring():
        bench.wait_confirmed(first)
    bench.grow(2)
    short = {"valid_duration_s": 2, "clock_margin_s": 0.0}
    with bench.anchoring(bench.access(nodes={"127.0.0.1:1": "0.0.3"}, **short)):
        wait_for(lambda: "no node takes the anchor" in bench.detail(), "the dead node is told")
    newest = bench.grow(2)
    store = AnchorStore(bench.state / "anchor.sqlite")
    flight = store.in_flight()
    store.close()
    assert flight is not None
    wait_for(lambda: time.time_ns() > flight.prepared.valid_until_ns, "the bytes have expired")
    with bench.anchoring():
        bench.wait_confirmed(newest)
    bench.check(first, newest)


def test_a_lost_database_is_filled_from_the_ledger(bench: Bench) -> None:
    first = bench.grow(4)
    with bench.anchoring():
        bench.wait_confirmed(first)
    shutil.rmtree(bench.state)
    with bench.anchoring():
        wait_for(lambda: f"size {first} is anchored" in bench.detail(), "caught up")
        second = bench.grow(4)
        bench.wait_confirmed(second)
    bench.check(first, second)
    assert [s["tree_size"] for s in bench.records("CONFIRMED")] == [first, second]


@pytest.mark.parametrize("grown", [False, True])
def test_a_database_lost_before_the_claim_loses_no_anchor(bench: Bench, grown: bool) -> None:
    size = bench.grow(4)
    bench.die_at(*STORE, "confirmed", "before")
    shutil.rmtree(bench.state)
    sizes = [size, bench.grow(1)] if grown else [size]
    with bench.anchoring():
        bench.wait_confirmed(sizes[-1])
    bench.check(*sizes)


def test_a_damaged_database_is_put_aside(bench: Bench) -> None:
    first = bench.grow(4)
    with bench.anchoring():
        bench.wait_confirmed(first)
    database = bench.state / "anchor.sqlite"
    database.write_bytes(b"not a database at all" * 1000)
    with bench.anchoring():
        second = bench.grow(1)
        bench.wait_confirmed(second)
    bench.check(first, second)
    assert len(list(bench.state.glob("*.damaged-*"))) == 1


def _forged_hash(row: dict[str, Any]) -> None:
    row["running_hash"] = base64.b64encode(bytes(48)).decode()


def _forged_time(row: dict[str, Any]) -> None:
    stamp = row["consensus_timestamp"]
    row["consensus_timestamp"] = stamp[:-1] + ("5" if stamp.endswith("7") else "7")


@pytest.mark.parametrize("lie", [_forged_hash, _forged_time, None], ids=["hash", "time", "withheld"])
def test_nothing_is_claimed_while_the_mirror_lies(bench: Bench, lie: Any) -> None:
    lying = True

    def alter(path: str, answer: Any) -> Any:
        if lying and "/messages" in path:
            if lie is None:
                answer["messages"] = []
            for row in answer["messages"]:
                lie(row)
        return answer

    expected = "waiting for the mirror" if lie is None else "does not recompute"
    size = bench.grow(3)
    with mirror_in_front(bench.access().mirror, alter) as url, bench.anchoring(bench.access(mirror_url=url)):
        wait_for(lambda: bench.records("SUBMITTED"), "submitted")
        wait_for(lambda: expected in bench.detail(), "the lie is seen")
        bench.grow(2)
        wait_for(lambda: expected in bench.detail(), "the lie is seen still")
        assert len(bench.messages()) == 1
        assert bench.records("CONFIRMED") == []
        lying = False
        bench.wait_confirmed(size)
    bench.check_claims()


def test_no_root_is_anchored_on_a_history_that_does_not_recompute(bench: Bench) -> None:
    first = bench.grow(3)
    with bench.anchoring():
        bench.wait_confirmed(first)
    shutil.rmtree(bench.state)
    second = bench.grow(3)

    def alter(path: str, answer: Any) -> Any:
        for row in answer.get("messages", []):
            _forged_hash(row)
        return answer

    with mirror_in_front(bench.access().mirror, alter) as url, bench.anchoring(bench.access(mirror_url=url)):
        wait_for(lambda: "does not recompute" in bench.detail(), "the lie is seen")
    assert len(bench.messages()) == 1
    with bench.anchoring():
        bench.wait_confirmed(second)
    bench.check(first, second)


def test_a_forked_log_is_not_anchored(bench: Bench) -> None:
    first = bench.grow(3)
    with bench.anchoring():
        bench.wait_confirmed(first)
    shutil.rmtree(store_of(bench.settings, (topics.CHECKPOINTS, 0)).root)
    bench.tree = TreeBuilder()
    bench.grow(9, "another history")
    with bench.anchoring():
        wait_for(lambda: "no extension" in bench.detail(), "the fork is told")
    assert [a.root.tree_size for a in bench.anchors()] == [first]


def test_a_log_recomputed_from_its_beginning_is_waited_for(bench: Bench) -> None:
    first = bench.grow(3)
    with bench.anchoring():
        bench.wait_confirmed(first)
        shutil.rmtree(store_of(bench.settings, (topics.CHECKPOINTS, 0)).root)
        bench.tree = TreeBuilder()
        bench.grow(2)
        wait_for(lambda: "2 leaves, 3 are anchored" in bench.detail(), "it is said to be behind")
        second = bench.grow(2)
        bench.wait_confirmed(second)
    bench.check(first, second)


def test_a_zombie_with_a_database_of_its_own_does_no_harm(bench: Bench, tmp_path: Path) -> None:
    sizes = [bench.grow(1)]
    with bench.anchoring():
        bench.wait_confirmed(sizes[0])
    with bench.anchoring(), bench.anchoring(folder=tmp_path / "zombie", slot=7):
        for _ in range(4):
            sizes.append(bench.grow(1))
            bench.wait_confirmed(sizes[-1])
    counts = count_sizes(bench.anchors())
    assert set(counts) == set(sizes)
    # Two processes that race may both send a size, and no more than that.
    assert max(counts.values()) <= 2
    bench.check_claims()


def test_the_same_database_admits_one_process(bench: Bench) -> None:
    size = bench.grow(1)
    with bench.anchoring():
        bench.wait_confirmed(size)
        with bench.anchoring(slot=8):
            wait_for(lambda: "another process holds" in bench.detail(8), "the second one waits")
            later = bench.grow(1)
            bench.wait_confirmed(later)
    bench.check(size, later)


def test_a_database_that_cannot_be_opened_is_told_and_tried_again(bench: Bench) -> None:
    size = bench.grow(1)
    in_the_way = bench.state / "anchor.sqlite"
    in_the_way.mkdir(parents=True)
    with bench.anchoring():
        wait_for(lambda: "unable to open database file" in bench.detail(), "it is told")
        in_the_way.rmdir()
        bench.wait_confirmed(size)
    bench.check(size)


def test_a_wrong_operator_key_is_told(bench: Bench, tmp_path: Path) -> None:
    bench.grow(1)
    create_operator_key(tmp_path / "other.pem")
    with bench.anchoring(bench.access(operator_key_path=tmp_path / "other.pem")):
        wait_for(lambda: "INVALID_SIGNATURE" in bench.detail(), "the refusal is told")
        assert "NOT ANCHORING since" in bench.detail()
    assert bench.messages() == []


def test_a_foreign_checkpoint_is_not_anchored(bench: Bench) -> None:
    bench.grow(1)
    published = store_of(bench.settings, (topics.CHECKPOINTS, 0)).root / "checkpoint"
    published.write_bytes(published.read_bytes().replace(b"\n1\n", b"\n2\n"))
    with bench.anchoring():
        wait_for(lambda: "NOT ANCHORING since" in bench.detail(), "it is told")
    assert bench.messages() == []


def test_the_database_is_durable_where_it_must_be(tmp_path: Path) -> None:
    store = AnchorStore(tmp_path / "anchor.sqlite")
    assert store._db.row("PRAGMA synchronous") == (2,)
    assert store._db.row("PRAGMA journal_mode") == ("wal",)
    store.close()
    with sqlite3.connect(tmp_path / "anchor.sqlite") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_settings_name_the_ledger(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no ledger known"):
        ledger_access(Settings(data_dir=tmp_path))
    public = ledger_access(
        Settings(data_dir=tmp_path, ledger_mirror_url="https://testnet.mirrornode.hedera.com")
    )
    assert (public.kind, dict(public.config.nodes)) == ("hedera:testnet", {})
    private = ledger_access(
        Settings(
            data_dir=tmp_path,
            ledger_mirror_url="https://mirror.example",
            ledger_nodes={"0.0.5": "node.example:50211"},
        )
    )
    assert private.kind == "hedera:mirror.example"
    assert dict(private.config.nodes) == {"node.example:50211": "0.0.5"}
    ports = {"grpc_port": 7, "rest_port": 8}
    (tmp_path / "stack.json").write_text(json.dumps({"ledger": ports}))
    local = ledger_access(Settings(data_dir=tmp_path))
    assert (local.kind, local.mirror) == ("hedera:attestream-local", "http://127.0.0.1:8")
    assert local.config.mirror_margin_s == 0
