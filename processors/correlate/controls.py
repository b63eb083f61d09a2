"""What people say about alerts: silences, acknowledgements, resolutions; signed, versioned and sealed.

To silence an alarm is what an intruder would do first. So an entry counts only under the rules of signed
entries (`processors.chain`): authorities signed it, and an old one cannot be said again.
"""

import re
from dataclasses import dataclass
from typing import Any

from processors.chain import EntryError, SignedTable
from processors.correlate.groups import id_of
from processors.model import RawRecord
from schemas.envelope import PayloadKind
from schemas.records import SEVERITY_RANK, Severity
from schemas.trust import TrustRoot

SILENCE_PREFIX = "silence/"
MAX_SILENCES = 1_000
MAX_VALUES = 256
MAX_COMMENT = 1_000
MAX_LENGTH_US = 30 * 86_400 * 1_000_000
"""Of a silence; whoever wants it longer says so again."""
MAX_ACTS = 10_000
_NAME = re.compile(r"silence/[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
_UID = re.compile(r"[0-9a-f]{32}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Silence:
    """Alerts of these rules, devices, wards and subjects are held back; what is left empty fits all."""

    name: str
    offset: int
    until_us: int
    severity: Severity
    """The worst that is held back."""
    rules: tuple[str, ...]
    devices: tuple[str, ...]
    wards: tuple[str, ...]
    subjects: tuple[str, ...]
    author: str
    comment: str

    @property
    def uid(self) -> str:
        """The id of the alert that tells of it."""
        return id_of(SILENCE_PREFIX, self.name, str(self.offset))

    def is_over(self, now_ms: int) -> bool:
        """Tell whether its time is over."""
        return now_ms * 1000 >= self.until_us

    def fits(self, rule: str, severity: Severity, device: str, ward: str, subject: str) -> bool:
        """Tell whether it holds back an alert of these."""
        return SEVERITY_RANK[severity] <= SEVERITY_RANK[self.severity] and all(
            not wanted or found in wanted
            for wanted, found in (
                (self.rules, rule),
                (self.devices, device),
                (self.wards, ward),
                (self.subjects, subject),
            )
        )

    def describe(self) -> str:
        """Say in a line what is held back."""
        lists = {"rule": self.rules, "device": self.devices, "ward": self.wards, "subject": self.subjects}
        parts = [f"{name} {' or '.join(values)}" for name, values in lists.items() if values]
        return ", ".join([*parts, f"up to {self.severity.value.lower()}"])


@dataclass(frozen=True, slots=True)
class Act:
    """An acknowledgement (`ACKNOWLEDGE`) or a resolution (`RESOLVE`) of the alert `uid`."""

    offset: int
    uid: str
    action: str
    time_us: int
    """When the broker took it."""
    author: str
    comment: str


class ControlTable(SignedTable):
    """Silences in force and acts, after the entries before `offset`."""

    def __init__(self, trust: TrustRoot) -> None:
        super().__init__(trust, PayloadKind.ALERT_CONTROL)
        self._entries: dict[str, tuple[int, bytes]] = {}
        self.silences: dict[str, Silence] = {}
        """By name; those whose time is over stay until they are ended or replaced."""
        self.acts: list[Act] = []
        """The newest, in their order."""
        self._taken: RawRecord | None = None

    def apply(self, record: RawRecord) -> None:
        """Take the next record of the topic; a bad one only moves the offset."""
        self._taken = record
        super().apply(record)

    def last_entry(self, subject: str) -> tuple[int, bytes]:
        """Return version and digest of a subject's last entry; 0 and b"" before the first."""
        return self._entries.get(subject, (0, b""))

    def _apply_entry(self, entry: dict[str, Any], digest: bytes, offset: int) -> None:
        subject, action = entry["subject"], entry["action"]
        is_act = action in {"ACKNOWLEDGE", "RESOLVE"}
        if not (_UID if is_act else _NAME).fullmatch(subject):
            message = f"{action} of {subject[:80]!r}, which is no {'alert' if is_act else 'silence'}"
            raise EntryError(message)
        if len(entry["comment"]) > MAX_COMMENT or len(entry["author"]) > MAX_COMMENT:
            raise EntryError(f"a comment or an author of more than {MAX_COMMENT} characters")
        self._check_follows(entry)
        if is_act:
            taken_us = self._taken.append_us if self._taken is not None else 0
            act = Act(offset, subject, action, taken_us, entry["author"], entry["comment"])
            self.acts = [*self.acts[-(MAX_ACTS - 1) :], act]
        elif action == "SILENCE":
            self._begin(_silence(entry, offset))
        elif self.silences.pop(subject.removeprefix(SILENCE_PREFIX), None) is None:
            raise EntryError(f"UNSILENCE of {subject}, which is not in force")
        self._entries[subject] = entry["version"], digest

    def _begin(self, silence: Silence) -> None:
        if silence.name not in self.silences and len(self.silences) >= MAX_SILENCES:
            raise EntryError(f"{MAX_SILENCES} silences are in force")
        self.silences[silence.name] = silence


def _silence(entry: dict[str, Any], offset: int) -> Silence:
    lists = {name: tuple(entry[name]) for name in ("rules", "devices", "wards", "subjects")}
    if not any(lists.values()):
        raise EntryError("a silence of everything: name rules, devices, wards or subjects")
    if any(len(values) > MAX_VALUES for values in lists.values()):
        raise EntryError(f"a silence with more than {MAX_VALUES} of a kind")
    if not entry["time"] < entry["until"] <= entry["time"] + MAX_LENGTH_US:
        raise EntryError("a silence that ends before it begins, or lasts more than 30 days")
    try:
        severity = Severity(entry["severity"])
    except ValueError as error:
        raise EntryError(f"{entry['severity'][:40]!r} is no severity") from error
    return Silence(
        name=entry["subject"].removeprefix(SILENCE_PREFIX),
        offset=offset,
        until_us=entry["until"],
        severity=severity,
        author=entry["author"],
        comment=entry["comment"],
        **lists,
    )
