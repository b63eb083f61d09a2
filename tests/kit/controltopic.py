"""The topic of what people say about alerts, without a broker, and the table that correlate makes of it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from processors.correlate.controls import ControlTable
from processors.model import RawRecord
from schemas.codec import CODEC
from schemas.envelope import PayloadKind, SignedEnvelope
from schemas.trust import TrustRoot
from tests.kit.noticed import NOW
from tests.kit.parties import AUTHORITIES, LOG, TRUST, identity_of

TOPIC = "alerts.control"
HOUR_US = 3_600_000_000


def control_payload(subject: str, version: int, previous: bytes, action: str, **more: Any) -> bytes:
    record = {
        "subject": subject, "version": version, "previous_digest": previous, "action": action,
        "time": NOW * 1000, "until": 0, "severity": "", "author": "Ida", "comment": "known work",
        "rules": [], "devices": [], "wards": [], "subjects": [],
    }  # fmt: skip
    return CODEC.encode(PayloadKind.ALERT_CONTROL.value, {**record, **more})


def signed_control(payload: bytes, signers: Sequence[str] = AUTHORITIES[:1]) -> bytes:
    signatures = tuple(
        replace(identity_of(name), key_id=name).sign(PayloadKind.ALERT_CONTROL, LOG, payload)
        for name in signers
    )
    return SignedEnvelope(payload, signatures).encode()


class ControlTopic:
    """Entries in their order; `now_ms` is when the broker takes the next one."""

    def __init__(self, trust: TrustRoot = TRUST) -> None:
        self.table = ControlTable(trust)
        self.records: list[RawRecord] = []
        self.now_ms = NOW

    def put(self, key: bytes | None, value: bytes | None) -> RawRecord:
        record = RawRecord(TOPIC, 0, len(self.records), self.now_ms, key, value)
        self.records.append(record)
        self.table.apply(record)
        return record

    def say(self, subject: str, action: str, **more: Any) -> None:
        """Say it as an honest authority does; it must be taken."""
        ignored = len(self.table.ignored)
        version, digest = self.table.last_entry(subject)
        payload = control_payload(subject, version + 1, digest, action, **more)
        self.put(subject.encode(), signed_control(payload))
        assert len(self.table.ignored) == ignored, self.table.ignored[-1].detail

    def silence(self, name: str, hours: float = 1, severity: str = "HIGH", **more: Any) -> None:
        until = NOW * 1000 + round(hours * HOUR_US)
        self.say(f"silence/{name}", "SILENCE", until=until, severity=severity, **more)

    def refused(self, subject: str, action: str, **more: Any) -> str:
        """Say it, signed rightly; it must be ignored. Returns why."""
        version, digest = self.table.last_entry(subject)
        before = len(self.table.ignored)
        self.put(
            subject.encode(), signed_control(control_payload(subject, version + 1, digest, action, **more))
        )
        assert len(self.table.ignored) == before + 1
        return self.table.ignored[-1].detail

    def again(self) -> ControlTable:
        """Return the table as a process that starts now reads it."""
        table = ControlTable(TRUST)
        for record in self.records:
            table.apply(record)
        return table
