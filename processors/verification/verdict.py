"""What verifying comes to: steps, warnings, and what remains unproven, in words for a person.

Words from the file under test reach the verdict, so none of them may move a cursor or begin a new line.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from schemas.errors import FormatError

MAX_SHOWN_TEXT = 600
_LAST_SECOND = 253_402_300_799  # of the year 9999


class VerificationError(FormatError):
    """A step does not hold."""


def plain(text: str) -> str:
    """One line of printable characters, whatever `text` holds."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= MAX_SHOWN_TEXT else shown[: MAX_SHOWN_TEXT - 1] + "…"


def at(time_s: float) -> str:
    """A Unix time as people write it, in UTC."""
    if not 0 <= time_s <= _LAST_SECOND:
        return f"second {time_s:.0f} of the Unix epoch"
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@dataclass(frozen=True, slots=True)
class Found:
    """What a step that holds has found: in a sentence, and on whose word that rests."""

    detail: str
    by: str


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was checked, and what it says when it holds, or why it does not."""

    name: str
    holds: bool
    detail: str
    by: str = ""
    """On whose word it rests: arithmetic, a signer, or somebody's unsigned statement."""


@dataclass(slots=True)
class Verdict:
    """Steps in their order, ending at the first that does not hold; and what remains unproven."""

    steps: list[Step] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    not_proven: list[str] = field(default_factory=list)
    existed_before_s: int | None = None
    """Unix time by which the record existed, on the word of a quorum of witnesses; None without one."""

    @property
    def holds(self) -> bool:
        """True iff every step holds."""
        return bool(self.steps) and all(step.holds for step in self.steps)

    @property
    def broken(self) -> Step | None:
        """The first step that does not hold."""
        return next((step for step in self.steps if not step.holds), None)
