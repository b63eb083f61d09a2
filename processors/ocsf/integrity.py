"""What holds an alert fast: the profile `record_integrity` of OCSF 1.9, and the shards of the log.

The fingerprint is over the whole event, the attestation's other members included, as RFC 8785 writes it. It
shows damage on the way; who changes an event can change it too. What nobody can change is the leaf of the
shard that `chain_uid` names. It does not exist yet when the event is written, so neither it nor a proof, a
signature or the event before stands here: `attestream prove` makes the evidence from the record's place.
"""

import json
from hashlib import sha256
from typing import Any

from processors.verification.logproof import EPOCH_TOPIC

PROFILE = "record_integrity"
SEALED_TOPICS = frozenset(
    {
        "access.decisions",
        "access.policies",
        "alerts",
        "alerts.control",
        "device.events",
        "device.findings",
        "device.rejected",
        "identity.registry",
        "integrity.findings",
        EPOCH_TOPIC,
    }
)
"""Topics whose records are leaves of the log; what a device sent raw is sealed only once it is judged."""

_FINGERPRINT = {
    "algorithm": "SHA-256",
    "algorithm_id": 3,
    "encoding": "Hex",
    "encoding_id": 1,
    "serialization": "JCS",
    "serialization_id": 2,
}


def shard_of(log_name: str, topic: str, partition: int) -> str | None:
    """Name the shard, which is its checkpoints' origin; None for a topic that is not sealed."""
    if topic not in SEALED_TOPICS:
        return None
    return log_name if topic == EPOCH_TOPIC else f"{log_name}/{topic}/{partition}"


def canonical(document: dict[str, Any]) -> bytes:
    """Write JSON as RFC 8785 does, for whole numbers below 2^53, short decimals, and names of ASCII.

    Half of a surrogate pair, which is no character, becomes a question mark.
    """
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "replace")


def attested(document: dict[str, Any], log_name: str) -> dict[str, Any]:
    """Return an event with its attestation: the log's name, the shard of `alerts`, the fingerprint."""
    attestation = {"authority_uid": log_name, "chain_uid": shard_of(log_name, "alerts", 0)}
    value = sha256(canonical({**document, "attestation_list": [attestation]})).hexdigest()
    fingerprint = {**_FINGERPRINT, "value": value}
    return {**document, "attestation_list": [{**attestation, "fingerprint": fingerprint}]}
