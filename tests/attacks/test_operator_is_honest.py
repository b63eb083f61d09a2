"""What an honest operator's life brings, one after another, beside a running monitor: no finding at all.

Restarts, lost working copies, lost tiles, a killed broker, retention, a rotated key, a monitor that was away.
"""

import shutil
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import TopicPartition

from pipeline import kafka
from pipeline.shard import store_of
from pipeline.topics import CHECKPOINTS, EVENTS, REJECTED
from pipeline.trust import rotate_log_key
from tests.kit.cheating import Cheater, cheater
from tests.kit.deployment import wait_for

pytestmark = pytest.mark.timeout(300)

SHARDS = [(EVENTS, 0), (EVENTS, 1), (REJECTED, 0)]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cheater]:
    # On a busy machine an honest sealer may be away for longer than patience is by default.
    with cheater(tmp_path_factory.mktemp("honest"), anchor_interval_s=4.0, monitor_patience_s=40.0) as made:
        made.ledger_up()
        yield made


def test_nothing_is_found_on_an_honest_run(log: Cheater) -> None:
    sizes = dict.fromkeys(SHARDS, 0)

    def grow(count: int = 270) -> None:
        for place in SHARDS:
            log.fill(place, count)
            sizes[place] += count

    def sealed() -> None:
        for place in SHARDS:
            log.wait_sealed(place, sizes[place])

    with log.anchoring(), log.monitoring() as health:
        with log.sealing():
            grow()
            sealed()
        log.wait_compared(health)

        # The sealer was away, and its working copy is lost.
        grow()
        shutil.rmtree(log.settings.data_dir / "state" / "seal")
        with log.sealing():
            sealed()
            # Partial tiles of before are no longer kept.
            for place in SHARDS:
                store_of(log.settings, place).delete_partial_tiles(time.time() + 1e6, 0.0)
        log.wait_compared(health)

        # Working copy and published tiles are lost: recomputed from the topic, to the same root.
        before = log.checkpoint((EVENTS, 0))
        shutil.rmtree(log.settings.data_dir / "state" / "seal")
        shutil.rmtree(log.settings.data_dir / "log" / EVENTS)
        with log.sealing():
            sealed()
            assert log.checkpoint((EVENTS, 0)) == before
            grow()
            # The broker is killed under all of them.
            log.kill_broker()
            grow()
            sealed()
        log.wait_compared(health)

        # The key is rotated; the sealer starts again with the new one.
        rotate_log_key(log.settings)
        with log.sealing():
            grow()
            sealed()
        log.wait_compared(health)

        # Retention takes sealed records from the beginning of a topic.
        client = kafka.admin(log.settings)
        kept_from = TopicPartition(EVENTS, 0, sizes[EVENTS, 0] - 20)
        for future in client.delete_records([kept_from]).values():
            future.result(20)
        with log.sealing():
            grow()
            sealed()
        log.wait_compared(health)

    # The monitor was away too, and comes back to a log that went on.
    with log.anchoring(), log.sealing(), log.monitoring() as health:
        grow()
        sealed()
        log.wait_sealed((CHECKPOINTS, 0), len(SHARDS) + 1)
        log.wait_compared(health)
        # Everything is passed over once more, by the newest leaves' looks and by the pass.
        begun_s = time.monotonic()
        wait_for(
            lambda: time.monotonic() - begun_s > log.settings.monitor_patience_s, "time to find something"
        )
    assert [finding["explanation"] for finding in log.findings()] == []
