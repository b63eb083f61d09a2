"""The workers, and what the local stack's supervisor does for them: nothing but start what has ended."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pipeline.local.child import HEALTHY_AGAIN_S, backoff_s
from pipeline.settings import Settings
from pipeline.stage import HANGS
from tests.faults.machine.zygote import Worker, Zygote

POLL_S = 0.05
TOLD = (
    "a commit took long",
    "session failed, beginning anew",
    "recovered",
    "shards opened",
    "the loop hangs, ending the process",
)
"""Lines of a worker's log that say how a fault was lived through."""


@dataclass(slots=True)
class _Place:
    stage: str
    slot: int
    worker: Worker | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    failures: int = 0

    @property
    def name(self) -> str:
        return f"{self.stage}-{self.slot}"


@dataclass(frozen=True, slots=True)
class Told:
    """One line of a worker's log."""

    at_s: float
    """Unix time."""
    worker: str
    event: str
    more: str
    """Its error, or what its steps took."""


@dataclass(slots=True)
class Crew:
    """Workers of some places (stage, slot), from `start` to `stop`."""

    zygote: Zygote
    settings: Settings
    folder: Path
    places: list[_Place] = field(default_factory=list)
    endings: list[str] = field(default_factory=list)
    restarts: int = 0
    watchdog_ends: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self, wanted: dict[str, int]) -> None:
        """Start so many workers of each stage, and the supervisor."""
        self.places = [_Place(stage, slot) for stage, number in wanted.items() for slot in range(number)]
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Leave off supervising; the workers leave as they do on SIGTERM, or with the zygote."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def terminate(self, deadline_s: float) -> list[str]:
        """SIGTERM to all, after `stop`; names those that did not leave in time or not in order."""
        late = []
        for place in self.places:
            if place.worker is None or not place.worker.is_alive:
                continue
            try:
                code = place.worker.terminate(deadline_s)
            except TimeoutError as error:
                late.append(str(error))
            else:
                if code:
                    late.append(f"{place.name} left with {code}")
        return late

    def dump(self) -> None:
        """Let every worker write its threads' stacks to its log."""
        for place in self.places:
            if place.worker is not None:
                place.worker.dump()

    def told(self) -> list[Told]:
        """Return what the workers said about failures and recoveries so far, in order of time."""
        found = [line for place in self.places for line in _read(self._log(place), place.name)]
        return sorted(found, key=lambda line: line.at_s)

    def _log(self, place: _Place) -> Path:
        return self.folder / f"{place.name}.log"

    def _supervise(self) -> None:
        while not self._stop.wait(POLL_S):
            now = time.monotonic()
            for place in self.places:
                if place.worker is not None and not place.worker.is_alive:
                    self._note_ending(place, place.worker, now)
                elif place.worker is None and now >= place.start_at:
                    place.worker = self.zygote.spawn(
                        place.stage, self.settings, place.slot, log=self._log(place)
                    )
                    place.started_at = now

    def _note_ending(self, place: _Place, worker: Worker, now: float) -> None:
        self.restarts += 1
        self.watchdog_ends += worker.exit_code == HANGS
        self.endings.append(f"{place.name} ended with {worker.exit_code}")
        place.failures = 1 if now - place.started_at > HEALTHY_AGAIN_S else place.failures + 1
        place.worker, place.start_at = None, now + backoff_s(place.failures)


def _read(log: Path, name: str) -> Iterator[Told]:
    if not log.exists():
        return
    for text in log.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
            event = line["event"]
            if event in TOLD:
                at = datetime.fromisoformat(line["timestamp"]).timestamp()
                yield Told(at, name, event, str(line.get("error") or line.get("seconds") or ""))
        except (ValueError, KeyError, TypeError):
            continue
