"""What each output says of an alert, and that an HTTP receiver can check it."""

import base64
import json
import time
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from pipeline.deliver.delivery import DeliveryError, UnreadableError, read_delivery, rfc3339
from pipeline.deliver.syslog import message_of
from processors.model import RawRecord
from processors.ocsf import Activity, Status
from schemas.decisions import DecisionReason
from tests.kit.delivered import delivery, output, send
from tests.kit.denials import DEVICE, denied
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


def test_alertmanager_is_told_of_a_denial_as_of_a_finding() -> None:
    begun, over = denied(), denied(activity=Activity.CLOSE, status=Status.RESOLVED)
    with endpoint() as receiver:
        send(
            output("alertmanager", url=receiver.url, secret=None),
            [delivery(1, **begun)],
            [delivery(2, **over)],
        )
    first, second = (json.loads(request.body)[0] for request in receiver.requests)
    assert first["labels"] == {
        "alertname": "denied.no_permit", "severity": "informational", "finding": "00" * 16, "device": DEVICE,
        "log": "hospital.example",
    }  # fmt: skip
    assert first["annotations"]["summary"] == "No policy permits the access"
    assert first["annotations"]["description"] == begun["message"]
    assert second["labels"] == first["labels"]
    now = rfc3339(time.time_ns() // 1_000_000)
    assert second["endsAt"] < now < first["endsAt"]


def test_of_two_denials_of_one_cause_in_a_batch_alertmanager_is_told_the_last() -> None:
    one, two, other = denied(), denied(message="again"), denied(uid="11" * 16)
    with endpoint() as receiver:
        one_batch = [delivery(1, **one), delivery(2, **two), delivery(3, **other)]
        send(output("alertmanager", url=receiver.url, secret=None), one_batch)
    alerts = json.loads(receiver.requests[0].body)
    assert [each["annotations"]["sequence"] for each in alerts] == ["2", "3"]


def test_syslog_names_the_rule_of_a_denial_and_has_the_whole_event_as_text() -> None:
    event = denied(DecisionReason.STALE_REGISTRY)
    message = message_of(delivery(1, **event), "log", "attestream@32473").decode()
    assert message.startswith("<107>1 ")  # log audit, error: high
    assert 'rule="denied.stale_registry"' in message
    assert json.loads(message.partition("\ufeff")[2])["api"]["operation"] == "bolus"


def test_splunk_and_webhooks_carry_a_denial_whole() -> None:
    event = denied()
    with endpoint() as receiver:
        send(output("webhook", url=receiver.url), [delivery(1, **event)])
        send(output("hec", url=receiver.url), [delivery(1, **event)])
    webhook, hec = (json.loads(request.body) for request in receiver.requests)
    assert webhook["data"]["finding"]["actor"] == hec["event"]["finding"]["actor"] == event["actor"]
    assert hec["fields"]["severity"] == "informational"
    assert hec["time"] == event["time"] / 1000


def test_a_record_that_route_did_not_write_is_told() -> None:
    with pytest.raises(UnreadableError, match=r"alerts\.soc/0/5"):
        read_delivery(RawRecord("alerts.soc", 0, 5, 0, None, b"{}"))
