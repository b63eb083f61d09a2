"""Which words of a broker's log say that it broke its own."""

from pathlib import Path

import pytest

from tests.kit.brokerfault import MAP_FAULT, has_broker_fault

SKIPPED = "Couldn't find leader endpoint for partitions HashSet(%s) while trying to send transaction markers"


@pytest.mark.parametrize(
    ("text", "is_fault"),
    [
        ("", False),
        (f"java.lang.InternalError: {MAP_FAULT.decode()}", True),
        (SKIPPED % "device.events-1, device.events-3", False),
        (SKIPPED % "device.telemetry.raw.changelog-1, access.decisions-7, device.events-1", True),
        (SKIPPED % "device.events-1, __consumer_offsets-3", True),
    ],
)
def test_a_broker_that_skipped_the_markers_of_a_transaction_is_told_from_a_deleted_topic(
    tmp_path: Path, text: str, is_fault: bool
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "kafka.log").write_text(f"INFO begins\n{text}\nINFO ends\n")
    assert has_broker_fault(tmp_path) is is_fault
