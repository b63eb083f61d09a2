"""What can go wrong between us and another party: one exception family for the whole package.

Each class says whose fault it is, because that decides what a caller may do next: retry, stop and
tell the operator, or report that the other party does not keep its word.
"""


class AnchorError(Exception):
    """Anything this package raises."""


class AnchorMessageError(AnchorError):
    """An anchor message is not valid HCS-27, or does not fit one ledger message (its author's fault)."""


class LedgerConfigError(AnchorError):
    """Our own settings, key file or port cannot be used (the operator's fault); retrying cannot help."""


class LedgerUnavailableError(AnchorError):
    """The ledger or its mirror did not answer in time, or answered with nonsense; retry later."""


class LedgerRefusedError(AnchorError):
    """The ledger answered and said no. `code` is its own response code, for example INVALID_SIGNATURE."""

    def __init__(self, what: str, code: str) -> None:
        super().__init__(f"{what}: refused with {code}")
        self.code = code


class LedgerHistoryError(AnchorError):
    """The history that the mirror shows has a gap or does not recompute (the mirror's fault)."""


class LedgerStoreError(AnchorError):
    """The local consensus service's database is in use, damaged, or not ours."""


class WitnessConfigError(AnchorError):
    """A witness's address or our own settings cannot be used (the operator's fault)."""


class WitnessUnavailableError(AnchorError):
    """A witness did not answer in time, or says that it cannot just now; retry later."""


class WitnessRefusedError(AnchorError):
    """A witness answered and said no. `status` is the HTTP status: 404 does not know the log, for example."""

    def __init__(self, what: str, status: int) -> None:
        super().__init__(f"{what} (HTTP {status})")
        self.status = status


class WitnessConflictError(AnchorError):
    """A witness knows a larger log of this origin, or another one of the same size: somebody must look."""


class WitnessAnswerError(AnchorError):
    """A witness answered with what no honest witness says: a false signature, a time far from now."""


class WitnessRequestError(AnchorError):
    """Bytes are no add-checkpoint request, or no answer to one (their author's fault)."""


class WitnessStoreError(AnchorError):
    """A witness's database is damaged, not ours, or the disk does not do as told."""
