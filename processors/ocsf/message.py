"""The Kafka record of an alert: CloudEvents Kafka Protocol Binding 1.0.2, section 3.2 (binary mode)."""

from datetime import UTC, datetime

from processors.ocsf.access import api_activity
from processors.ocsf.alert import Alert
from processors.ocsf.finding import detection_finding
from processors.ocsf.integrity import attested, canonical
from processors.ocsf.reporter import Reporter

CONTENT_TYPE = b"application/json; charset=utf-8"
EVENT_TYPE = "org.attestream.alert.v1"


def encode(alert: Alert, reporter: Reporter) -> bytes:
    """Write the value of a Kafka record: UTF-8 JSON in the form of which the fingerprint speaks."""
    render = detection_finding if alert.access is None else api_activity
    return canonical(attested(render(alert, reporter), reporter.log_name))


def headers(alert: Alert, reporter: Reporter, salt: bytes) -> list[tuple[str, bytes]]:
    """Write the CloudEvents headers, with `salt` (16 unpredictable bytes) as the extension `salt`."""
    subject = alert.device_id or alert.analytic
    texts = {
        "ce_specversion": "1.0",
        "ce_id": alert.event_uid,
        "ce_source": reporter.source,
        "ce_type": EVENT_TYPE,
        "ce_subject": subject,
        "ce_time": _rfc3339(alert.end_ms),
        "ce_salt": salt.hex(),
    }
    written = [(name, text.encode("utf-8", "replace")) for name, text in texts.items()]
    return [("content-type", CONTENT_TYPE), *written]


def _rfc3339(time_ms: int) -> str:
    seconds, milliseconds = divmod(time_ms, 1000)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        moment = datetime.fromtimestamp(0, UTC)  # broker time is never out of range; a forged one may be
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"
