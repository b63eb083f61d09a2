"""What correlate knows besides what it reads: where devices are, what people said, and what was told."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from heapq import nlargest

from confluent_kafka import KafkaException

from pipeline.controls import ControlFollower
from pipeline.kafkaread import read_all
from pipeline.registry import RegistryFollower
from pipeline.settings import Settings
from pipeline.topics import ALERTS, FINDINGS
from pipeline.trust import load_trust, trust_path
from processors.builds import BuildRegistry
from processors.correlate.controls import ControlTable
from processors.correlate.fleet import WATCHED
from processors.correlate.restoring import Restored
from processors.notices import FindingNotice, Notice, read_finding
from processors.ocsf import Activity
from schemas.errors import FormatError

TAIL = 20_000
"""So many of the newest alerts are read at a start: far more than are told before an acknowledgement."""
FINDINGS_READ = 20_000
"""So many findings of each partition are read at most, and so many of all are kept, the newest."""


def read_told(settings: Settings) -> Restored:
    """Read the newest alerts; raises KafkaReadError or KafkaException."""
    return Restored(record.value or b"" for record in read_all(settings, ALERTS, newest=TAIL))


class Tables:
    """The registry and the controls, followed; poll them from one thread only."""

    def __init__(self, settings: Settings) -> None:
        trust = load_trust(trust_path(settings))
        self._settings = settings
        self._subjects = BuildRegistry(trust)
        self._registry = RegistryFollower(settings, trust, table=self._subjects)
        self._controls = ControlFollower(settings, trust)

    @property
    def controls(self) -> ControlTable:
        """What people said, as of the last poll."""
        return self._controls.table

    def catch_up(self, on_progress: Callable[[str], None]) -> None:
        """Read both to their ends as of now; raises as `TableFollower.catch_up` does."""
        self._registry.catch_up(on_progress)
        self._controls.catch_up(on_progress)

    def poll(self) -> None:
        """Take what has arrived; while Kafka does not answer the last known view holds."""
        for follower in (self._registry, self._controls):
            try:
                follower.poll()
            except KafkaException:
                follower.try_catch_up(0.0)  # counts it, and says so once

    def placed(self, notice: Notice) -> Notice:
        """Add ward and build of a notice's device, as far as the registry knows them."""
        subject = self._subjects.subject(notice.device_id) if notice.device_id else None
        if subject is None:
            return notice
        ward = subject.attributes.get("ward", "")
        if isinstance(notice, FindingNotice):
            return replace(notice, ward=ward, build=self._subjects.builds.of(subject.did))
        return replace(notice, ward=ward) if ward else notice

    def take_left(self) -> list[str]:
        """Return the devices that have left their build since this was asked last."""
        return self._subjects.builds.take_left()

    def told(self) -> Restored:
        """Read the newest alerts; raises as `read_told` does."""
        return read_told(self._settings)

    def told_findings(self, told: Restored, window_ms: int) -> list[FindingNotice]:
        """Read the findings again that devices of one build may share, as far as alerts tell of them.

        Oldest first, and not older than `window_ms` before the newest of which an alert tells. Raises as
        `read_told` does.
        """
        if not told.newest_ms:
            return []
        return sorted(
            nlargest(FINDINGS_READ, self._found(told, told.newest_ms - window_ms), _when), key=_when
        )

    def _found(self, told: Restored, since_ms: int) -> Iterator[FindingNotice]:
        # A finding's record is younger than what was found, so none of the window stands before it.
        for record in read_all(self._settings, FINDINGS, newest=FINDINGS_READ, since_ms=since_ms):
            try:
                notice = read_finding(record)
            except FormatError:
                continue  # counted by whoever reads it for the first time
            is_opened = notice.name in WATCHED and notice.activity is Activity.CREATE
            if is_opened and notice.time_ms >= since_ms and told.is_told(notice.position):
                yield notice

    def close(self) -> None:
        """Release the clients."""
        self._registry.close()
        self._controls.close()


def _when(notice: FindingNotice) -> tuple[int, str]:
    return notice.time_ms, notice.position
