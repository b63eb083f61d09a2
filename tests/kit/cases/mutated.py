"""Good files with each member and many bits changed."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from schemas.note import parse_note
from tests.kit.cases.case import DEVICE, Case, event, log_with
from tests.kit.mutations import changed_members, exchanged_members, flipped_bits, spelled_anew
from tests.kit.parties import RegistryTopic, approval_of, envelope_of, key_of, payload_of
from tests.kit.smalllog import LEDGER, TRUSTED, WITNESSED, WITNESSES, SmallLog, receipt_of, witness


def mutated() -> Iterator[Case]:
    """Every member of good files changed, and many of their bytes."""
    rng = random.Random("evidence")
    every = [witness(name) for name in WITNESSES]
    log = SmallLog([("device.events", 0, 5), ("device.rejected", 0, 2)])
    chain = RegistryTopic()
    chain.enroll("approver", "APPROVAL")
    chain.enroll("device")
    payload = payload_of(DEVICE.did)
    approved = log_with(chain, event(envelope_of(payload, DEVICE, approval_of("approver", payload)), b"2"))
    note = parse_note(log.evidence(index=2).epoch_proof.partition(b"\n\n")[2])
    known = replace(
        WITNESSED,
        previous_log_keys=(key_of("older log"),),
        ledger=replace(LEDGER, checkpoints=(receipt_of(note, behind=1).segment[-1].point,)),
    )
    files = [
        (replace(log.evidence(index=2, cosigned=every), anchor=receipt_of(note, behind=1)), known),
        (approved.evidence(cosigned=every[1:]), WITNESSED),
        (log.evidence(index=1, anchored=False).redacted(), TRUSTED),
    ]
    pairs = [(found.to_json().encode(), trust.to_json().encode()) for found, trust in files]
    for number, (evidence, trust) in enumerate(pairs):
        yield Case(f"file {number}", evidence, trust, "")
        other = pairs[number - 1]
        groups: Sequence[tuple[str, Iterator[tuple[str, bytes]]]] = (
            ("changed", changed_members(json.loads(evidence), rng)),
            ("exchanged", exchanged_members(json.loads(evidence), json.loads(other[0]))),
            ("spelled", spelled_anew(evidence)),
            ("flipped", (("a bit", each) for each in flipped_bits(evidence, 250, rng))),
        )
        for group, changes in groups:
            for name, data in changes:
                yield Case(f"file {number} {group}: {name}", data, trust)
        if number == 0:
            for name, data in (*changed_members(json.loads(trust), rng), *spelled_anew(trust)):
                yield Case(f"trust {name}", evidence, data)
            for data in flipped_bits(trust, 100, rng):
                yield Case("trust, a bit", evidence, data)
        yield Case(f"file {number} under another trust", evidence, other[1])
