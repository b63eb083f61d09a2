"""An operator lets ingest go on: offsets forgotten, raw records gone, a raw topic made anew."""

import pytest
from confluent_kafka import TopicPartition
from prometheus_client import REGISTRY

from pipeline import kafka, setoffset
from pipeline.settings import UsageError
from pipeline.statestore import Partition
from pipeline.topics import TELEMETRY_RAW
from schemas.partition import partition_of
from tests.kit.deployment import Deployment, wait_for

pytestmark = pytest.mark.timeout(180)


def forget(deployment: Deployment) -> None:
    """Let Kafka forget the group, as it does with time."""
    admin, group = kafka.admin(deployment.settings), f"{deployment.settings.log_name}.ingest"

    def gone() -> bool:
        return admin.delete_consumer_groups([group])[group].exception(20) is None

    wait_for(gone, "the group is deleted once its last member is out")


def trim(deployment: Deployment, place: Partition, next_offset: int) -> None:
    admin = kafka.admin(deployment.settings)
    for future in admin.delete_records([TopicPartition(*place, next_offset)]).values():
        future.result(20)


def test_ingest_goes_on_behind_its_last_verdict(deployment: Deployment) -> None:
    settings = deployment.settings.model_copy(update={"session_timeout_s": 6.0})
    deployment.settings = settings
    device, other = deployment.enroll(), deployment.enroll()
    while partition_of(other.did.encode(), 2) == partition_of(device.did.encode(), 2):
        other = deployment.enroll()
    place = (TELEMETRY_RAW, partition_of(device.did.encode(), settings.partitions))
    first = device.telemetry()
    with deployment.ingesting():
        sources = [deployment.send(device, first), deployment.send(device, device.telemetry(sequence=1))]
        assert deployment.verdicts(sources)[0] == "accepted"
    forget(deployment)
    with deployment.ingesting() as health:
        wait_for(lambda: "no committed offset" in health.path.read_text(), "it waits for an operator")
        assert "attestream topics set-offset" in health.path.read_text()
    found = setoffset.standing(settings, place)
    assert (found.committed, found.judged_to, found.next_offset, found.gone) == (None, 2, 2, 0)
    setoffset.set_offset(settings, place, found.next_offset)
    assert setoffset.standing(settings, place).committed == 2

    # Two more records come and are gone before anybody judged them.
    lost = [deployment.send(device, device.telemetry()) for _ in range(2)]
    kept = deployment.send(device, device.telemetry())
    trim(deployment, place, 4)
    found = setoffset.standing(settings, place)
    assert (found.next_offset, found.gone, found.is_another_topic) == (4, 2, False)
    with deployment.ingesting() as health:
        wait_for(lambda: "partitions STOPPED" in health.path.read_text(), "nothing is skipped")
        assert "begins at 4: 2 records from 2 on are gone and were never judged" in health.path.read_text()
        assert '"alarm": "1 partitions STOPPED"' in health.path.read_text()
        assert REGISTRY.get_sample_value("attestream_raw_partitions_stopped") == 1
        assert REGISTRY.get_sample_value("attestream_raw_records_gone") == 2
        # The others go on.
        sources.append(deployment.send(other, other.telemetry()))
        assert deployment.verdicts(sources)[-1] == "accepted"
        assert deployment.verdict_of(kept) is None
    setoffset.set_offset(settings, place, found.next_offset)
    with deployment.ingesting():
        assert deployment.verdicts([*sources, kept])[-1] == "accepted"
    assert all(deployment.verdict_of(source) is None for source in lost)


def test_it_is_refused_while_a_worker_is_there(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setoffset, "CALL_TIMEOUT_S", 5.0)
    settings = deployment.settings.model_copy(update={"session_timeout_s": 1.0})
    with deployment.ingesting() as health:
        wait_for(lambda: '"running"' in health.path.read_text(), "a worker is there")
        with pytest.raises(setoffset.OffsetError, match="is every ingest worker stopped"):
            setoffset.set_offset(settings, (TELEMETRY_RAW, 0), 0)


def test_only_raw_partitions_have_such_offsets(deployment: Deployment) -> None:
    for place in (("device.events", 0), (TELEMETRY_RAW, 99)):
        with pytest.raises(UsageError):
            setoffset.standing(deployment.settings, place)


def test_verdicts_beyond_the_end_mean_another_topic() -> None:
    found = setoffset.Standing((TELEMETRY_RAW, 0), None, judged_to=90, start=0, end=7)
    assert found.is_another_topic
    assert (found.next_offset, found.gone) == (0, 0)
