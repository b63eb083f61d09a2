"""Waiting for another party without ever losing the beat, and saying since when it lets us wait."""

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from datetime import UTC, datetime
from threading import Thread
from typing import Any, Protocol, TypeVar

from pipeline.settings import PipelineError
from pipeline.stage import Stop

R = TypeVar("R")
BEAT_S = 0.25
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 5.0
LEAVING_GRACE_S = 2.0
LONGEST_CALL_S = 300.0
"""Calls bound themselves. One that hangs all the same loses its beat, and the watchdog ends the process."""


class Call(Protocol):
    """Runs a slow call somewhere and returns what it returns; `Patience.call` is one."""

    def __call__(self, function: Callable[..., R], /, *arguments: Any) -> R:
        """Call `function` with the arguments."""


def at_once(function: Callable[..., R], /, *arguments: Any) -> R:
    """Call `function` here: the `Call` of those who may wait."""
    return function(*arguments)


class LeavingError(PipelineError):
    """Asked to leave while another party did not answer; to leave then is no worse than a crash."""


class Patience:
    """Runs slow calls and pauses of a stage's loop; `beat` is called all the while, in the loop's thread."""

    def __init__(self, beat: Callable[[], None], stop: Stop) -> None:
        self._beat, self._stop = beat, stop
        self._under_way: Future[Any] | None = None

    def call(self, function: Callable[..., R], *arguments: Any) -> R:
        """Return what `function` returns, which runs in a thread of its own.

        Raises what it raises, and LeavingError when the stage is to leave and it takes too long.
        """
        if self._under_way is not None:
            self._await(self._under_way)  # the beat failed beside it: never two calls at once
        outcome: Future[R] = Future()
        self._under_way = outcome

        def body() -> None:
            try:
                outcome.set_result(function(*arguments))
            except BaseException as error:  # noqa: BLE001 - raised again where the call was made
                outcome.set_exception(error)

        Thread(target=body, name="patience", daemon=True).start()
        self._await(outcome)
        self._under_way = None
        return outcome.result()

    def _await(self, outcome: Future[Any]) -> None:
        leave_at_s: float | None = None
        silent_at_s = time.monotonic() + LONGEST_CALL_S
        while not wait([outcome], BEAT_S).done:
            if time.monotonic() < silent_at_s:
                self._beat()
            if self._stop.requested:
                leave_at_s = leave_at_s or time.monotonic() + LEAVING_GRACE_S
                if time.monotonic() > leave_at_s:
                    raise LeavingError("left while another party did not answer")

    def rest(self, seconds: float) -> None:
        """Pause, unless asked to leave."""
        until = time.monotonic() + seconds
        while not self._stop.requested:
            self._beat()
            left_s = until - time.monotonic()
            if left_s <= 0:
                return
            self._stop.wait(min(BEAT_S, left_s))


class Trouble:
    """What keeps a stage from its work: since when, how often tried, why; and how long to pause."""

    def __init__(self, longest_pause_s: float = LONGEST_PAUSE_S) -> None:
        self._longest_pause_s = longest_pause_s
        self._since: datetime | None = None
        self._tries = 0
        self._why = ""

    def __bool__(self) -> bool:
        return self._since is not None

    def __str__(self) -> str:
        if self._since is None:
            return ""
        return f"since {self._since:%Y-%m-%d %H:%M:%S}Z, tried {self._tries} times: {self._why}"

    def add(self, why: str) -> bool:
        """Count a failed try; True when it is new, or failed in another way than the one before."""
        is_news = why != self._why
        self._since = self._since or datetime.now(UTC)
        self._tries, self._why = self._tries + 1, why
        return is_news

    def clear(self) -> bool:
        """Forget it; True when there was any."""
        was = self._since is not None
        self._since, self._tries, self._why = None, 0, ""
        return was

    @property
    def pause_s(self) -> float:
        """How long to pause before the next try: doubled each time, within bounds."""
        return float(min(self._longest_pause_s, FIRST_PAUSE_S * 2 ** min(self._tries, 16)))
