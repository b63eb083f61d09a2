"""What costs the board file reads, looked at once a second."""

import time

from pipeline.demo.tamper import published_logs
from pipeline.local.stack import LocalStack
from pipeline.settings import Settings

LOOK_EVERY_S = 1.0


class SlowLooks:
    """Published trees, health, and the rate."""

    def __init__(self, settings: Settings, stack: LocalStack) -> None:
        self._settings, self._stack = settings, stack
        self.shards = self.leaves = 0
        self.unwell: tuple[str, ...] = ()
        self._looked_s = 0.0
        self._counts: list[tuple[float, int]] = []

    def refresh(self) -> None:
        """Look again when a second has passed."""
        if time.monotonic() - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = time.monotonic()
        logs = published_logs(self._settings.data_dir / "log")
        self.shards, self.leaves = len(logs), sum(log.checkpoint.size for log in logs)
        rows = self._stack.status().processes
        self.unwell = tuple(f"{row.name} ({row.why or row.state})" for row in rows if not row.ready)

    def rate_hz(self, produced: int) -> float:
        """Records a second over the last five seconds."""
        now_s = time.monotonic()
        self._counts.append((now_s, produced))
        self._counts = [each for each in self._counts if now_s - each[0] <= 5.0]
        began_s, began = self._counts[0]
        return (produced - began) / (now_s - began_s) if now_s > began_s else 0.0
