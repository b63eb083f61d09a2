"""An operator who rewrites, cuts off, forks, rolls back or leaves out: each found within 12 s of publication.

One running monitor for all; every cheat has a shard of its own, so that none hides behind another.
"""

import os
import shutil
from collections.abc import Iterator, Sequence

import pytest

from pipeline import kafka, topics
from pipeline.shard import Shard, leaf_of
from pipeline.topics import CHECKPOINTS, DECISIONS, EVENTS, FINDINGS, REJECTED
from pipeline.trust import log_identity
from processors.merkle.tree import TreeBuilder
from processors.model import RawRecord
from schemas.checkpoint import open_checkpoint
from schemas.note import Ed25519Signer, format_note, parse_note, sign_note
from schemas.records import encode_leaf
from tests.kit.cheating import Cheater, cheater, detail_of
from tests.kit.deployment import read_topic, wait_for

pytestmark = pytest.mark.timeout(180)

BASE = 300
"""Leaves of each shard before anything happens: one full bundle and a partial one."""
SHARDS = [
    *((topic, number) for topic in (EVENTS, REJECTED, DECISIONS, FINDINGS) for number in range(4)),
    (topics.REGISTRY, 0),
]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cheater]:
    """Shards with leaves, sealed, compared by a running monitor, and the sealer gone."""
    with cheater(tmp_path_factory.mktemp("cheats")) as made:
        for place in SHARDS:
            made.fill(place, BASE)
        with made.monitoring() as health:
            with made.sealing():
                for place in SHARDS:
                    made.wait_sealed(place, BASE)
                made.wait_sealed((CHECKPOINTS, 0), len(SHARDS) + 1)
            made.wait_compared(health)
            yield made
            wait_for(lambda: "FINDINGS OPEN" in detail_of(health), "the health tells of them")


def newest_record(log: Cheater, place: tuple[str, int]) -> RawRecord:
    return [r for r in read_topic(log.settings, place[0]) if r.partition == place[1]][-1]


def test_a_new_entry_that_is_not_its_record(log: Cheater) -> None:
    place = (EVENTS, 0)
    builder = log.tree(place).builder()
    log.fill(place, 1)
    record = newest_record(log, place)
    forged = encode_leaf(record.offset, record.append_ms, os.urandom(32))
    found = log.expect("entry_rewritten", log.origin(place), lambda: log.publish(place, builder, [forged]))
    assert found["parameters"]["leaf"] == str(BASE)
    assert found["evidence"][0]["offset"] == record.offset


def test_a_record_that_is_passed_over(log: Cheater) -> None:
    place = (EVENTS, 1)
    builder = log.tree(place).builder()
    log.fill(place, 2)
    only_the_second = leaf_of(newest_record(log, place))
    found = log.expect(
        "entry_rewritten", log.origin(place), lambda: log.publish(place, builder, [only_the_second])
    )
    assert found["parameters"]["fault"] == "omitted"


def test_a_leaf_without_a_record(log: Cheater) -> None:
    place = (EVENTS, 2)
    builder = log.tree(place).builder()
    invented = encode_leaf(BASE + 1000, 1_760_000_000_000, os.urandom(32))
    found = log.expect("entry_rewritten", log.origin(place), lambda: log.publish(place, builder, [invented]))
    assert found["parameters"]["fault"] == "unfounded"


def test_offsets_that_do_not_rise(log: Cheater) -> None:
    place = (EVENTS, 3)
    builder = log.tree(place).builder()
    log.fill(place, 1)
    record = newest_record(log, place)
    again = [leaf_of(record), leaf_of(record)]
    found = log.expect("entry_rewritten", log.origin(place), lambda: log.publish(place, builder, again))
    assert found["parameters"]["fault"] == "disordered"


def test_a_changed_byte_in_a_new_bundle(log: Cheater) -> None:
    place = (REJECTED, 0)
    path = f"tile/entries/001.p/{BASE - 256}"
    found = log.expect("entry_rewritten", log.origin(place), lambda: log.flip(place, path, 20))
    assert found["parameters"]["path"] == path
    log.flip(place, path, 20)
    log.expect_cleared("entry_rewritten", log.origin(place))


def test_a_changed_byte_in_a_new_tile(log: Cheater) -> None:
    place = (REJECTED, 1)
    path = f"tile/0/001.p/{BASE - 256}"
    found = log.expect("tile_rewritten", log.origin(place), lambda: log.flip(place, path, 40))
    assert path in found["parameters"]["path"]
    log.flip(place, path, 40)
    log.expect_cleared("tile_rewritten", log.origin(place))


def test_a_tile_that_is_wrong_from_its_publication_on(log: Cheater) -> None:
    place = (REJECTED, 2)
    builder = log.tree(place).builder()
    log.fill(place, 1)
    entry = leaf_of(newest_record(log, place))

    def cheat() -> None:
        tiles = [*builder.append([entry]), *builder.edge()]
        for item in tiles:
            wrong = item.data[:-1] + bytes([item.data[-1] ^ 1])
            log.write(place, item.tile.path, wrong if item.tile.level == 0 else item.data)
        log.write(place, "checkpoint", log.sign(place, builder.size, builder.root()))

    log.expect("tile_rewritten", log.origin(place), cheat)


def test_a_new_record_rewritten_in_the_brokers_file(log: Cheater) -> None:
    place = (REJECTED, 3)
    log.fill(place, 3)
    records = [r for r in read_topic(log.settings, place[0]) if r.partition == place[1]][-3:]
    log.publish_honestly(place, [leaf_of(record) for record in records])
    value = records[1].value or b""
    found = log.expect(
        "record_rewritten",
        log.origin(place),
        lambda: log.rewrite_record(place, value, bytes([value[0] ^ 1]) + value[1:]),
    )
    assert found["evidence"][0]["offset"] == records[1].offset


def test_an_old_record_rewritten_is_found_by_the_pass(log: Cheater) -> None:
    place = (DECISIONS, 0)
    value = next(r for r in read_topic(log.settings, place[0]) if r.partition == place[1]).value or b""
    # A small log is passed over again and again, so the default pass of a day is here one of seconds.
    log.expect(
        "record_rewritten",
        log.origin(place),
        lambda: log.rewrite_record(place, value, bytes([value[0] ^ 1]) + value[1:]),
        bound_s=40.0,
    )


def test_an_old_entry_rewritten_is_found_by_the_pass(log: Cheater) -> None:
    place = (DECISIONS, 1)
    found = log.expect(
        "entry_rewritten", log.origin(place), lambda: log.flip(place, "tile/entries/000", 20), bound_s=40.0
    )
    assert found["parameters"]["path"] == "tile/entries/000"


def test_tiles_cut_off(log: Cheater) -> None:
    place = (DECISIONS, 2)
    folder = log.store(place).root / "tile" / "0" / "001.p"
    kept = folder.with_name("kept")
    log.expect("log_truncated", log.origin(place), lambda: folder.rename(kept))
    kept.rename(folder)
    log.expect_cleared("log_truncated", log.origin(place))


def test_a_log_taken_away(log: Cheater) -> None:
    place = (DECISIONS, 3)
    log.expect("log_truncated", log.origin(place), lambda: shutil.rmtree(log.store(place).root))


def test_a_fork_of_the_same_size(log: Cheater) -> None:
    place = (FINDINGS, 0)
    kept = log.store(place).read_checkpoint() or b""

    def cheat() -> None:
        builder = TreeBuilder()
        log.publish(place, builder, [os.urandom(50) for _ in range(BASE)])

    found = log.expect("fork", log.origin(place), cheat)
    key = Ed25519Signer.from_seed(log.origin(place), log_identity(log.settings).seed).verifier
    first = open_checkpoint(found["parameters"]["first_note"].encode(), key).checkpoint
    second = open_checkpoint(found["parameters"]["second_note"].encode(), key).checkpoint
    assert found["parameters"]["first_note"].encode() == kept
    assert first.size == second.size == BASE
    assert first.root != second.root


def test_a_fork_of_another_size(log: Cheater) -> None:
    place = (FINDINGS, 1)
    log.expect(
        "fork",
        log.origin(place),
        lambda: log.publish(place, TreeBuilder(), [os.urandom(50) for _ in range(BASE + 7)]),
    )


def test_a_fork_shown_to_the_epoch_log_alone(log: Cheater) -> None:
    place = (FINDINGS, 2)
    split_view = log.sign(place, BASE - 1, os.urandom(32))

    def cheat() -> None:
        builder = log.tree((CHECKPOINTS, 0)).builder()
        log.deployment.publish(CHECKPOINTS, log.origin(place).encode(), split_view, 0)
        log.publish((CHECKPOINTS, 0), builder, [split_view])

    found = log.expect("fork", log.origin(place), cheat)
    assert found["parameters"]["second_note"].encode() == split_view


def test_a_checkpoint_rolled_back(log: Cheater) -> None:
    place = (FINDINGS, 3)
    tree = log.tree(place)
    newest = log.store(place).read_checkpoint() or b""
    older = log.sign(place, BASE - 10, tree.root_at(BASE - 10))
    log.expect("checkpoint_rollback", log.origin(place), lambda: log.write(place, "checkpoint", older))
    log.write(place, "checkpoint", newest)
    log.expect_cleared("checkpoint_rollback", log.origin(place))


def test_a_list_that_leaves_a_shard_out(log: Cheater) -> None:
    origin = log.origin((topics.REGISTRY, 0))
    lists = [
        record.value or b""
        for record in read_topic(log.settings, CHECKPOINTS)
        if (record.value or b"").startswith(f"{log.settings.log_name}/shards\n".encode())
    ]
    lines = parse_note(lists[-1]).text.splitlines()
    left = [line for line in lines[2:] if not line.startswith(f"{origin} ")]
    name = lines[0]
    signer = Ed25519Signer.from_seed(name, log_identity(log.settings).seed)
    text = "\n".join([name, str(len(left)), *left]) + "\n"
    entry = format_note(sign_note(text, [signer]))

    def cheat() -> None:
        builder = log.tree((CHECKPOINTS, 0)).builder()
        log.deployment.publish(CHECKPOINTS, b"shards", entry, 0)
        log.publish((CHECKPOINTS, 0), builder, [entry])

    log.expect("shard_missing", origin, cheat)


def test_a_shard_that_the_sealer_passes_by(log: Cheater, monkeypatch: pytest.MonkeyPatch) -> None:
    left_out, others = (topics.ALERTS, 0), (topics.POLICIES, 0)
    append = Shard.append

    def append_but_one(shard: Shard, records: Sequence[RawRecord]) -> None:
        if shard.partition != left_out:
            append(shard, records)

    monkeypatch.setattr(Shard, "append", append_but_one)

    def cheat() -> None:
        log.fill(left_out, 3)
        log.fill(others, 3)
        log.wait_sealed(others, 3)

    with log.sealing():
        found = log.expect("shard_missing", log.origin(left_out), cheat)
    assert found["evidence"][0]["offset"] == 0


def test_a_topic_cut_off_in_the_brokers_file(log: Cheater) -> None:
    place = (topics.REGISTRY, 0)

    def cheat() -> None:
        log.running.kill()
        log.running.wait(20)
        log.cut_off_last_batch(place)
        log.start_broker()

    # It is published when the broker is up again, which takes its own time.
    found = log.expect("log_truncated", log.origin(place), cheat, bound_s=40.0)
    assert found["parameters"]["sealed_to"] == str(BASE)


def test_a_topic_cut_off_by_making_it_anew(log: Cheater) -> None:
    place = (topics.POLICIES, 0)
    client = kafka.admin(log.settings)

    def cheat() -> None:
        for future in client.delete_topics([place[0]], operation_timeout=20).values():
            future.result(30)
        wait_for(lambda: place[0] not in client.list_topics(timeout=20).topics, "the topic is gone")
        wait_for(lambda: place[0] in topics.apply(client, log.settings), "the topic is made anew")

    log.expect("log_truncated", log.origin(place), cheat)
