"""Many devices of one build that begin to drift alike: the cause is not at a bedside.

One monitor's drift is a sensor or a patient. The same rule about the same signal on several devices of one
model and firmware within some hours, and on a share of them that chance does not reach, is an update, a batch
of sensors, or somebody who reaches all of them.

Nothing here is stored. What was told stands in `alerts`, and the findings that were told are read again after
a restart (`restore`): so the memory is what it was. The alert about a build is made before the findings that
complete it are told, so whatever is known to be told was told after it.
"""

from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

from processors.alert_rules import FINDING_RULES
from processors.builds import Build
from processors.correlate import telling
from processors.correlate.cases import FLEET_DRIFT, Case, Cases
from processors.correlate.controls import Silence
from processors.correlate.groups import BUILD, Scope, id_of, message_id
from processors.detect.config import MAX_FLEET_DEVICES, FleetLimits
from processors.notices import FindingNotice, Notice
from processors.ocsf import Activity, Alert, Incident, Status
from schemas.records import EvidenceRef, Severity

WATCHED = frozenset({"drift", "step", "quantised", "plausibility", "clock"})
"""Rules whose findings may have a cause that devices of one build share."""
SEVERITY = Severity.HIGH
_MAX_GROUPS = 1024
_MAX_SIGHTINGS = 50_000
"""Of all groups; beyond, the groups are forgotten of which nothing was found for longest."""
_SHOWN = 16


class Key(NamedTuple):
    """What devices have in common: their build, and what one rule found of one signal."""

    model: str
    firmware: str
    rule: str
    code: str

    @property
    def uid(self) -> str:
        """The id of the alert: the same whichever device completes it, and after every restart."""
        return id_of(FLEET_DRIFT, *self)


class _Sighting(NamedTuple):
    """The newest finding about one device; the order is that of broker time, then of places."""

    time_ms: int
    position: str
    uid: str
    evidence: EvidenceRef | None


class _Group:
    """Devices with the same `Key`, oldest first, none older than the window before the newest."""

    __slots__ = ("build", "found", "signal")

    def __init__(self, build: Build) -> None:
        self.build = build
        self.signal = ""
        self.found: dict[str, _Sighting] = {}

    def take(self, device_id: str, sighting: _Sighting, window_ms: float) -> None:
        """Note a finding; in whichever order they come, the same is kept."""
        newest = next(reversed(self.found.values()), sighting)
        if sighting.time_ms < newest.time_ms - window_ms:
            return
        known = self.found.pop(device_id, sighting)
        self.found[device_id] = max(known, sighting)
        if sighting < newest:
            self.found = dict(sorted(self.found.items(), key=lambda each: each[1]))
        oldest_ms = max(sighting, newest).time_ms - window_ms
        while len(self.found) > MAX_FLEET_DEVICES or next(iter(self.found.values())).time_ms < oldest_ms:
            del self.found[next(iter(self.found))]


def key_of(notice: Notice) -> Key | None:
    """Say what a finding may have in common with others; None where nothing is watched or known."""
    if not isinstance(notice, FindingNotice) or notice.name not in WATCHED or notice.build is None:
        return None
    if notice.time_ms * 1000 < notice.build.since_us:
        return None  # found of what the device was before
    build = notice.build
    return Key(build.model, build.firmware, notice.name, notice.parameters.get("code", ""))


class FleetDrift:
    """Remembers findings of devices by build; bounded to 1024 groups of 500 devices, 50,000 in all."""

    def __init__(self, limits: FleetLimits) -> None:
        self._limits = limits
        self._groups: dict[Key, _Group] = {}
        self._changed: dict[Key, None] = {}
        self._sightings = 0

    @property
    def window_ms(self) -> int:
        """For so long findings count, and nothing of the kind must be found for an alert to be over."""
        return round(self._limits.window_s * 1000)

    def reset(self) -> None:
        """Forget everything."""
        self._groups.clear()
        self._changed.clear()
        self._sightings = 0

    def restore(self, told: Iterable[FindingNotice], cases: Cases, now_ms: int) -> None:
        """Go on from findings that were told, of which nothing is to be told any more."""
        for notice in told:
            self.take(notice)
        for key in self._changed:
            case, group = cases.get(key.uid), self._groups.get(key)
            if case is not None and group is not None:
                newest_ms = max(each.time_ms for each in group.found.values())
                case.heard_ms = max(case.heard_ms, min(newest_ms, now_ms))
        self._changed.clear()

    def forget(self, devices: Iterable[str]) -> None:
        """Leave out devices that are no longer what they were; rare, as entries of the registry are."""
        for device_id in devices:
            for key, group in list(self._groups.items()):
                self._sightings -= group.found.pop(device_id, None) is not None
                if not group.found:
                    del self._groups[key]

    def take(self, notice: Notice) -> None:
        """Count a finding that opened; `tell` says what it comes to."""
        key = key_of(notice)
        if key is None or not isinstance(notice, FindingNotice) or notice.build is None:
            return
        if notice.activity is not Activity.CREATE:
            return
        group = self._groups.pop(key, None) or _Group(notice.build)
        self._groups[key] = group  # the newest last
        group.build, group.signal = notice.build, notice.parameters.get("signal", "")
        evidence = notice.evidence[-1] if notice.evidence else None
        sighting = _Sighting(notice.time_ms, notice.position, notice.uid, evidence)
        before = len(group.found)
        group.take(notice.device_id, sighting, self.window_ms)
        self._sightings += len(group.found) - before
        self._changed[key] = None
        while len(self._groups) > _MAX_GROUPS or self._sightings > _MAX_SIGHTINGS:
            oldest = next(iter(self._groups))
            self._sightings -= len(self._groups.pop(oldest).found)
            self._changed.pop(oldest, None)

    def tell(
        self, rules: Container[str], cases: Cases, silences: Iterable[Silence], now_ms: int
    ) -> Iterator[Alert]:
        """Tell of builds about which findings of these rules were taken, where there are too many alike."""
        silence = next((e.uid for e in silences if e.fits(FLEET_DRIFT, SEVERITY, "", "", "")), "")
        for key in [each for each in self._changed if each.rule in rules]:
            del self._changed[key]
            group, case = self._groups.get(key), cases.get(key.uid)
            if group is None or (case is None and not self._is_too_many(group)):
                continue
            case = case or _begin(key, silence, now_ms)
            case.heard_ms = now_ms
            room = MAX_FLEET_DEVICES - len(case.devices)
            new = [each for each in group.found.items() if each[0] not in case.devices][:room]
            if new:
                yield self._tell(key, group, case, dict(new), now_ms)
                cases.keep(case)

    def _is_too_many(self, group: _Group) -> bool:
        share = min(round(self._limits.share * group.build.devices, 6), MAX_FLEET_DEVICES)
        return len(group.found) >= max(self._limits.devices, share)

    def _tell(self, key: Key, group: _Group, case: Case, new: dict[str, _Sighting], now_ms: int) -> Alert:
        limits, sightings = self._limits, list(new.values())
        case.devices |= dict.fromkeys(new)
        case.told_ms = now_ms
        case.first_ms = min(case.first_ms, *(each.time_ms for each in sightings))
        case.last_ms = max(case.last_ms, *(each.time_ms for each in sightings))
        of_what = f"`{key.rule}` of {group.signal}" if group.signal else f"`{key.rule}`"
        return telling.message_of(
            case,
            event_uid=f"{case.uid}/{message_id([each.position for each in sightings])}",
            activity=Activity.UPDATE if case.messages else Activity.CREATE,
            message=(
                f"{len(group.found)} of {group.build.devices} devices of model {key.model} with firmware "
                f"{key.firmware} show {of_what} within {limits.window_s / 3600:g} h: look at the build, not "
                "at the bedsides alone"
            ),
            start_ms=min(each.time_ms for each in sightings),
            end_ms=max(each.time_ms for each in sightings),
            count=0,  # each finding is told in an alert of its own
            evidence=tuple(each.evidence for each in sightings[-_SHOWN:] if each.evidence is not None),
            related=tuple((each.uid, Activity.CREATE.name.capitalize()) for each in sightings),
            incident=Incident(tuple(new), len(case.devices)),
            score=round(len(group.found) / limits.devices, 1),
            parameters={
                "model": key.model,
                "firmware": key.firmware,
                "of_rule": key.rule,
                "signal": group.signal,
                "found": str(len(group.found)),
                "in_service": str(group.build.devices),
                "limit": str(limits.devices),
                "share": f"{limits.share:g}",
                "window_s": f"{limits.window_s:g}",
                "config": limits.digest,
            },
        )


def _begin(key: Key, muted_by: str, now_ms: int) -> Case:
    rule = FINDING_RULES[FLEET_DRIFT]
    return Case(
        uid=key.uid,
        analytic=FLEET_DRIFT,
        scope=Scope(BUILD, f"{key.model} {key.firmware}"),
        title=rule.title,
        types=rule.types,
        severity=SEVERITY,
        first_ms=now_ms,
        last_ms=0,
        heard_ms=now_ms,
        told_ms=now_ms,
        techniques=rule.techniques,
        is_incident=True,
        members={key.uid: True},
        muted_by=muted_by,
        status=Status.SUPPRESSED if muted_by else Status.NEW,
    )
