"""State is disposable: every RocksDB folder deleted, then up again, changes no root and no verdict."""

import shutil
from pathlib import Path

import pytest

from pipeline import kafka, topics
from pipeline.authority import Authority
from pipeline.local.stack import LocalStack
from pipeline.settings import Settings
from pipeline.shard import store_of
from schemas.checkpoint import Checkpoint, parse_checkpoint
from schemas.note import parse_note
from tests.kit.deployment import Deployment, Device, wait_for

pytestmark = pytest.mark.timeout(240)
STAGES = ("ingest", "seal")


def settings_for(folder: Path) -> Settings:
    return Settings(
        data_dir=folder, partitions=2, checkpoint_interval_s=0.2, anchor_interval_s=0.5, silence_after_s=3600
    )


def published(settings: Settings) -> dict[str, Checkpoint]:
    """The checkpoint of every shard but the epoch log, which grows whenever a worker starts."""
    found = {}
    for folder in sorted((settings.data_dir / "log").glob("*/*")):
        if folder.parent.name == topics.CHECKPOINTS:
            continue
        data = store_of(settings, (folder.parent.name, int(folder.name))).read_checkpoint()
        if data is not None:
            found[f"{folder.parent.name}/{folder.name}"] = parse_checkpoint(parse_note(data).text)
    return found


def wait_until_sealed(deployment: Deployment) -> None:
    """Wait until each committed record of the event topics is a leaf."""

    def sealed() -> bool:
        sizes = {origin: c.size for origin, c in published(deployment.settings).items()}
        for topic in (topics.EVENTS, topics.REJECTED):
            counted = [0] * deployment.settings.partitions
            for record in deployment.read(topic):
                counted[record.partition] += 1
            if any(sizes.get(f"{topic}/{p}", 0) != n for p, n in enumerate(counted)):
                return False
        return True

    wait_for(sealed, "everything is sealed")


def test_deleted_rocksdb_folders_change_no_root_and_no_verdict(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    with LocalStack(settings, stages=STAGES):
        deployment = Deployment(settings, Authority(settings))
        devices = [deployment.enroll() for _ in range(5)]
        sent = {device.did: [device.telemetry() for _ in range(120)] for device in devices}
        sources = [deployment.send(device, value) for device in devices for value in sent[device.did]]
        sources += [deployment.send(device, b"nonsense") for device in devices]
        expected = ["accepted"] * 600 + ["malformed"] * 5
        assert deployment.verdicts(sources) == expected
        wait_until_sealed(deployment)
        before = published(settings)
        deployment.authority.close()
    databases = list(tmp_path.glob("state/*/*/rocksdb"))
    assert len(databases) == len(STAGES)
    for database in databases:
        shutil.rmtree(database)

    with LocalStack(settings, stages=STAGES):
        deployment = Deployment(settings, Authority(settings))
        assert published(settings) == before
        # The lost memory is back: the last 64 of each device are known again, and order goes on.
        again = [deployment.send(device, value) for device in devices for value in sent[device.did][-64:]]
        fresh = [deployment.send(device, device.telemetry()) for device in devices]
        assert deployment.verdicts(again) == ["replay"] * len(again)
        assert deployment.verdicts(fresh) == ["accepted"] * len(fresh)
        assert deployment.verdicts(sources) == expected
        wait_until_sealed(deployment)
        grown = published(settings)
        deployment.authority.close()
    assert all(grown[origin].size >= old.size for origin, old in before.items())
    # All devices may be of one partition, and the other has no log then.
    sizes = [tree.size for origin, tree in grown.items() if origin.startswith(f"{topics.EVENTS}/")]
    assert sum(sizes) == 605


def test_topics_keep_their_shape(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    with LocalStack(settings, stages=()):
        client = kafka.admin(settings)
        assert topics.check(client, settings) == []
        grown = settings.model_copy(update={"partitions": 4})
        with pytest.raises(topics.TopicMismatchError, match="has 2 partitions"):
            topics.apply(client, grown)


def test_device_restarts_are_not_confused_with_replays(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    with LocalStack(settings, stages=("ingest",)):
        deployment = Deployment(settings, Authority(settings))
        device = deployment.enroll()
        first = [deployment.send(device, device.telemetry()) for _ in range(3)]
        rebooted = Device(device.identity, settings.log_name)
        rebooted.boot = 2
        second = [deployment.send(rebooted, rebooted.telemetry()) for _ in range(3)]
        assert deployment.verdicts([*first, *second]) == ["accepted"] * 6
        deployment.authority.close()
