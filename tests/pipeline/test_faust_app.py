"""Faust gets the same security settings as every other client, and commits what is acknowledged alone."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from pipeline.faust_app import credentials, make_app
from pipeline.settings import Settings, UsageError


def test_plain_text_needs_none() -> None:
    assert credentials({}) is None
    assert credentials({"security.protocol": "plaintext"}) is None


def test_tls_checks_the_brokers_name() -> None:
    found = credentials({"security.protocol": "SSL"})
    assert isinstance(found.context, ssl.SSLContext)
    assert found.context.check_hostname
    assert found.context.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_sasl_with_and_without_tls(protocol: str) -> None:
    found = credentials(
        {
            "security.protocol": protocol,
            "sasl.mechanisms": "SCRAM-SHA-512",
            "sasl.username": "correlate",
            "sasl.password": "not shown",
        }
    )
    assert (found.username, found.password) == ("correlate", "not shown")
    assert (found.ssl_context is not None) == (protocol == "SASL_SSL")
    assert "not shown" not in repr(found)


def test_what_faust_does_not_speak_is_refused() -> None:
    with pytest.raises(UsageError, match=r"security\.protocol"):
        credentials({"security.protocol": "TELEPATHY"})
    with pytest.raises(UsageError, match=r"sasl\.mechanism OAUTHBEARER"):
        credentials({"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"})


# ---- what is committed -------------------------------------------------------------------------------------


class Message:
    """As much of a Faust message as an acknowledgement looks at."""

    def __init__(self, tp: Any, offset: int) -> None:
        self.tp, self.topic, self.offset, self.acked = tp, tp.topic, offset, False


class Reading:
    """A consumer of one partition without a broker: `came` hands records out, `acknowledge` in any order."""

    def __init__(self, folder: Path, committed: int | None) -> None:
        from faust.types import TP

        app: Any = make_app(Settings(data_dir=folder, bootstrap_servers="127.0.0.1:1"), "correlate", 0)
        app.topics.acks_enabled_for = lambda _topic: True
        self.consumer: Any = app.transport.create_consumer(
            callback=self._ignore, on_partitions_revoked=self._ignore, on_partitions_assigned=self._ignore
        )
        self.tp = TP("device.findings", 0)
        self.consumer._committed_offset[self.tp] = committed
        self._messages: dict[int, Message] = {}

    async def _ignore(self, *_: Any) -> None:
        pass

    def came(self, *offsets: int) -> None:
        for offset in offsets:
            self._messages[offset] = Message(self.tp, offset)
            asyncio.run(self.consumer.callback(self._messages[offset]))

    def acknowledge(self, *offsets: int) -> int | None:
        """Return what would be committed then."""
        for offset in offsets:
            self.consumer.ack(self._messages[offset])
        found: int | None = self.consumer._filter_committable_offsets([self.tp]).get(self.tp)
        return found


@pytest.mark.parametrize("committed", [None, 0, 4])
def test_a_record_that_waits_is_not_passed_over(tmp_path: Path, committed: int | None) -> None:
    """Faust's own count commits 7 at once where nothing or 4 was committed: 4 and 5 would never be told."""
    reading = Reading(tmp_path, committed)
    reading.came(4, 5, 6, 7)
    assert reading.acknowledge(5, 6) is None
    assert reading.acknowledge(4) == 7
    assert reading.acknowledge(7) == 8


def test_a_record_behind_a_marker_is_not_taken_for_one(tmp_path: Path) -> None:
    reading = Reading(tmp_path, 4)
    reading.came(4, 5)
    asyncio.run(reading.consumer._add_gap(reading.tp, 6, 9))  # as Faust notes that 9 comes after 5
    reading.came(9, 10)
    assert reading.acknowledge(4, 5, 10) == 6
    assert reading.acknowledge(9) == 11


def test_aborted_records_at_the_beginning_hold_nothing_up(tmp_path: Path) -> None:
    reading = Reading(tmp_path, 4)
    reading.came(60, 61)
    assert reading.acknowledge(60) == 61


def test_a_new_assignment_begins_anew(tmp_path: Path) -> None:
    reading = Reading(tmp_path, 4)
    reading.came(4, 5, 6)
    assert reading.acknowledge(5) is None
    asyncio.run(reading.consumer.on_partitions_revoked({reading.tp}))
    asyncio.run(reading.consumer.on_partitions_assigned({reading.tp}))
    reading.came(20, 21)  # another worker had the partition meanwhile
    assert reading.acknowledge(20) == 21
