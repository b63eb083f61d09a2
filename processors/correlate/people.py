"""What people said, carried out: silences begin and end, alerts are acknowledged and resolved."""

from collections.abc import Container, Iterable, Mapping

from processors.correlate import telling
from processors.correlate.cases import Case, Cases
from processors.correlate.controls import Act, ControlTable, Silence
from processors.correlate.groups import Scope, id_of
from processors.ocsf import Alert
from schemas.records import Severity

CONTROLS = "alerts.control"
SILENCED = "silenced"
"""The rule of the alert that tells of a silence."""
IGNORED = "control_rejected"
_TYPES = ("Alert handling",)


def place_of(offset: int) -> str:
    """Return the place of an entry."""
    return f"{CONTROLS}/0/{offset}"


class People:
    """Carries out a table of controls on cases; remembers up to where."""

    def __init__(self, cases: Cases) -> None:
        self._cases = cases
        self._silences: Mapping[str, Silence] = {}
        self._heeded_until = 0

    def in_force(self, now_ms: int) -> list[Silence]:
        """Return the silences whose time is not over, in the order of their entries."""
        return [each for each in self._silences.values() if not each.is_over(now_ms)]

    def heed(self, table: ControlTable, now_ms: int, known: Container[str]) -> list[Alert]:
        """Carry out what is new; `known` holds places that alerts before a restart told of."""
        self._silences = table.silences
        alerts = [*self._begin(now_ms), *self._end(now_ms)]
        for act in table.acts:
            if act.offset >= self._heeded_until:
                alerts += self._act(act, now_ms, known)
        for entry in table.ignored:
            place = place_of(entry.source.offset)
            if entry.source.offset >= self._heeded_until and place not in known:
                alerts.append(_rejected(place, entry.detail, entry.source.append_ms, now_ms))
        self._heeded_until = table.offset
        return alerts

    def _begin(self, now_ms: int) -> Iterable[Alert]:
        for silence in self.in_force(now_ms):
            if self._cases.get(silence.uid) is not None:
                continue
            case = Case(
                uid=silence.uid,
                analytic=SILENCED,
                scope=Scope("silence", silence.name),
                title="Alerts are silenced",
                types=_TYPES,
                severity=Severity.LOW,
                first_ms=now_ms,
                last_ms=now_ms,
                heard_ms=now_ms,
                told_ms=now_ms,
                is_silence=True,
            )
            comment = _said(silence.author, silence.comment)
            yield telling.announce(case, silence.describe(), place_of(silence.offset), comment)
            self._cases.keep(case)

    def _end(self, now_ms: int) -> Iterable[Alert]:
        kept = {each.uid for each in self.in_force(now_ms)}
        for case in self._cases:
            if case.is_silence and case.uid not in kept:
                held_back = sum(case.suppressed.values())
                case.last_ms = now_ms
                yield telling.close(case, f"over, {held_back} records were held back", now_ms)
                self._cases.end(case)

    def _act(self, act: Act, now_ms: int, known: Container[str]) -> Iterable[Alert]:
        place, case = place_of(act.offset), self._cases.get(act.uid)
        # What was said of an earlier life of the alert does not count for this one.
        if case is None or case.is_silence or place in known or act.time_us < case.first_ms * 1000:
            return
        comment = _said(act.author, act.comment)
        if act.action == "RESOLVE":
            yield telling.close(case, "resolved", now_ms, place, comment)
            self._cases.end(case)
        elif act.action == "ACKNOWLEDGE" and not case.muted_by:
            yield telling.acknowledge(case, now_ms, place, comment)


def _said(author: str, comment: str) -> str:
    return ": ".join(filter(None, (author, comment)))


def _rejected(place: str, detail: str, append_ms: int, now_ms: int) -> Alert:
    case = Case(
        uid=id_of(IGNORED, place),
        analytic=IGNORED,
        scope=Scope("control", ""),
        title="Word about alerts was ignored",
        types=_TYPES,
        severity=Severity.HIGH,
        first_ms=append_ms,
        last_ms=append_ms,
        heard_ms=now_ms,
        told_ms=now_ms,
    )
    return telling.announce(case, detail, place, "")
