"""Reports registry entries that were ignored, each once: an old registration replayed shows as a finding.

Every worker sees them; the one that owns partition 0 of the lifecycle topic reports, and remembers in that
partition's state up to where it has, so that a restart neither repeats nor skips one.
"""

from pipeline.devices import PartitionStates
from pipeline.statestore import Partition
from pipeline.topics import LIFECYCLE_RAW, REGISTRY
from processors.registry import IgnoredEntry, Registry
from schemas.records import EvidenceRef, Finding, Severity

REPORTER: Partition = (LIFECYCLE_RAW, 0)
STATE_KEY = "\x00registry"
"""No DID begins so. The state's `sequence` holds the registry offset up to which was reported."""
MAX_AT_ONCE = 500


def findings(registry: Registry, states: PartitionStates) -> list[Finding]:
    """Make findings of ignored entries not reported yet, and mark the state when there are any."""
    state = states.state_of(STATE_KEY)
    found = []
    if registry.forgotten_before > state.sequence:
        found.append(_flood(state.sequence, registry))
        state.sequence = registry.forgotten_before
    new = [entry for entry in registry.ignored if entry.source.offset >= state.sequence][:MAX_AT_ONCE]
    if new:
        found += [_finding(entry) for entry in new]
        state.sequence = new[-1].source.offset + 1
    if found:
        states.touch(STATE_KEY, state)
    return found


def _flood(first_offset: int, registry: Registry) -> Finding:
    last_offset = registry.forgotten_before - 1
    return Finding(
        rule="registry_rejected",
        severity=Severity.HIGH,
        device_id="unknown",
        time_us=registry.ignored[0].source.append_us,
        explanation=(
            f"Registry entries between offsets {first_offset} and {last_offset} were ignored, more than can "
            "be reported one by one."
        ),
        evidence=(EvidenceRef(REGISTRY, 0, last_offset),),
    )


def _finding(entry: IgnoredEntry) -> Finding:
    return Finding(
        rule="registry_rejected",
        severity=Severity.HIGH,
        device_id=entry.subject,
        time_us=entry.source.append_us,
        explanation=f"A registry entry was ignored: {entry.detail}.",
        evidence=(entry.source.reference(),),
    )
