"""The whole verifier: the rules of `processors.verify` with the ledgers that are known here.

`verify` is pure and needs no network; `check_online` asks one mirror about the receipt.
"""

from anchors.errors import AnchorError
from anchors.hedera.receipt import Receipts, read_receipt
from processors.verification.verdict import Step, Verdict, plain
from processors.verify import verify as verify_with
from schemas.evidence import Evidence
from schemas.trust import TrustRoot

ONLINE = "ledger receipt, asked now"


def verify(evidence: Evidence, trust: TrustRoot) -> Verdict:
    """Judge evidence by a trust file, from their bytes alone; whatever is in them, it ends in a verdict."""
    return verify_with(evidence, trust, read_receipt)


def check_online(evidence: Evidence, verdict: Verdict, mirror_url: str) -> None:
    """Add the step that asks a mirror of the doubter's choice for the receipt's message."""
    if evidence.anchor is None:
        verdict.steps.append(Step(ONLINE, holds=False, detail="the file has no receipt to ask about"))
        return
    try:
        Receipts(mirror_url).compare(evidence.anchor)
    except AnchorError as error:
        verdict.steps.append(Step(ONLINE, holds=False, detail=plain(str(error))))
        return
    where = f"message {evidence.anchor.sequence} of topic {evidence.anchor.topic}"
    by = plain(f"mirror {mirror_url}, unsigned")
    verdict.steps.append(Step(ONLINE, holds=True, detail=plain(f"{where} stands there, the same"), by=by))
