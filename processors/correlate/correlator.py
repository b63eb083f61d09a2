"""The correlator: notices in, alerts out, and none is left out.

A notice waits with its group: `group_wait` for the first, `group_interval` for what is added. Then the group
is told: a finding by itself, many records of a device as one report, many devices as one incident. What is
held back is told too, with the status *Suppressed*, which nobody is delivered. Alerts that are not over are
cases: they are updated, repeated, acknowledged and closed under one id.

Each notice comes with the caller's token and gives it back in `Step.released` together with the alert that
tells of it. A caller that acknowledges only released tokens, after the alerts are durable, needs no stored
state: alerts say which records they tell of (`covers`), so a restart that reads the newest of them
(`restore`) knows what is told and what is not over, and whatever was not acknowledged comes again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic

from processors.alert_rules import REJECTION_RULES
from processors.correlate import telling
from processors.correlate.cases import Case, Cases
from processors.correlate.config import CorrelateConfig
from processors.correlate.controls import ControlTable
from processors.correlate.fleet import FleetDrift
from processors.correlate.groups import EVERYWHERE, Group, GroupKey, Held, T, key_of
from processors.correlate.muting import SOURCES_OF, inhibitor_of, silence_of
from processors.correlate.people import People
from processors.correlate.restoring import Restored
from processors.notices import FindingNotice, Notice, RejectionNotice
from processors.ocsf import Activity, Alert, Status

_CASES_EVERY_MS = 1_000


@dataclass(slots=True)
class Step(Generic[T]):
    """Alerts to publish, in order, and then the tokens to acknowledge."""

    alerts: list[Alert] = field(default_factory=list)
    released: list[T] = field(default_factory=list)


class Correlator(Generic[T]):
    """Groups notices; deterministic in its arguments, bounded in memory. Times are the caller's clock."""

    def __init__(self, config: CorrelateConfig | None = None) -> None:
        self._config = config or CorrelateConfig()
        self._groups: dict[GroupKey, Group[T]] = {}
        self._cases = Cases(self._config.max_cases)
        self._people = People(self._cases)
        self._fleet = FleetDrift(self._config.fleet)
        self._known: dict[str, None] = {}
        self._held = 0
        self._cases_ms = 0

    @property
    def held(self) -> int:
        """How many notices wait to be told."""
        return self._held

    @property
    def cases(self) -> Cases:
        """Alerts that are not over."""
        return self._cases

    def add(self, notice: Notice, token: T, now_ms: int) -> Step[T]:
        """Take one notice; it is told at once only where too many wait."""
        step: Step[T] = Step()
        unworthy = isinstance(notice, RejectionNotice) and notice.reason not in REJECTION_RULES
        if unworthy or notice.position in self._known:
            step.released.append(token)
            return step
        self._fleet.take(notice)
        key = key_of(notice)
        group = self._groups.get(key)
        if group is None and len(self._groups) >= self._config.max_groups:
            key = GroupKey(key.analytic, EVERYWHERE)
            group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(now_ms, now_ms + self._config.group_wait_ms)
        group.held.append(Held(notice, token))
        self._held += 1
        if self._held > self._config.max_held:
            self._tell_all(list(self._groups), now_ms, step)
        elif len(group.held) >= self._config.max_told:
            self._tell_all([key], now_ms, step)
        return step

    def tick(self, now_ms: int, controls: ControlTable | None = None) -> Step[T]:
        """Let time pass, and heed what people said: tell of groups that are due, repeat and close cases."""
        step: Step[T] = Step()
        if controls is not None:
            step.alerts += self._people.heed(controls, now_ms, self._known)
        due = [key for key, group in self._groups.items() if group.is_due(now_ms)]
        self._tell_all(due, now_ms, step)
        if not 0 <= now_ms - self._cases_ms < _CASES_EVERY_MS:
            self._cases_ms = now_ms
            step.alerts += self._look_at_cases(now_ms)
        return step

    def close(self, now_ms: int) -> Step[T]:
        """Tell of every group, before an orderly end; cases go on with the next start."""
        step: Step[T] = Step()
        self._tell_all(list(self._groups), now_ms, step)
        return step

    def reset(self) -> None:
        """Forget everything: what was not told comes again, and what was told can be read (`restore`)."""
        self._groups.clear()
        self._held = 0
        self._cases = Cases(self._config.max_cases)
        self._people = People(self._cases)
        self._fleet.reset()
        self._known.clear()

    def forget_builds(self, devices: Iterable[str]) -> None:
        """Note that devices have another model or firmware now, or are out of service."""
        self._fleet.forget(devices)

    def restore(self, restored: Restored, now_ms: int, told: Iterable[FindingNotice] = ()) -> None:
        """Go on from what the newest alerts say; `told` are findings that they tell of, oldest first."""
        self.reset()
        for case in restored.cases(now_ms):
            self._cases.keep(case)
        self._fleet.restore(told, self._cases, now_ms)
        self._known = dict.fromkeys(restored.known(self._config.max_known))

    # ---- telling ---------------------------------------------------------------------------------------

    def _tell_all(self, keys: Sequence[GroupKey], now_ms: int, step: Step[T]) -> None:
        rules = {key.analytic for key in keys}
        for alert in self._fleet.tell(rules, self._cases, self._people.in_force(now_ms), now_ms):
            self._count_suppressed(alert.suppressed_by, alert.analytic, [alert])
            step.alerts.append(alert)
        for key in self._sources_first(keys):
            group = self._groups[key]
            if not group.held:
                del self._groups[key]  # nothing was added for a whole interval
                continue
            held, group.held = group.held, []
            group.set_ms, group.due_ms = now_ms, now_ms + self._config.group_interval_ms
            self._held -= len(held)
            step.alerts += self._tell(key, [each.notice for each in held], now_ms)
            step.released += (each.token for each in held)

    def _sources_first(self, keys: Iterable[GroupKey]) -> list[GroupKey]:
        """Put what holds others back before them, also where its own time has not come."""
        wanted = list(keys)
        sources = {each for key in wanted for each in SOURCES_OF.get(key.analytic, ())}
        if not sources:
            return wanted
        early = [key for key, group in self._groups.items() if key.analytic in sources and group.held]
        return list(dict.fromkeys([*early, *wanted]))

    def _tell(self, key: GroupKey, notices: Sequence[Notice], now_ms: int) -> list[Alert]:
        """Tell of one group's notices, each with what holds it back, if anything does."""
        of_cases: dict[str, tuple[Case, list[Notice]]] = {}
        by_muter: dict[str, list[Notice]] = {}
        silences = self._people.in_force(now_ms)
        for notice in notices:
            owner = self._cases.owner_of(notice.uid) if isinstance(notice, FindingNotice) else None
            if owner is not None:
                of_cases.setdefault(owner.uid, (owner, []))[1].append(notice)
                continue
            muter = silence_of(notice, silences)
            if not muter and (inhibitor := inhibitor_of(notice, self._cases)) is not None:
                muter = inhibitor.uid
            by_muter.setdefault(muter, []).append(notice)
        alerts: list[Alert] = []
        # What is new comes first: with the end of the rest an incident that it belongs to would be over.
        for muter, found in by_muter.items():
            told = self._tell_new(key, found, now_ms, muter)
            self._count_suppressed(muter, key.analytic, told)
            alerts += told
        for case, found in of_cases.values():
            # Also where the case was forgotten for one of the new: its records must be told of.
            alerts += self._go_on(case, found, now_ms)
        return alerts

    def _tell_new(self, key: GroupKey, notices: Sequence[Notice], now_ms: int, muter: str) -> list[Alert]:
        case = self._incident(key, notices, now_ms, muter)
        if case is not None:
            return self._go_on(case, notices, now_ms)
        by_device: dict[str | None, list[Notice]] = {}
        for notice in notices:
            device = None if key.scope is EVERYWHERE else notice.device_id
            by_device.setdefault(device, []).append(notice)
        alerts: list[Alert] = []
        for found in by_device.values():
            alone: dict[str, list[FindingNotice]] = {}
            rest: list[Notice] = []
            for notice in found:
                if isinstance(notice, FindingNotice) and (
                    notice.uid in alone or len(alone) < self._config.told_findings
                ):
                    alone.setdefault(notice.uid, []).append(notice)
                else:
                    rest.append(notice)
            for findings in alone.values():
                case = telling.case_of_finding(findings[0], key.scope, now_ms, muter)
                alerts += self._go_on(case, findings, now_ms)
            if rest:
                alerts += self._go_on(self._report(key, rest[0], now_ms, muter), rest, now_ms)
        return alerts

    def _go_on(self, case: Case, notices: Sequence[Notice], now_ms: int) -> list[Alert]:
        """Tell of records of a case: of a finding's own each by itself, else as many as fit a message."""
        is_own = any(isinstance(each, FindingNotice) and each.uid == case.uid for each in notices)
        size = 1 if is_own else self._config.max_told
        alerts = []
        for at in range(0, len(notices), size):
            alert = telling.tell(case, notices[at : at + size], now_ms, self._config)
            alerts.append(alert)
            if alert.activity is Activity.CLOSE:
                self._cases.end(case)
            else:
                self._cases.keep(case)
        return alerts

    def _incident(self, key: GroupKey, notices: Sequence[Notice], now_ms: int, muter: str) -> Case | None:
        """Return the incident that notices belong to, a new one where they are of enough devices."""
        if key.scope.kind not in {"ward", "subject"}:
            return None
        devices = {each.device_id for each in notices if each.device_id is not None}
        told: dict[str, None] = {}
        for case in self._cases.of_scope(key.analytic, key.scope):
            if case.muted_by == muter:
                if case.is_incident:
                    return case
                told |= case.devices
        if len(devices | told.keys()) < self._config.incident_devices:
            return None
        made = telling.incident(key, notices[0], self._config.window_ms, now_ms, muter)
        made.devices |= told
        return made

    def _report(self, key: GroupKey, first: Notice, now_ms: int, muter: str) -> Case:
        """Return the case of many records of one device."""
        new = telling.case_of_device(key, first, self._config.window_ms, now_ms, muter)
        for case in self._cases.of_scope(key.analytic, key.scope):
            is_report = not case.is_incident and case.uid not in case.members
            if is_report and case.device_id == new.device_id and case.muted_by == muter:
                return case
        return self._cases.get(new.uid) or new

    def _count_suppressed(self, muter: str, analytic: str, told: Sequence[Alert]) -> None:
        case = self._cases.get(muter)
        if case is None:
            return
        case.suppressed[analytic] += sum(each.count for each in told)
        for each in told:
            case.list_suppressed(each.uid)

    # ---- cases in time ---------------------------------------------------------------------------------

    def _look_at_cases(self, now_ms: int) -> list[Alert]:
        alerts = []
        for case in self._cases:
            if case.is_silence:
                continue
            quiet_ms = now_ms - case.heard_ms
            quiet_after_ms = self._fleet.window_ms if case.is_fleet else self._config.resolve_after_ms
            if (case.is_fleet or not case.lasts) and not 0 <= quiet_ms < quiet_after_ms:
                self._cases.end(case)
                if case.is_event:
                    continue
                why = f"over, nothing was heard of it for {quiet_after_ms // 60_000} min"
                alerts.append(telling.close(case, why, now_ms))
            elif case.muted_by and case.lasts and self._cases.get(case.muted_by) is None:
                alerts.append(telling.unmute(case, now_ms))
            elif self._is_to_repeat(case, now_ms):
                alerts.append(telling.repeat(case, now_ms))
        return alerts

    def _is_to_repeat(self, case: Case, now_ms: int) -> bool:
        is_new = not case.muted_by and case.status is Status.NEW
        return is_new and case.lasts and now_ms - case.told_ms >= self._config.repeat_interval_ms
