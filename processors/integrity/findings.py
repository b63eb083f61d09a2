"""The findings about a log: one function a rule, so that every sentence and every cause stands here.

The finding's `device_id` is the origin of the log concerned. `cause` makes the id: what is found again after
a crash, or by another monitor of the same log, has the same id.
"""

from collections.abc import Sequence

from processors.integrity.leaves import LeafMismatch
from schemas.checkpoint import Checkpoint
from schemas.records import EvidenceRef, Finding, Severity

MAX_TEXT = 1000
MAX_NOTE = 16 * 1024
"""A finding must fit into a record, whatever a hostile note holds; the monitor's memory has it whole."""


def _finding(
    rule: str,
    origin: str,
    cause: str,
    time_us: int,
    explanation: str,
    *,
    evidence: Sequence[EvidenceRef] = (),
    severity: Severity = Severity.CRITICAL,
    **parameters: object,
) -> Finding:
    return Finding(
        rule,
        severity,
        origin,
        time_us,
        explanation[:MAX_TEXT],
        tuple(evidence),
        parameters={name: str(value) for name, value in parameters.items()},
        cause=cause,
    )


# ---- leaves and records ------------------------------------------------------------------------------------


def entry_rewritten(
    origin: str, place: tuple[str, int], mismatches: Sequence[LeafMismatch], *, time_us: int
) -> Finding:
    """The first look at new leaves: what was sealed is not what the topic holds."""
    first = mismatches[0]
    return _finding(
        "entry_rewritten",
        origin,
        f"leaf/{first.index}/{first.offset}",
        time_us,
        f"{first.fault.value} at leaf {first.index}: what the log sealed is not what its topic holds",
        evidence=_references(place, mismatches),
        leaf=first.index,
        fault=first.fault.name.lower(),
        count=len(mismatches),
    )


def record_rewritten(
    origin: str, place: tuple[str, int], mismatches: Sequence[LeafMismatch], *, time_us: int
) -> Finding:
    """A later look: the leaf was its record's, and the record is another now."""
    first = mismatches[0]
    return _finding(
        "record_rewritten",
        origin,
        f"record/{first.offset}",
        time_us,
        f"the record at offset {first.offset} is not the one that was sealed as leaf {first.index}",
        evidence=_references(place, mismatches),
        leaf=first.index,
        fault=first.fault.name.lower(),
        count=len(mismatches),
    )


def _references(place: tuple[str, int], mismatches: Sequence[LeafMismatch]) -> list[EvidenceRef]:
    return [EvidenceRef(*place, each.offset) for each in mismatches[:20] if each.offset >= 0]


# ---- tiles -------------------------------------------------------------------------------------------------


def tile_rewritten(
    origin: str, path: str, reason: str, checkpoint: Checkpoint, leaf: int, *, time_us: int
) -> Finding:
    """A published file is not what the verified root commits to; `leaf`: the first that was asked for."""
    is_bundle = path.startswith("tile/entries/")
    return _finding(
        "entry_rewritten" if is_bundle else "tile_rewritten",
        origin,
        f"tile/{leaf}",
        time_us,
        reason,
        path=path,
        leaf=leaf,
        size=checkpoint.size,
        root=checkpoint.root.hex(),
    )


def tiles_gone(origin: str, reason: str, checkpoint: Checkpoint, leaf: int, *, time_us: int) -> Finding:
    """Files of the verified tree are not there."""
    return _finding(
        "log_truncated",
        origin,
        f"tiles/{leaf}",
        time_us,
        f"part of the published log is gone: {reason}",
        leaf=leaf,
        size=checkpoint.size,
        root=checkpoint.root.hex(),
    )


# ---- checkpoints -------------------------------------------------------------------------------------------


def fork(
    known: Checkpoint, known_note: bytes, seen: Checkpoint, seen_note: bytes, *, time_us: int
) -> Finding:
    """Two checkpoints under one key that cannot be of one log. Both notes are the proof."""
    return _finding(
        "fork",
        known.origin,
        f"{known.size}/{known.root.hex()}",
        time_us,
        f"two signed checkpoints, of {known.size} and of {seen.size} leaves, are of different histories",
        first_note=_text(known_note),
        second_note=_text(seen_note),
    )


def checkpoint_rollback(
    known: Checkpoint, known_note: bytes, seen_size: int, kind: str, place: str, *, time_us: int
) -> Finding:
    """The published checkpoint is older than one that was already seen, there (`published`) or elsewhere."""
    where = {"published": "published before", "epoch": f"recorded as entry {place} of the epoch log"}
    return _finding(
        "checkpoint_rollback",
        known.origin,
        f"{kind}/{place}/{known.size}",
        time_us,
        f"{seen_size} leaves are published, where {known.size} were {where.get(kind, f'noted in {place}')}",
        first_note=_text(known_note),
    )


def checkpoint_gone(known: Checkpoint, why: str, *, time_us: int) -> Finding:
    """The log as verified is no longer there, and nobody is putting it back."""
    return _finding(
        "log_truncated",
        known.origin,
        "checkpoint",
        time_us,
        f"the log of {known.size} leaves that had been published is gone: {why}",
        size=known.size,
        root=known.root.hex(),
    )


def checkpoint_invalid(origin: str, why: str, *, time_us: int) -> Finding:
    """What is published as checkpoint is none that the trust file lets anyone believe."""
    return _finding("checkpoint_invalid", origin, "checkpoint", time_us, f"the published checkpoint: {why}")


# ---- topics and shards -------------------------------------------------------------------------------------


def topic_truncated(
    origin: str, place: tuple[str, int], end: int, sealed_to: int, *, time_us: int
) -> Finding:
    """Sealed records are gone from the end of their topic."""
    return _finding(
        "log_truncated",
        origin,
        "topic",
        time_us,
        f"{place[0]}[{place[1]}] ends at {end}, and records up to {sealed_to - 1} were sealed",
        end=end,
        sealed_to=sealed_to,
    )


def topic_recreated(origin: str, place: tuple[str, int], known: str, found: str, *, time_us: int) -> Finding:
    """The topic is another one of the same name: the sealed records went with the old one."""
    return _finding(
        "log_truncated",
        origin,
        f"topic/{found}",
        time_us,
        f"{place[0]} was deleted and made anew: its id is {found}, the sealed one's is {known}",
        known_topic_id=known,
        topic_id=found,
    )


def shard_replaced(
    known: Checkpoint, known_note: bytes, old_id: str, new_id: str, *, time_us: int
) -> Finding:
    """The operator has closed a shard and begun another of the same name, and says so in the signed list."""
    return _finding(
        "shard_replaced",
        known.origin,
        f"{old_id}/{new_id}",
        time_us,
        f"the shard of topic {old_id} ended at {known.size} leaves; one of topic {new_id} goes on",
        severity=Severity.HIGH,
        first_note=_text(known_note),
        old_topic_id=old_id,
        topic_id=new_id,
    )


def shard_behind(
    origin: str, place: tuple[str, int], offset: int, waited_s: float, *, time_us: int
) -> Finding:
    """Records wait for their leaves while the rest of the log goes on."""
    return _finding(
        "shard_missing",
        origin,
        "behind",
        time_us,
        f"the record at {place[0]}[{place[1]}] {offset} has had no leaf for {waited_s:.0f} s",
        evidence=[EvidenceRef(*place, offset)],
    )


def shard_unlisted(origin: str, place: tuple[str, int], *, time_us: int) -> Finding:
    """The signed list of shards leaves one out."""
    return _finding(
        "shard_missing",
        origin,
        "list",
        time_us,
        f"{place[0]}[{place[1]}] is a sealed topic's partition, and the signed list of shards leaves it out",
    )


# ---- anchors -----------------------------------------------------------------------------------------------


def anchor_wrong_payer(
    origin: str, topic: str, sequence: int, payer: str, trusted: str, *, time_us: int
) -> Finding:
    """A message that names our log was paid by somebody else."""
    return _finding(
        "anchor_wrong_payer",
        origin,
        f"{topic}/{sequence}",
        time_us,
        f"message {sequence} of ledger topic {topic} anchors this log and was paid by {payer}, not {trusted}",
        ledger_topic=topic,
        sequence=sequence,
        payer=payer,
    )


def anchor_wrong_root(
    origin: str, topic: str, sequence: int, tree_size: int, why: str, *, time_us: int
) -> Finding:
    """An anchor is of another tree than the published one."""
    return _finding(
        "anchor_wrong_root",
        origin,
        f"{topic}/{sequence}",
        time_us,
        f"message {sequence} of ledger topic {topic} anchors {tree_size} leaves, {why}",
        ledger_topic=topic,
        sequence=sequence,
        tree_size=tree_size,
    )


def anchor_missing(origin: str, size: int, waited_s: float, interval_s: float, *, time_us: int) -> Finding:
    """The epoch log grows and the ledger has no anchor of it."""
    return _finding(
        "anchor_missing",
        origin,
        "behind",
        time_us,
        f"no anchor covers {size} leaves for {waited_s:.0f} s, with one due every {interval_s:g} s",
        severity=Severity.HIGH,
    )


def mirror_lies(origin: str, topic: str, sequence: int, why: str, *, time_us: int) -> Finding:
    """The mirror shows a history that does not recompute, or another one than before."""
    return _finding(
        "mirror_lies",
        origin,
        f"{topic}/{sequence}",
        time_us,
        why,
        ledger_topic=topic,
        sequence=sequence,
    )


def witness_quorum_missed(origin: str, size: int, who: str, policy: str, *, time_us: int) -> Finding:
    """An anchored checkpoint carries too few cosignatures."""
    return _finding(
        "witness_quorum_missed",
        origin,
        "anchors",
        time_us,
        f"the anchored checkpoint of {size} leaves is cosigned by {who or 'nobody'}; needed: {policy}",
        severity=Severity.HIGH,
        tree_size=size,
    )


def _text(note: bytes) -> str:
    return note[:MAX_NOTE].decode("utf-8", "replace")
