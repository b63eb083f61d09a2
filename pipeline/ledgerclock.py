"""What time it is for the ledger, wherever this machine's clock stands.

A transaction is valid for a window that begins at a time which its author names. A clock that is hours behind
signs what has expired already, one that is hours ahead signs what no node takes for hours. The public record
tells better: it is complete up to a time that the ledger has passed. It may lag itself, so our own clock
counts unless the record, or a node that says "not valid yet", shows it wrong by half a window or more.
"""

import secrets
import time

from pipeline.settings import PipelineError

NS = 1_000_000_000
LEAST_FAR_S = 10.0
"""A mirror is some seconds behind its ledger even when all is well."""


class WrongClockError(PipelineError):
    """This machine's clock is far ahead of the ledger's (the operator's to mend)."""


class LedgerClock:
    """`note` says for a person how wrong our clock seems; empty while it seems right."""

    def __init__(self, valid_s: float) -> None:
        """`valid_s` is how long a transaction is valid."""
        self._far_ns = round(max(LEAST_FAR_S, valid_s / 2) * NS)
        self._is_ahead = False
        self.note = ""

    def now_ns(self, complete_until_ns: int) -> int:
        """Return the time to sign with, given up to when the public record is complete."""
        own_ns = time.time_ns()
        ahead_ns = own_ns - complete_until_ns
        if ahead_ns < -self._far_ns:
            self.note = f"this clock is at least {_text(-ahead_ns)} behind the ledger's"
        elif ahead_ns <= self._far_ns:
            self.note, self._is_ahead = "", False
        elif not self._is_ahead:
            self.note = f"this clock is ahead or the mirror behind by {_text(ahead_ns)}"
        if ahead_ns < 0 or self._is_ahead:
            # The record is complete up to the end of a block, and a transaction is named by its time: two
            # anchors in one block must not bear one name.
            return complete_until_ns - secrets.randbelow(NS)
        return own_ns

    def is_far_ahead(self, valid_start_ns: int, complete_until_ns: int) -> bool:
        """Tell whether what a node finds not valid yet was signed by a clock that is wrong by far."""
        return valid_start_ns - complete_until_ns > self._far_ns

    def refused_as_early(self, complete_until_ns: int) -> WrongClockError:
        """Sign with the record's time from now on; the error to raise."""
        self._is_ahead = True
        self.note = f"this clock is up to {_text(time.time_ns() - complete_until_ns)} ahead of the ledger's"
        return WrongClockError(self.note)


def _text(nanoseconds: int) -> str:
    seconds = nanoseconds / NS
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.0f} s"
