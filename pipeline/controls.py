"""What people say about alerts: correlate follows `alerts.control`, an authority publishes to it."""

import getpass
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline import metrics
from pipeline.entries import EntryWriter
from pipeline.following import TableFollower
from pipeline.settings import Settings
from pipeline.topics import CONTROLS
from pipeline.trust import load_trust, trust_path
from processors.correlate.controls import SILENCE_PREFIX, ControlTable
from schemas.envelope import PayloadKind, SignedEnvelope
from schemas.records import Severity
from schemas.signing import SigningIdentity
from schemas.trust import TrustRoot

_NO_FILTER: Mapping[str, Sequence[str]] = {"rules": (), "devices": (), "wards": (), "subjects": ()}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a silence holds back, for how long, and up to which severity."""

    seconds: float
    severity: Severity
    lists: Mapping[str, Sequence[str]]
    """By `rules`, `devices`, `wards` and `subjects`; one that is left out fits all."""


class ControlFollower(TableFollower[ControlTable]):
    """Owns a consumer of the topic and the table that it fills."""

    stale = "what people say of alerts is STALE"

    def __init__(self, settings: Settings, trust: TrustRoot) -> None:
        super().__init__(settings, ControlTable(trust), CONTROLS, "controls", metrics.CONTROLS_UNREAD)


class ControlAuthority:
    """Writes entries in the name of one authority key; raises EntryWriteError.

    With `signs_only` an entry is kept in `signed`, for others to sign too, and not published.
    """

    def __init__(
        self, settings: Settings, identity: SigningIdentity | None = None, *, signs_only: bool = False
    ) -> None:
        follower = ControlFollower(settings, load_trust(trust_path(settings)))
        self._writer = EntryWriter(settings, follower, PayloadKind.ALERT_CONTROL, identity)
        self._signs_only = signs_only
        self.signed: SignedEnvelope | None = None
        self.submit, self.close = self._writer.submit, self._writer.close

    @property
    def table(self) -> ControlTable:
        """What was said, as of the last write or the beginning."""
        return self._writer.table

    def silence(self, name: str, wanted: "Wanted", author: str, comment: str) -> None:
        """Hold alerts back; replaces a silence of that name."""
        until = time.time_ns() // 1000 + int(wanted.seconds * 1e6)
        more = {**wanted.lists, "until": until, "severity": wanted.severity.value}
        return self._say(SILENCE_PREFIX + name, "SILENCE", author, comment, more)

    def unsilence(self, name: str, author: str, comment: str) -> None:
        """End a silence."""
        return self._say(SILENCE_PREFIX + name, "UNSILENCE", author, comment)

    def acknowledge(self, uid: str, author: str, comment: str) -> None:
        """Say that somebody has taken an alert up."""
        return self._say(uid, "ACKNOWLEDGE", author, comment)

    def resolve(self, uid: str, author: str, comment: str) -> None:
        """Say that an alert is over."""
        return self._say(uid, "RESOLVE", author, comment)

    def _say(
        self, subject: str, action: str, author: str, comment: str, more: Mapping[str, Any] | None = None
    ) -> None:
        body = {
            **_NO_FILTER,
            "until": 0,
            "severity": "",
            "author": author,
            "comment": comment,
            **(more or {}),
        }
        body["author"] = body["author"] or getpass.getuser()
        if self._signs_only:
            self.signed = self._writer.sign(subject, action, body)
        else:
            self._writer.write([(subject, action, body)])
