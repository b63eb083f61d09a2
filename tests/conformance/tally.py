"""What was tried with each tool and what came of it, ending in one line."""

import threading
from dataclasses import dataclass, field


class UnavailableError(Exception):
    """A tool cannot be had on this machine; the message says why."""


@dataclass
class Tally:
    """Counts checks by outcome; may be used from several threads."""

    passed: int = 0
    failed: int = 0
    unavailable: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, tool: str, what: str, holds: bool, detail: str = "") -> None:
        """Count one check; a failure is told at once, with what the tool said."""
        with self._lock:
            if holds:
                self.passed += 1
            else:
                self.failed += 1
                _say(f"FAIL {tool}: {what}\n{_indented(detail)}")

    def lacks(self, tool: str, why: str) -> None:
        """Note that a tool cannot be had."""
        with self._lock:
            self.unavailable[tool] = why
        _say(f"unavailable: {tool}: {why}")

    @property
    def is_good(self) -> bool:
        """Everything was tried, and all of it held."""
        return not self.failed and not self.unavailable and self.passed > 0

    def last_line(self) -> str:
        """The result."""
        counts = f"{self.passed} passed, {self.failed} failed, {len(self.unavailable)} unavailable"
        return f"conformance: {counts}"


def _indented(text: str) -> str:
    return "\n".join(f"     {line}" for line in text.strip().splitlines()[-12:])


def _say(text: str) -> None:
    print(text, flush=True)
