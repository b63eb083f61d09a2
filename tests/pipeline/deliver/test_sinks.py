"""What each output says of an alert, and that an HTTP receiver can check it."""

import base64
import json
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from pipeline.deliver.delivery import DeliveryError, UnreadableError, read_delivery
from pipeline.deliver.syslog import message_of
from processors.model import RawRecord
from tests.kit.delivered import delivery, output, send
from tests.kit.receivers import endpoint

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


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


def test_syslog_escapes_what_would_end_its_frame() -> None:
    told: dict[str, Any] = {"finding_info": {"uid": "f", "analytic": {"uid": 'a"]\\\n<13>1'}}}
    text = message_of(delivery(1, **told), "a log\nname", "attestream@32473").decode()
    assert text.startswith("<107>1 ")
    assert text.split(" ")[2] == "a-log-name"
    assert 'rule="a\\"\\]\\\\ <13>1"]' in text
    assert "\n" not in text


def test_a_record_that_route_did_not_write_is_told() -> None:
    with pytest.raises(UnreadableError, match=r"alerts\.soc/0/5"):
        read_delivery(RawRecord("alerts.soc", 0, 5, 0, None, b"{}"))
