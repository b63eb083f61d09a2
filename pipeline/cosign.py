"""Witnesses in the anchor stage: the epoch log's newest checkpoint, cosigned before it goes to the ledger.

Whose cosignatures are enough, and where to ask for them, is a C2SP tlog-policy: that of the settings, which
is then noted in the trust file for those who get a copy, or else the trust file's own. Without either nobody
is asked. A checkpoint that a quorum cosigned is published beside the log's own, as `checkpoint.cosigned`.
"""

from collections.abc import Mapping

import structlog

from anchors.errors import WitnessConfigError
from anchors.witness.panel import PanelResult, WitnessPanel
from pipeline import metrics
from pipeline.epochlog import EpochLog
from pipeline.settings import PipelineError, Settings, UsageError
from pipeline.trust import load_trust, record_witnesses, trust_path
from schemas.checkpoint import SignedCheckpoint, log_key
from schemas.errors import FormatError
from schemas.witnesspolicy import WitnessPolicy, parse_policy

log = structlog.get_logger()


class WitnessQuorumError(PipelineError):
    """Too few witnesses cosigned in time, and the settings say not to anchor without them."""


class Cosigner:
    """Asks the witnesses of a policy; `known_sizes` is what an earlier one left."""

    def __init__(self, settings: Settings, epoch_log: EpochLog, known_sizes: Mapping[str, int]) -> None:
        """Raise UsageError for a policy that cannot be used, and for none where one is required."""
        self._settings, self._log = settings, epoch_log
        self._policy = _policy(settings)
        self._panel: WitnessPanel | None = None
        self.missed = ""
        """Why the last checkpoint has no quorum; empty: it has one, or none is asked for."""
        if self._policy is not None:
            try:
                self._panel = WitnessPanel(self._policy, known_sizes)
            except WitnessConfigError as error:
                raise UsageError(str(error)) from error
        elif settings.witness_required:
            raise UsageError("witnesses are required, and neither settings nor trust file name any")

    @property
    def known_sizes(self) -> Mapping[str, int]:
        """The size that each witness cosigned last, by its vkey."""
        return self._panel.known_sizes if self._panel else {}

    def cosign(self, signed: SignedCheckpoint) -> SignedCheckpoint:
        """Return the checkpoint with the cosignatures to be had; takes little more than the deadline.

        Raises WitnessQuorumError for too few where they are required, MerkleError when the published tiles
        are not those of the checkpoint.
        """
        if self._policy is None or self._panel is None:
            return signed
        result = self._panel.ask(signed, self._log.prover(signed), self._settings.witness_deadline_s)
        self._count(result)
        if result.is_quorum:
            self.missed = ""
            if result.words:
                self._log.publish_cosigned(result.signed)
            return result.signed
        names = ", ".join(word.witness.name for word in result.words)
        why = "; ".join(f"{name}: {failure}" for name, failure in result.failures.items())
        self.missed = f"cosigned by {names or 'nobody'}, needed {self._policy.describe()}; {why}"
        metrics.WITNESS_QUORUM_MISSED.inc()
        if self._settings.witness_required:
            raise WitnessQuorumError(self.missed)
        # The monitor, which sees what a stranger sees, makes the finding.
        log.error("anchoring without a quorum of witnesses", size=signed.checkpoint.size, why=self.missed)
        return result.signed

    def _count(self, result: PanelResult) -> None:
        for word in result.words:
            metrics.WITNESS_ANSWERS.labels(word.witness.name, "cosigned").inc()
        for name, failure in result.failures.items():
            metrics.WITNESS_ANSWERS.labels(name, "failed").inc()
            log.warning("a witness did not cosign", witness=name, why=failure)


def _policy(settings: Settings) -> WitnessPolicy | None:
    """The settings' policy, noted in the trust file, or else the trust file's."""
    path, trust = settings.witness_policy, load_trust(trust_path(settings))
    if path is None:
        policy = trust.witnesses
    else:
        try:
            text = path.read_bytes()
            policy = parse_policy(text)
        except OSError as error:
            raise UsageError(f"cannot read the witness policy {path}: {error.strerror}") from error
        except FormatError as error:
            raise UsageError(f"{path}: {error}") from error
        record_witnesses(settings, text.decode())
    own = [log_key(trust.log_name, key) for key in trust.log_keys]
    if policy is not None and policy.logs and not any(each.key in own for each in policy.logs):
        raise UsageError(f"the witness policy names logs, and {trust.log_name} is none of them")
    return policy
