"""Many devices of one model or firmware that begin to drift alike: the cause is not at a bedside.

One monitor's drift is a sensor or a patient. The same rule about the same signal on several devices of one
build within some hours, and on a share of them that chance does not reach, is an update, a batch of
sensors, or somebody who reaches all of them.
"""

from collections import OrderedDict
from dataclasses import dataclass

from schemas.records import EvidenceRef, Finding, FindingStatus, Severity

RULE = "fleet_drift"
WATCHED = frozenset({"drift", "step", "quantised", "plausibility", "clock"})
"""Rules whose findings may have a cause that devices of one build share."""
_MAX_GROUPS = 1024
_MAX_DEVICES = 512
_SHOWN = 16


@dataclass(frozen=True, slots=True)
class FleetLimits:
    """How many devices, and which share of those of the build, within `window_s` of broker time."""

    devices: int = 4
    share: float = 0.1
    window_s: float = 14_400.0


@dataclass(frozen=True, slots=True)
class Build:
    """Model and firmware, as the registry has them, and how many devices in service have both."""

    model: str
    firmware: str
    devices: int


class _Group:
    """Devices of one build about which one rule found the same: time and evidence of each, oldest first."""

    __slots__ = ("device_id", "found", "told")

    def __init__(self) -> None:
        self.found: OrderedDict[str, tuple[int, EvidenceRef | None]] = OrderedDict()
        self.told = 0
        self.device_id = ""
        """The finding about the build names the device that completed it, and keeps its name."""


class FleetDrift:
    """Takes findings of single devices in the order of broker time; bounded to 1024 groups of 512 devices."""

    def __init__(self, limits: FleetLimits | None = None) -> None:
        self._limits = limits or FleetLimits()
        self._groups: OrderedDict[tuple[str, str, str, str], _Group] = OrderedDict()

    def take(self, finding: Finding, build: Build) -> Finding | None:
        """Count a finding that opened; return one about the build where there are too many alike.

        It is told once when it begins and again at twice, four times, ... as many devices.
        """
        if finding.status is not FindingStatus.OPENED or finding.rule not in WATCHED:
            return None
        key = (build.model, build.firmware, finding.rule, finding.parameters.get("code", ""))
        group = self._groups.setdefault(key, _Group())
        self._groups.move_to_end(key)
        if len(self._groups) > _MAX_GROUPS:
            self._groups.popitem(last=False)
        found = group.found
        found.pop(finding.device_id, None)
        found[finding.device_id] = (finding.time_us, finding.evidence[-1] if finding.evidence else None)
        oldest_us = finding.time_us - self._limits.window_s * 1e6
        while len(found) > _MAX_DEVICES or next(iter(found.values()))[0] < oldest_us:
            found.popitem(last=False)
        count = len(found)
        if count < self._limits.devices or count < self._limits.share * build.devices:
            if count < self._limits.devices:
                group.told = 0
            return None
        if group.told and count < 2 * group.told:
            return None
        status = FindingStatus.UPDATED if group.told else FindingStatus.OPENED
        if not group.told:
            group.device_id = finding.device_id
        group.told = count
        return self._finding(finding, build, group, status)

    def _finding(
        self,
        last: Finding,
        build: Build,
        group: _Group,
        status: FindingStatus,
    ) -> Finding:
        found = group.found
        signal = last.parameters.get("signal", "")
        newest = list(found.values())[-_SHOWN:]
        of_what = f" of {signal}" if signal else ""
        return Finding(
            rule=RULE,
            severity=Severity.HIGH,
            device_id=group.device_id,
            time_us=last.time_us,
            explanation=(
                f"{len(found)} of {build.devices} devices of model {build.model} with firmware "
                f"{build.firmware} show `{last.rule}`{of_what} within {self._limits.window_s / 3600:g} h: "
                "look at the build, not at the bedsides"
            ),
            evidence=tuple(reference for _, reference in newest if reference is not None),
            score=round(len(found) / self._limits.devices, 1),
            status=status,
            parameters={
                "model": build.model,
                "firmware": build.firmware,
                "of_rule": last.rule,
                "signal": signal,
                "devices": str(len(found)),
                "limit": str(self._limits.devices),
                "share": f"{self._limits.share:g}",
                "config": last.parameters.get("config", ""),
            },
            cause=f"{build.model}/{build.firmware}/{last.rule}/{last.parameters.get('code', '')}",
        )
