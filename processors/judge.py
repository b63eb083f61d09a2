"""Judge: one batch of one raw topic-partition through authenticate, admit and detect.

Everything here is a pure function of the records, the registry and the state; the stage around it reads,
writes and commits.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from processors.admit import admit
from processors.authenticate import REGISTRY_MISSES, Authenticate, Verdict
from processors.detect import SilenceRule
from processors.model import Batch, Outcome, Rejection, VerifiedEvent
from processors.registry import Registry
from processors.splice import Splice, all_anew
from processors.state import DeviceState
from schemas.noise import NoiseBlock
from schemas.records import EvidenceRef, Finding


class Detectors(Protocol):
    """Detectors of one kind of event; their state is opaque to everybody else and travels as bytes."""

    def new(self) -> Any:
        """Return the state of a device never seen."""

    def load(self, data: bytes) -> Any:
        """Read a state."""

    def dump_changes(self, states: Sequence[Any], is_whole: Sequence[bool]) -> list[bytes | Splice]:
        """Write states: whole, or how each differs from what was last written whole or loaded.

        Whole at least where `is_whole` says so. `load` gives back exactly each.
        """

    def process(self, events: Sequence[VerifiedEvent], state_of: Callable[[str], Any]) -> list[Finding]:
        """Look at accepted events in order and update states."""


class NoDetectors:
    """For kinds of event that no detector looks at yet."""

    def new(self) -> None:
        """Return no state."""

    def load(self, data: bytes) -> None:
        """Read no state."""

    def dump_changes(self, states: Sequence[None], is_whole: Sequence[bool]) -> list[bytes | Splice]:
        """Write no states."""
        return all_anew([b""] * len(states), is_whole)

    def process(self, events: Sequence[VerifiedEvent], state_of: Callable[[str], Any]) -> list[Finding]:  # noqa: ARG002
        """Find nothing."""
        return []


class States(Protocol):
    """The device states of one partition."""

    last_append_ms: dict[str, int]

    def state_of(self, device_id: str) -> DeviceState:
        """Return a device's state, new where it has none."""

    def detectors_of(self, device_id: str) -> Any:
        """Return its detectors' part."""

    def touch(self, device_id: str, state: DeviceState) -> None:
        """Mark it as changed."""


class Judge:
    """Judges one raw topic. `catch_up` reads the registry to its high watermark, or says it could not."""

    def __init__(
        self,
        authenticate: Authenticate,
        detectors: Detectors,
        registry: Registry,
        catch_up: Callable[[], bool],
        silence: SilenceRule | None = None,
        *,
        noise: list[NoiseBlock] | None = None,
    ) -> None:
        """`noise` is where the detectors leave prints of noise, if they take any."""
        self.detectors = detectors
        self._noise = noise
        self._authenticate, self._registry, self._catch_up = authenticate, registry, catch_up
        self._silence = silence

    def process(self, batch: Batch, states: States) -> Outcome:
        """Judge a batch in offset order; touched states are marked in `states`."""
        return self.process_all([(batch, states)])[0]

    def process_all(self, batches: Sequence[tuple[Batch, States]]) -> list[Outcome]:
        """Judge batches of as many partitions, each with its states; return what each came to.

        Together, since signatures are verified and readings judged for much less where they are many. A
        device belongs to one partition: what was sent to another is rejected before anything is judged.
        """
        verdicts = self._verdicts([record for batch, _ in batches for record in batch])
        outcomes, at = [], 0
        for batch, states in batches:
            outcomes.append(admit(verdicts[at : at + len(batch)], states.state_of))
            at += len(batch)
        self._detect(outcomes)
        for outcome, (_, states) in zip(outcomes, batches, strict=True):
            self._touch(outcome, states)
        return outcomes

    def _detect(self, outcomes: list[Outcome]) -> None:
        """Let the detectors judge what was accepted, and give each partition what was found in it."""
        accepted = [item for outcome in outcomes for item in outcome.accepted]
        place_of = {device_id: outcome for outcome in outcomes for device_id in outcome.heard}
        known = {each: state.detectors for outcome in outcomes for each, state in outcome.heard.items()}
        for finding in self.detectors.process(accepted, known.__getitem__):
            place_of[finding.device_id].findings.append(finding)
        for block in self._noise or ():
            place_of[block.device_id].noise.append(block)
        if self._noise:
            self._noise.clear()

    def _touch(self, outcome: Outcome, states: States) -> None:
        """Mark the states of devices that were heard; the first event ends a silence."""
        if self._silence is not None:
            for device_id, state in outcome.heard.items():
                states.last_append_ms[device_id] = state.last_append_ms
            outcome.findings += _returned(self._silence, outcome)
        for device_id, state in outcome.heard.items():
            states.touch(device_id, state)

    def _verdicts(self, batch: Batch) -> list[Verdict]:
        """Authenticate; where the registry may be behind, read it up once for the batch and look again."""
        verdicts = self._authenticate.process(batch, self._registry)
        missed = [
            i for i, v in enumerate(verdicts) if isinstance(v, Rejection) and v.reason in REGISTRY_MISSES
        ]
        before = self._registry.offset
        if not missed or not self._catch_up() or self._registry.offset == before:
            return verdicts
        again = self._authenticate.process([batch[i] for i in missed], self._registry)
        for index, verdict in zip(missed, again, strict=True):
            verdicts[index] = verdict
        return verdicts

    def silence(
        self, states: States, partition: tuple[str, int], horizon_us: int, complete_until_us: int
    ) -> list[Finding]:
        """Report devices not heard since `horizon_us`; all before `complete_until_us` has been judged."""
        rule = self._silence
        if rule is None:
            return []
        findings = []
        overdue = [d for d, last_ms in states.last_append_ms.items() if last_ms * 1000 < horizon_us]
        for device_id in overdue:
            last_ms = states.last_append_ms.pop(device_id)
            subject = self._registry.subject(device_id)
            if subject is None or not subject.may_sign_events:
                continue  # a device taken out of service owes us nothing
            state = states.state_of(device_id)
            offset = state.remembered.newest_offset
            last = EvidenceRef(*partition, offset) if offset is not None else None
            finding = rule.overdue(device_id, last_ms, last, complete_until_us)
            if finding is None:
                states.last_append_ms[device_id] = last_ms
                continue
            state.silent_since_ms = last_ms
            states.touch(device_id, state)
            findings.append(finding)
        return findings


def _returned(rule: SilenceRule, outcome: Outcome) -> list[Finding]:
    """Tell which devices that were reported silent have spoken, each by the first of its events."""
    silent = [(device_id, state) for device_id, state in outcome.heard.items() if state.silent_since_ms]
    if not silent:
        return []
    first_of = {item.event.device_id: item for item in reversed(outcome.accepted)}
    findings = []
    for device_id, state in silent:
        item, since, state.silent_since_ms = first_of[device_id], state.silent_since_ms, 0
        reference, append_ms = item.source.reference(item.digest), item.source.append_ms
        findings.append(rule.returned(device_id, since, None, reference, append_ms))
    return findings
