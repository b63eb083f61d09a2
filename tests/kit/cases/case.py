"""What a case is, and the small logs that cases are made of."""

from dataclasses import dataclass, replace
from typing import Any

from schemas.evidence import Evidence, EvidenceRecord
from schemas.note import Ed25519Signer, format_note
from schemas.trust import TrustRoot
from tests.kit.parties import LOG, NOW_MS, RegistryTopic, identity_of, seed_of
from tests.kit.smalllog import TRUSTED, SmallLog, SmallTree, leaf_of

DEVICE, APPROVER = identity_of("device"), identity_of("approver")


EVENTS = ("device.events", 0)


@dataclass(frozen=True, slots=True)
class Case:
    """Two files and, where the case is made for one step, that step (empty: it holds; None: not said)."""

    name: str
    evidence: bytes
    trust: bytes
    expected: str | None = None


def case(name: str, evidence: Evidence, expected: str | None, trust: TrustRoot = TRUSTED) -> Case:
    return Case(name, evidence.to_json().encode(), trust.to_json().encode(), expected)


def event(
    value: bytes | None, registry_offset: bytes | None, offset: int = 0, **changes: Any
) -> EvidenceRecord:
    """An accepted event as ingest writes it, or almost."""
    headers = (("registry.offset", registry_offset), ("source", b"device.telemetry.raw/0/0"))
    found = EvidenceRecord(*EVENTS, offset, NOW_MS + offset, DEVICE.did.encode(), headers, value)
    return replace(found, **changes)


def log_with(chain: RegistryTopic, *events: EvidenceRecord) -> SmallLog:
    """A log of these events over this registry."""
    log = SmallLog([], chain=chain)
    log.records[EVENTS] = list(events)
    tree = SmallTree(f"{LOG}/device.events/0", "log", [leaf_of(each) for each in events])
    log.shards[EVENTS] = tree
    log.epoch.entries.append(format_note(tree.signed()))
    return log


def signed_at(chain: RegistryTopic, value: bytes | None, offset: int | None = None) -> Evidence:
    """Evidence of an event that was judged by the first `offset` entries (None: by all)."""
    stated = len(chain.records) if offset is None else offset
    return log_with(chain, event(value, b"%d" % stated)).evidence(anchored=False)


def log_signer(name: str) -> Ed25519Signer:
    return Ed25519Signer.from_seed(LOG if name == "log" else name, seed_of(name))
