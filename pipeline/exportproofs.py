"""Evidence as plain files for tools that nobody here wrote: leaves, C2SP tlog-proofs, verifier keys.

`leaf` is under the root of `shard.tlog-proof`, `epoch-leaf` under that of `epoch.tlog-proof`; beside them
`shard.checkpoint`, `epoch.checkpoint` and the keys that check them, `shard.vkey` and `epoch.vkey`. The same,
with `registry-N-` before each name, for the registry's entries; `witness-N.vkey` and `witness-policy` of the
trust file. Keys come from the trust file, never from the evidence.
"""

from pathlib import Path

from schemas.checkpoint import log_key, parse_checkpoint
from schemas.evidence import Evidence, Proven
from schemas.note import format_note
from schemas.tlogproof import parse_tlog_proof
from schemas.trust import TrustRoot


def export(evidence: Evidence, trust: TrustRoot, folder: Path) -> list[str]:
    """Write the files into `folder`, replacing what is there; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    files = _files("", evidence, trust)
    for number, entry in enumerate(evidence.registry):
        files |= _files(f"registry-{number}-", entry, trust)
    policy = trust.witnesses
    for number, witness in enumerate(policy.witnesses if policy else ()):
        files[f"witness-{number}.vkey"] = f"{witness.key}\n".encode()
    if trust.witness_policy:
        files["witness-policy"] = trust.witness_policy.encode()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return sorted(files)


def _files(prefix: str, proven: Proven, trust: TrustRoot) -> dict[str, bytes]:
    shard_note = parse_tlog_proof(proven.shard_proof).checkpoint
    epoch_note = parse_tlog_proof(proven.epoch_proof).checkpoint
    files = {}
    for name, leaf_name, leaf, proof, note in (
        ("shard", "leaf", proven.leaf, proven.shard_proof, shard_note),
        ("epoch", "epoch-leaf", format_note(shard_note), proven.epoch_proof, epoch_note),
    ):
        origin = parse_checkpoint(note.text).origin
        # The key that signed this one; after a rotation it may be an earlier one.
        keys = [log_key(origin, key) for key in trust.log_keys]
        signed = {(each.name, each.key_id) for each in note.signatures}
        key = next((each for each in keys if (each.name, each.key_id) in signed), keys[0])
        files[f"{prefix}{leaf_name}"] = leaf
        files[f"{prefix}{name}.tlog-proof"] = proof
        files[f"{prefix}{name}.checkpoint"] = format_note(note)
        files[f"{prefix}{name}.vkey"] = f"{key}\n".encode()
    return files
