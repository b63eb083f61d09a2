"""Witnesses: what is anchored must stand under the cosignatures that the trust file's policy asks for.

The cosigned checkpoint is published beside `checkpoint`, under its own name. One that is larger than an
anchor covers it, since the log is proven to be one history.
"""

from pipeline.epochlog import COSIGNED
from pipeline.watch.claims import NOTE, Claims
from pipeline.watch.context import Watch
from pipeline.watch.shardwatch import ShardWatch
from processors.integrity import findings
from schemas.errors import FormatError
from schemas.trust import open_trusted_checkpoint


class WitnessWatch:
    """The newest checkpoint of the epoch log that a quorum has cosigned."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._looked_at = b""
        self._quorum_size = 0
        self._who = ""
        self._policy = ""
        self._anchored_before = 0
        """What was anchored when the policy came: nobody had to cosign that."""

    def step(self, epoch: ShardWatch, claims: Claims) -> None:
        """Look at the cosigned checkpoint, and hold the newest anchor to it."""
        watch = self._watch
        data = epoch.source.read(COSIGNED)
        if data is not None and data != self._looked_at:
            self._looked_at = data
            try:
                self._read(data, claims)
            except FormatError:
                return  # whatever it is, it carries no cosignature
        policy, anchored = watch.trust.witnesses, watch.memory.anchored_size()
        if watch.trust.witness_policy != self._policy:
            self._policy, self._anchored_before = watch.trust.witness_policy, anchored
        key = ("quorum", anchored)
        if (
            policy is None
            or policy.quorum is None
            or anchored <= max(self._quorum_size, self._anchored_before)
        ):
            watch.standing.end(key)
            watch.book.clear("witness_quorum_missed", epoch.origin, watch.now_us, "anchors")
        elif watch.standing.held_s(key, watch.now_s) >= watch.settings.monitor_patience_s:
            watch.book.open(
                findings.witness_quorum_missed(
                    epoch.origin, anchored, self._who, policy.describe(), time_us=watch.now_us
                )
            )

    def _read(self, data: bytes, claims: Claims) -> None:
        trust = self._watch.trust
        signed = open_trusted_checkpoint(data, trust.log_name, trust)
        claims.add(NOTE, trust.log_name, COSIGNED, data)
        policy = trust.witnesses
        if policy is None:
            return
        cosignatures = policy.cosignatures(signed.note)
        self._who = ", ".join(each.witness.name for each in cosignatures)
        if policy.quorum_met(each.witness.key for each in cosignatures):
            self._quorum_size = max(self._quorum_size, signed.checkpoint.size)
