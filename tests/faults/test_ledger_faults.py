"""The ledger and its mirror as they fail: some schedules, and that the judge sees what it is there for."""

import ast
import base64
import io
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import fastavro
import pytest

from pipeline import kafka as clients
from pipeline import topics
from pipeline.settings import Settings
from pipeline.trust import init_local
from processors.merkle.tree import TreeBuilder
from schemas.codec import CODEC
from tests.faults.machine.faults.ledger import LEDGER_FAULTS, draw, run_ledger_schedule, schedules
from tests.faults.machine.ledger import Violation
from tests.faults.machine.ledgers import judge
from tests.faults.machine.ledgers.judge import Judge
from tests.faults.machine.ledgers.world import PRELOADED, LedgerWorld
from tests.faults.machine.oracle.formats import Record
from tests.faults.machine.zygote import Zygote
from tests.kit.deployment import recreate_topics
from tests.kit.epochlog import log_signer, publish

pytestmark = pytest.mark.timeout(180)

ORIGIN = "judged.example"
NS = 1_000_000_000


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote(("anchor",), preload=PRELOADED) as made:
        yield made


@pytest.fixture(scope="module")
def bootstrap(kafka: str) -> str:
    settings = Settings(data_dir=Path(tempfile.gettempdir()), bootstrap_servers=kafka, partitions=2)
    recreate_topics(clients.admin(settings), settings)
    return kafka


@pytest.fixture(scope="module")
def world(zygote: Zygote, bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedgerWorld]:
    with LedgerWorld(tmp_path_factory.mktemp("ledger-world"), zygote, 1, bootstrap=bootstrap) as made:
        yield made


@pytest.mark.parametrize(
    "kinds",
    [
        ("node_loses_answer", "kill_anchor"),
        ("node_places_late", "lose_anchor_database"),
        ("node_loses_transaction", "kill_anchor_at"),
        ("mirror_another_root",),
        ("mirror_foreign_message", "drain_anchor"),
        ("anchor_clock_ahead",),
        ("anchor_clock_behind",),
        ("corrupt_anchor_database", "zombie_anchor_elsewhere"),
        (),
    ],
    ids=lambda kinds: "+".join(kinds) or "drawn",
)
def test_no_schedule_violates_anything(world: LedgerWorld, kinds: tuple[str, ...]) -> None:
    found = run_ledger_schedule(world, random.Random(world.size), kinds)
    assert not found, (world.chosen, found, world.workers.log_tail())


@pytest.mark.parametrize(
    ("broken", "kinds", "invariant"),
    [
        ("confirmed_on_acceptance", ("node_loses_transaction",), "early_claim"),
        ("new_bytes_each_try", ("node_loses_answer", "mirror_lags"), "anchored_twice"),
        ("mirror_is_believed", ("mirror_wrong_hash",), "early_claim"),
    ],
)
def test_a_broken_stage_is_found(
    zygote: Zygote, bootstrap: str, tmp_path: Path, broken: str, kinds: tuple[str, ...], invariant: str
) -> None:
    found: list[Violation] = []
    with LedgerWorld(tmp_path, zygote, zlib.crc32(broken.encode()), broken, bootstrap) as world:
        for seed in range(3):
            found = found or run_ledger_schedule(world, random.Random(seed), kinds)
    assert invariant in {each.invariant for each in found}, found


def test_schedules_are_drawn_from_their_seed() -> None:
    def first(seed: int) -> list[list[str]]:
        return [draw(random.Random(each)) for each, _ in zip(schedules(seed), range(200), strict=False)]

    assert first(7) == first(7) != first(8)
    assert {kind for drawn in first(7) for kind in drawn} == set(LEDGER_FAULTS)


def test_ingest_and_seal_know_no_ledger() -> None:
    """They cannot wait for what they never heard of."""
    program = "import sys, pipeline.ingest, pipeline.seal; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in modules.stdout.split()}
    assert not loaded & {"anchors", "grpc", "hiero_sdk_python"}


def test_the_judge_shares_nothing_with_what_it_judges() -> None:
    tree = ast.parse(Path(judge.__file__).read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    assert not {name.partition(".")[0] for name in imported} & {
        "pipeline",
        "processors",
        "anchors",
        "schemas",
    }


# ---- the judge alone ---------------------------------------------------------------------------------------


class Court:
    """A judge with a ledger, a published log and claims that are made by hand."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder, log_name=ORIGIN, bootstrap_servers="127.0.0.1:1")
        init_local(self.settings)
        self._tree, self._db = TreeBuilder(), folder / "ledger.sqlite"
        self._records: list[Record] = []
        self.roots: dict[int, bytes] = {}
        self.notes: dict[int, bytes] = {}
        self.shown_at: dict[int, float] = {}
        with closing(sqlite3.connect(self._db)) as database:
            database.execute("CREATE TABLE message (sequence, consensus_ns, payer, running_hash, body)")
        key = log_signer(self.settings).verifier.public_key
        self.judge = Judge("127.0.0.1:1", folder / "log", ORIGIN, key, self._db, self.shown_at)
        self.judge._reader = self  # type: ignore[assignment]
        for _ in range(3):
            self.grow()

    def grow(self) -> None:
        size, root = publish(self.settings, self._tree, [b"leaf %d" % self._tree.size])
        self.roots[size] = root
        folder = self.settings.data_dir / "log" / topics.CHECKPOINTS / "0"
        self.notes[size] = (folder / "checkpoint").read_bytes()

    def read(self) -> Iterator[Record]:
        records, self._records = self._records, []
        yield from records

    def place(self, size: int, root: bytes | None = None, *, shown: bool = True) -> int:
        sequence = len(self.judge.placed) + 1
        with closing(sqlite3.connect(self._db, isolation_level=None)) as database:
            sequence = database.execute("SELECT count(*) FROM message").fetchone()[0] + 1
            head = base64.urlsafe_b64encode(root or self.roots[size]).rstrip(b"=").decode()
            body = {"metadata": {"root": {"treeSize": str(size), "rootHashB64u": head}}}
            row = (sequence, sequence * NS, "0.0.2", bytes([sequence] * 48), json.dumps(body).encode())
            database.execute("INSERT INTO message VALUES (?, ?, ?, ?, ?)", row)
        if shown:
            self.shown_at[sequence] = float(sequence)
        return int(sequence)

    def say(self, status: str, size: int, sequence: int = 0, **changes: Any) -> None:
        said = {
            "status": status, "origin": ORIGIN, "tree_size": size, "root": self.roots[size],
            "checkpoint": self.notes[size], "ledger": "l", "ledger_topic": "t", "transaction_id": "x",
            "sequence": sequence, "consensus_timestamp_ns": sequence * NS,
            "running_hash": bytes([sequence] * 48), "payer": "0.0.2", "mirror": "m", "time": 0,
        } | changes  # fmt: skip
        value = CODEC.encode("anchor", said)
        self._records.append(Record("log.anchors", 0, 0, (sequence + 1) * 1000, None, (), value))

    def anchor(self, size: int, **changes: Any) -> None:
        self.say("SUBMITTED", size)
        self.say("CONFIRMED", size, self.place(size), **changes)

    def found(self, repeats: int = 0, *, is_memory_lost: bool = False) -> set[str]:
        return {each.invariant for each in self.judge.judge(repeats, is_memory_lost=is_memory_lost)}


@pytest.fixture
def court(tmp_path: Path) -> Court:
    return Court(tmp_path)


def test_what_is_right_is_found_right(court: Court) -> None:
    court.anchor(1)
    assert court.found() == set()
    court.grow()
    court.anchor(4)
    assert (court.found(), court.judge.confirmed_size) == (set(), 4)


def test_a_claim_without_a_message(court: Court) -> None:
    court.say("SUBMITTED", 2)
    court.say("CONFIRMED", 2, 1)
    assert court.found() == {"early_claim"}


def test_a_claim_before_the_mirror_showed_it(court: Court) -> None:
    court.say("SUBMITTED", 2)
    court.say("CONFIRMED", 2, court.place(2, shown=False))
    assert court.found() == {"early_claim"}
    court.anchor(3)
    court.shown_at[2] = 5.0
    assert court.found() == {"early_claim"}


@pytest.mark.parametrize(
    "change", [{"running_hash": bytes(48)}, {"consensus_timestamp_ns": 5}, {"payer": "0.0.3"}]
)
def test_a_claim_that_states_another_place(court: Court, change: dict[str, Any]) -> None:
    court.anchor(2, **change)
    assert court.found() == {"early_claim"}


def test_a_claim_of_another_root(court: Court) -> None:
    court.anchor(2, root=bytes(32))
    assert court.found() == {"anchor"}


def test_a_claim_with_another_checkpoint(court: Court) -> None:
    court.anchor(2, checkpoint=court.notes[2].replace(b"2", b"3", 1))
    assert court.found() == {"signature"}


def test_another_root_on_the_ledger(court: Court) -> None:
    court.place(2, bytes(32))
    assert court.found() == {"anchor"}


def test_a_size_anchored_twice_and_one_going_back(court: Court) -> None:
    court.anchor(2)
    court.place(2)
    assert court.found() == {"anchored_twice"}
    court.anchor(3)
    court.place(1)
    assert court.found() == {"going_back"}
    court.place(3)
    assert court.found(repeats=1) == set()


def test_a_submission_that_is_never_confirmed(court: Court) -> None:
    court.say("SUBMITTED", 2)
    court.place(2)
    assert court.found() == {"anchor_claims"}
    court.say("SUBMITTED", 3)
    court.place(3)
    assert court.found(is_memory_lost=True) == {"anchor_claims"}, "nothing larger covers it"


def test_a_confirmation_of_what_nobody_submitted(court: Court) -> None:
    court.say("CONFIRMED", 2, court.place(2))
    assert court.found() == {"anchor_claims"}


def test_tiles_that_are_not_those_of_the_signed_root(court: Court) -> None:
    tile = court.settings.data_dir / "log" / topics.CHECKPOINTS / "0" / "tile" / "0" / "000.p" / "3"
    tile.write_bytes(bytes(32) + tile.read_bytes()[32:])
    assert "append_only" in court.found()


def test_a_record_that_is_no_anchor(court: Court) -> None:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, {"type": "string"}, "x")
    court._records.append(Record("log.anchors", 0, 0, 0, None, (), body.getvalue()))
    assert court.found() == {"anchor"}
