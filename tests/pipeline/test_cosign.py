"""Witnesses in the anchor stage: what is anchored is cosigned, and what happens when too few sign."""

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from anchors.witness.client import Submission, WitnessClient
from pipeline import topics
from pipeline.anchorstore import AnchorStore
from pipeline.cosign import Cosigner
from pipeline.epochlog import COSIGNED, EpochLog
from pipeline.settings import Settings, UsageError
from pipeline.shard import store_of
from pipeline.trust import init_local, load_trust, log_identity, trust_path
from schemas.note import Ed25519Signer, VerifierKey, parse_note
from schemas.witnesspolicy import PolicyWitness, WitnessPolicy
from tests.kit.deployment import Deployment, wait_for
from tests.kit.epochlog import log_signer
from tests.kit.witnesses import (
    TiledLog,
    WitnessProcess,
    cosigner,
    hangs,
    policy_of,
    policy_text,
    talking,
)
from tests.pipeline.anchor_bench import Bench

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def bench(deployment: Deployment, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(deployment, tmp_path)
    made.ledger_up()
    yield made
    made.ledger_down()


@pytest.fixture
def processes(bench: Bench, tmp_path: Path) -> Iterator[dict[str, WitnessProcess]]:
    vkey = str(log_signer(bench.settings).verifier)
    made = {name: WitnessProcess(tmp_path, name, vkey) for name in ("hospital", "maker", "regulator")}
    yield made
    for each in made.values():
        each.kill()


def with_witnesses(
    bench: Bench,
    urls: Mapping[str, str | None],
    quorum: str,
    deadline_s: float = 30,
    *,
    required: bool = False,
) -> Settings:
    path = bench.folder / "witness-policy"
    path.write_text(policy_text(urls, quorum))
    return bench.settings.model_copy(
        update={"witness_policy": path, "witness_deadline_s": deadline_s, "witness_required": required}
    )


def cosigners(policy: WitnessPolicy, note: bytes) -> list[str]:
    return [each.witness.name for each in policy.cosignatures(parse_note(note))]


def published(settings: Settings) -> bytes:
    return store_of(settings, (topics.CHECKPOINTS, 0)).read(COSIGNED) or b""


def note_of(bench: Bench, status: str, size: int) -> bytes:
    return next(bytes(s["checkpoint"]) for s in bench.records(status) if s["tree_size"] == size)


def test_what_is_anchored_is_cosigned(bench: Bench, processes: dict[str, WitnessProcess]) -> None:
    urls: dict[str, str | None] = {name: each.start() for name, each in processes.items()}
    settings = with_witnesses(bench, urls, "2")
    policy = policy_of(urls, "2")
    first = bench.grow(3)
    with bench.anchoring(settings=settings):
        bench.wait_confirmed(first)
        # One down: two are enough, and nobody waits for the deadline.
        processes["maker"].kill()
        second = bench.grow(300)
        bench.wait_confirmed(second)
    bench.check(first, second)
    for status in ("SUBMITTED", "CONFIRMED"):
        assert cosigners(policy, note_of(bench, status, first)) == ["hospital", "maker", "regulator"]
        assert cosigners(policy, note_of(bench, status, second)) == ["hospital", "regulator"]
    assert published(settings) == note_of(bench, "CONFIRMED", second)
    assert load_trust(trust_path(settings)).witnesses == policy
    store = AnchorStore(bench.state / "anchor.sqlite")
    known = {name: store.witness_sizes()[str(cosigner(name).verifier)] for name in urls}
    store.close()
    assert known == {"hospital": second, "maker": first, "regulator": second}
    # The next start knows the policy from the trust file alone.
    processes["maker"].start()
    third = bench.grow(2)
    with bench.anchoring():
        bench.wait_confirmed(third)
    assert len(cosigners(policy, note_of(bench, "CONFIRMED", third))) >= 2


def test_a_missed_quorum_is_told_and_anchored(bench: Bench, processes: dict[str, WitnessProcess]) -> None:
    urls: dict[str, str | None] = {name: each.start() for name, each in processes.items()}
    policy = policy_of(urls, "all")
    settings = with_witnesses(bench, urls, "all", deadline_s=0.5)
    processes["regulator"].kill()
    first = bench.grow(3)
    with bench.anchoring(settings=settings):
        bench.wait_confirmed(first)
        wait_for(lambda: "WITHOUT A WITNESS QUORUM" in bench.detail(), "the missed quorum is told")
        assert "regulator: witness regulator does not answer" in bench.detail()
        assert cosigners(policy, note_of(bench, "CONFIRMED", first)) == ["hospital", "maker"]
        assert published(settings) == b""
        processes["regulator"].start()
        # The two others know a size that the third does not.
        second = bench.grow(3)
        bench.wait_confirmed(second)
        wait_for(lambda: "WITNESS" not in bench.detail(), "all is well again")
    bench.check(first, second)
    assert cosigners(policy, published(settings)) == ["hospital", "maker", "regulator"]


def test_without_a_required_quorum_nothing_is_anchored(
    bench: Bench, processes: dict[str, WitnessProcess]
) -> None:
    hospital = processes["hospital"]
    urls = {"hospital": hospital.start()}
    hospital.kill()
    settings = with_witnesses(bench, urls, "any", deadline_s=0.3, required=True)
    bench.grow(3)
    with bench.anchoring(settings=settings):
        wait_for(lambda: "NOT ANCHORING since" in bench.detail(), "it is told")
        assert "cosigned by nobody, needed 1 of 1: hospital" in bench.detail()
        newest = bench.grow(3)
        wait_for(lambda: "tried 2 times" in bench.detail(), "it is tried again")
        assert bench.messages() == []
        hospital.start()
        bench.wait_confirmed(newest)
    bench.check(newest)
    assert cosigners(policy_of(urls, "any"), note_of(bench, "CONFIRMED", newest)) == ["hospital"]


def test_a_witness_that_hangs_does_not_stop_the_beat(bench: Bench) -> None:
    size = bench.grow(3)
    health = bench.settings.data_dir / "run" / "anchor.health.json"
    beats: set[float] = set()

    def beats_while_asking() -> bool:
        if health.exists():
            beats.add(json.loads(health.read_text())["beat_s"])
        return len(beats) > 3

    with talking(hangs) as url:
        settings = with_witnesses(bench, {"w": url}, "any", deadline_s=3.0)
        with bench.anchoring(settings=settings):
            wait_for(beats_while_asking, "the stage beats")
            bench.wait_confirmed(size)
            assert "w: no answer yet" in bench.detail() or "does not answer" in bench.detail()
    bench.check(size)


def test_a_fork_finds_no_witness(bench: Bench, processes: dict[str, WitnessProcess]) -> None:
    """The operator shows the ledger another history than the witness saw."""
    hospital = processes["hospital"]
    urls = {"hospital": hospital.start()}
    settings = with_witnesses(bench, urls, "any", required=True)
    shown = TiledLog(settings.log_name, "what the witness was shown", log_signer(settings))
    shown.grow(5)
    asked = WitnessClient(PolicyWitness("hospital", cosigner("hospital").verifier, urls["hospital"]))
    asked.cosign(Submission(shown.signed(5), shown.prove(5)), 0, time.monotonic() + 30)
    bench.grow(9, "what everybody else is shown")
    with bench.anchoring(settings=settings):
        wait_for(lambda: "knows 5 leaves that are not the first of these 9" in bench.detail(), "it is told")
    assert bench.messages() == []
    assert published(settings) == b""


def test_a_lost_database_finds_the_cosigned_note(bench: Bench, processes: dict[str, WitnessProcess]) -> None:
    urls: dict[str, str | None] = {"hospital": processes["hospital"].start()}
    settings = with_witnesses(bench, urls, "any")
    trusted = EpochLog(settings)
    first = bench.grow(3)
    assert (trusted.cosigned(), trusted.published() is not None) == (None, True)
    # Placed on the ledger, and killed before anything was said of it.
    bench.settings = settings
    bench.die_at("pipeline.anchorstore", "AnchorStore", "submitted", "before")
    shutil.rmtree(bench.state)
    with bench.anchoring():
        bench.wait_confirmed(first)
    assert note_of(bench, "CONFIRMED", first) == published(settings)
    assert cosigners(policy_of(urls, "any"), published(settings)) == ["hospital"]


def test_the_cosigned_checkpoint_never_goes_back(bench: Bench) -> None:
    bench.grow(3)
    log = EpochLog(bench.settings)
    small = log.published()
    bench.grow(3)
    large = log.published()
    assert small is not None
    assert large is not None
    for signed, expected in [(small, small), (large, large), (small, large)]:
        log.publish_cosigned(signed)
        assert log.cosigned() == expected
    (store_of(bench.settings, (topics.CHECKPOINTS, 0)).root / COSIGNED).write_bytes(b"junk")
    assert log.cosigned() is None
    log.publish_cosigned(small)
    assert log.cosigned() == small


BAD = [
    ("quorum x\n", "'x' is not defined"),
    ("", "no quorum line"),
    (policy_text({"w": None}, "any"), "too few URLs"),
    (policy_text({"w": "ftp://x"}, "any"), "no URL to submit to"),
    (f"log {Ed25519Signer.from_seed('other.example', bytes(32)).verifier}\nquorum none\n", "is none of them"),
]


@pytest.mark.parametrize(("text", "what"), BAD, ids=[what for _, what in BAD])
def test_a_policy_that_cannot_be_used_is_told(tmp_path: Path, text: str, what: str) -> None:
    settings = Settings(data_dir=tmp_path, witness_policy=tmp_path / "policy")
    init_local(settings)
    with pytest.raises(UsageError, match="cannot read the witness policy"):
        Cosigner(settings, EpochLog(settings), {})
    (tmp_path / "policy").write_text(text)
    with pytest.raises(UsageError, match=what):
        Cosigner(settings, EpochLog(settings), {})


def test_the_log_is_no_witness_of_its_own(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, witness_policy=tmp_path / "policy")
    init_local(settings)
    before = trust_path(settings).read_bytes()
    own = VerifierKey("w.example", 4, log_identity(settings).public_key)
    (tmp_path / "policy").write_text(f"witness w {own} http://127.0.0.1:1\nquorum w\n")
    with pytest.raises(UsageError, match="a key is listed twice"):
        Cosigner(settings, EpochLog(settings), {})
    assert trust_path(settings).read_bytes() == before


def test_witnesses_that_are_required_must_be_named(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, witness_required=True)
    init_local(settings)
    with pytest.raises(UsageError, match="witnesses are required"):
        Cosigner(settings, EpochLog(settings), {})
    assert not Cosigner(Settings(data_dir=tmp_path), EpochLog(settings), {}).missed
