"""Witnesses: whether enough of those that the trust file names cosigned the epoch log's checkpoint, and when.

C2SP tlog-cosignature and tlog-policy. A cosignature says: by my clock it was then, and until then I had seen
no other history of this log. So k of n cosignatures are the only trusted time without a network.
"""

from processors.verification.verdict import Found, VerificationError, at
from schemas.note import Note
from schemas.trust import TrustRoot


def check_witnesses(note: Note, trust: TrustRoot) -> tuple[Found, int | None]:
    """Count cosignatures by the trust file's policy; returns also the time that a quorum states (Unix)."""
    policy = trust.witnesses
    if policy is None:
        return Found("the trust file names none", ""), None
    cosignatures = policy.cosignatures(note)
    names = ", ".join(each.witness.name for each in cosignatures)
    if not policy.quorum_met(each.witness.key for each in cosignatures):
        raise VerificationError(f"cosigned by {names or 'none of them'}; needed: {policy.describe()}")
    time_s = policy.quorum_time_s(cosignatures) or None
    if time_s is None:
        return Found(f"{policy.describe()}; cosigned by {names or 'none'}", names), None
    clocks = ", ".join(each.witness.name for each in cosignatures if each.time_s <= time_s)
    detail = f"{policy.describe()}; the record existed before {at(time_s)} by the clocks of {clocks}"
    return Found(detail, f"witnesses {names}"), time_s
