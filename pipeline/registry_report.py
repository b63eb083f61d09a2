"""Reports signed entries that were ignored, each once: an old registration replayed shows as a finding.

Every worker sees them; the one that owns partition 0 of the lifecycle topic reports, and remembers in that
partition's state up to where it has, so that a restart neither repeats nor skips one.
"""

from dataclasses import dataclass

from pipeline.devices import PartitionStates
from pipeline.statestore import Partition
from pipeline.topics import LIFECYCLE_RAW, POLICIES, REGISTRY
from processors.chain import IgnoredEntry, SignedTable
from schemas.records import EvidenceRef, Finding, Severity

REPORTER: Partition = (LIFECYCLE_RAW, 0)
MAX_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Reported:
    """Entries of one topic, and how findings name them."""

    topic: str
    rule: str
    noun: str
    state_key: str
    """No DID begins so. That state's `sequence` holds the topic's offset up to which was reported."""


REGISTRY_ENTRIES = Reported(REGISTRY, "registry_rejected", "registry", "\x00registry")
POLICY_ENTRIES = Reported(POLICIES, "policy_rejected", "policy", "\x00policies")
REPORTED = (REGISTRY_ENTRIES, POLICY_ENTRIES)


def findings(table: SignedTable, states: PartitionStates, what: Reported = REGISTRY_ENTRIES) -> list[Finding]:
    """Make findings of ignored entries not reported yet, and mark the state when there are any."""
    state = states.state_of(what.state_key)
    found = []
    if table.forgotten_before > state.sequence:
        found.append(_flood(state.sequence, table, what))
        state.sequence = table.forgotten_before
    new = [entry for entry in table.ignored if entry.source.offset >= state.sequence][:MAX_AT_ONCE]
    if new:
        found += [_finding(entry, what) for entry in new]
        state.sequence = new[-1].source.offset + 1
    if found:
        states.touch(what.state_key, state)
    return found


def _flood(first_offset: int, table: SignedTable, what: Reported) -> Finding:
    last_offset = table.forgotten_before - 1
    return Finding(
        rule=what.rule,
        severity=Severity.HIGH,
        device_id="unknown",
        time_us=table.ignored[0].source.append_us,
        explanation=(
            f"{what.noun.capitalize()} entries between offsets {first_offset} and {last_offset} were "
            "ignored, more than can be reported one by one."
        ),
        evidence=(EvidenceRef(what.topic, 0, last_offset),),
    )


def _finding(entry: IgnoredEntry, what: Reported) -> Finding:
    return Finding(
        rule=what.rule,
        severity=Severity.HIGH,
        device_id=entry.subject,
        time_us=entry.source.append_us,
        explanation=f"A {what.noun} entry was ignored: {entry.detail}.",
        evidence=(entry.source.reference(),),
    )
