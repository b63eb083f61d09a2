"""What each output says of an alert, told to receivers that nobody here wrote where there are any."""

import asyncio
import base64
import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from pipeline.deliver.delivery import Delivery, DeliveryError, UnreadableError, read_delivery
from pipeline.deliver.sinks import make_sink
from pipeline.deliver.syslog import message_of
from processors.model import RawRecord
from schemas.partyoutputs import Output, SecretRef
from tests.kit.deployment import wait_for
from tests.kit.receivers import LOOPBACK, alertmanager, endpoint, free_port, make_certificates, rsyslog
from tests.kit.subscribed import alert_record

LOOP = (ipaddress.ip_network(LOOPBACK),)
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def delivery(number: int, uid: str = "", **changes: Any) -> Delivery:
    key, value, headers = alert_record(uid or f"device.findings/0/{number}", **changes)
    told = [
        ("party", b"soc"),
        ("party.sequence", b"%d" % number),
        ("source", b"alerts/0/%d" % (100 + number)),
    ]
    return read_delivery(RawRecord("alerts.soc", 0, number, 1_700_000_000_000, key, value, (*headers, *told)))


def output(kind: str, **members: Any) -> Output:
    return Output("one", kind, allow=LOOP, **{"secret": SecretRef(env="ONE_SECRET"), **members})


def send(one: Output, *batches: Sequence[Delivery]) -> None:
    async def all_of_them() -> None:
        sink = make_sink(one, "hospital.example")
        try:
            for batch in batches:
                await sink.send(batch)
        finally:
            await sink.reset()

    asyncio.run(all_of_them())


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONE_SECRET", SECRET)


def test_a_webhook_verifies_with_the_library_and_keeps_its_id() -> None:
    with endpoint() as receiver:
        one, two = delivery(1), delivery(2)
        send(output("webhook", url=f"{receiver.url}/hook"), [one], [two], [one])
    first, second, again = receiver.requests
    document = Webhook(SECRET).verify(first.body, first.headers)
    assert document["type"] == "attestream.alert"
    assert (document["data"]["sequence"], document["data"]["party"]) == (1, "soc")
    assert document["data"]["place"] == {"topic": "alerts", "partition": 0, "offset": 101}
    assert document["data"]["finding"]["metadata"]["uid"] == "device.findings/0/1"
    ids = [request.headers["webhook-id"] for request in receiver.requests]
    assert ids[0] == ids[2] != ids[1]
    assert "." not in ids[0]
    assert again.body == first.body
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(second.body, {**second.headers, "webhook-id": ids[0]})


def test_a_secret_that_is_none_is_told_by_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    with endpoint() as receiver:
        for bad in ("short", "whsec_AAAA", "whsec_***"):
            monkeypatch.setenv("ONE_SECRET", bad)
            with pytest.raises(DeliveryError, match=r"\$ONE_SECRET") as told:
                send(output("webhook", url=receiver.url), [delivery(1)])
            assert bad not in str(told.value)
        assert receiver.requests == []


def test_splunk_is_told_in_batches_and_must_say_code_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONE_SECRET", "0c5c4e84-token")
    with endpoint() as receiver:
        one = output("hec", url=receiver.url, index="security")
        send(one, [delivery(1), delivery(2)])
        receiver.answer = lambda _: (200, {}, '{"text":"Server is busy","code":9}')
        with pytest.raises(DeliveryError, match="code 0"):
            send(one, [delivery(3)])
    request = receiver.requests[0]
    assert (request.path, request.headers["Authorization"]) == (
        "/services/collector/event",
        "Splunk 0c5c4e84-token",
    )
    events = [json.loads(line) for line in request.body.splitlines()]
    assert [event["fields"]["sequence"] for event in events] == ["1", "2"]
    assert {event["index"] for event in events} == {"security"}
    assert events[0]["event"]["finding"]["class_uid"] == 2004


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


def test_syslog_escapes_what_would_end_its_frame() -> None:
    told: dict[str, Any] = {"finding_info": {"uid": "f", "analytic": {"uid": 'a"]\\\n<13>1'}}}
    text = message_of(delivery(1, **told), "a log\nname", "attestream@32473").decode()
    assert text.startswith("<107>1 ")
    assert text.split(" ")[2] == "a-log-name"
    assert 'rule="a\\"\\]\\\\ <13>1"]' in text
    assert "\n" not in text


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


def test_a_record_that_route_did_not_write_is_told() -> None:
    with pytest.raises(UnreadableError, match=r"alerts\.soc/0/5"):
        read_delivery(RawRecord("alerts.soc", 0, 5, 0, None, b"{}"))
