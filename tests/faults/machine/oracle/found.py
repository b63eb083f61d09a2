"""Where the oracle's parts put what they find wrong; each fault is told once."""

from tests.faults.machine.ledger import Violation

MAX_TOLD = 20
"""Of one invariant between two reports: one fault may touch every record."""


class Found:
    """A list that forgets nothing it has told."""

    def __init__(self) -> None:
        self._new: list[Violation] = []
        self._known: set[tuple[str, str]] = set()
        self._counts: dict[str, int] = {}

    def add(self, invariant: str, what: str) -> None:
        """Note a violation, unless it is known."""
        if (invariant, what) in self._known:
            return
        self._known.add((invariant, what))
        count = self._counts[invariant] = self._counts.get(invariant, 0) + 1
        if count <= MAX_TOLD:
            self._new.append(Violation(invariant, what))

    @property
    def has_new(self) -> bool:
        """Whether `take` would return something."""
        return bool(self._new)

    def take(self) -> list[Violation]:
        """What is new since the last call."""
        told = [*self._new]
        told += (
            Violation(invariant, f"and {count - MAX_TOLD} more")
            for invariant, count in self._counts.items()
            if count > MAX_TOLD
        )
        self._new.clear()
        self._counts.clear()
        return told
