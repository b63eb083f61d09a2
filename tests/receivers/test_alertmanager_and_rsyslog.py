"""Alerts told to receivers that nobody here wrote: a Prometheus Alertmanager, and an rsyslog with TLS.

They come from Debian's packages prometheus-alertmanager, rsyslog and rsyslog-gnutls: `make conformance`.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.deliver.delivery import DeliveryError
from pipeline.deliver.sinks import make_sink
from schemas.partyoutputs import Output
from tests.kit.delivered import LOOP, delivery, output, send
from tests.kit.deployment import wait_for
from tests.kit.receivers import alertmanager, free_port, make_certificates, rsyslog


def test_alertmanager_holds_one_alert_a_finding_until_it_is_closed(tmp_path: Path) -> None:
    with alertmanager(tmp_path) as receiver:
        one = output("alertmanager", url=receiver.url, secret=None)
        mine: dict[str, Any] = {
            "finding_info": {"uid": "f-1", "title": "Stuck", "analytic": {"uid": "stuck"}}
        }
        send(one, [delivery(1, **mine), delivery(2, activity_id=2, **mine)], [delivery(3)], [delivery(3)])

        def held() -> dict[str, dict[str, Any]] | None:
            found = {each["labels"]["finding"]: each for each in receiver.alerts()}
            return found if len(found) == 2 else None

        found = wait_for(held, "two alerts are active")
        assert found["f-1"]["annotations"]["sequence"] == "2"
        assert found["f-1"]["labels"] == {
            "alertname": "stuck", "severity": "high", "finding": "f-1", "device": "did:key:zDevice",
            "log": "hospital.example",
        }  # fmt: skip
        send(one, [delivery(4, activity_id=3, **mine)])
        wait_for(lambda: [a["labels"]["finding"] for a in receiver.alerts()] == [
            "f-device.findings/0/3"], "the closed one is gone")  # fmt: skip


def test_rsyslog_takes_alerts_over_tls_and_again_after_its_death(tmp_path: Path) -> None:
    certificates, long = make_certificates(tmp_path), "x" * 20_000
    port = free_port()
    one = Output("one", "syslog", address=("127.0.0.1", port), allow=LOOP, ca=str(certificates.ca))

    async def story() -> None:
        sink = make_sink(one, "hospital.example")
        with rsyslog(tmp_path, certificates, port) as first:
            await sink.send([delivery(1), delivery(2, message=long)])
            wait_for(lambda: len(first.messages()) == 2, "two messages arrive")
            told = first.messages()
        assert 'sequence="2"' in told[1]["sd"]
        assert json.loads(told[1]["text"].lstrip().lstrip("\ufeff"))["message"] == long
        assert (told[0]["app"], told[0]["host"]) == ("attestream", "hospital.example")
        assert told[0]["severity"] == "err"
        with pytest.raises(DeliveryError):
            await sink.send([delivery(3)])
        with rsyslog(tmp_path, certificates, port) as again:
            await sink.send([delivery(5)])
            wait_for(lambda: 'sequence="5"' in again.messages()[-1]["sd"], "it goes on")
            # What was sent shortly before it died is sent again: nobody can know that it was read.
            assert sum('sequence="2"' in each["sd"] for each in again.messages()) == 2
        await sink.reset()

    asyncio.run(story())


def test_a_receiver_with_a_stranger_s_certificate_is_told_nothing(tmp_path: Path) -> None:
    mine, others = tmp_path / "mine", tmp_path / "others"
    mine.mkdir()
    others.mkdir()
    believed = make_certificates(mine)
    with rsyslog(others, make_certificates(others)) as receiver:
        one = Output("one", "syslog", address=("127.0.0.1", receiver.port), allow=LOOP, ca=str(believed.ca))
        with pytest.raises(DeliveryError, match=r"(?i)certificate"):
            send(one, [delivery(1)])
        assert receiver.messages() == []
