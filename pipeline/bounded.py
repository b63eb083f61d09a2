"""Calls with a deadline that holds even when the library ignores its own.

librdkafka's send_offsets_to_transaction waits for ever when its cached coordinator has gone away
(librdkafka issues 5456 and 5511; met here by killing a broker). The call is left behind in its thread; its
producer is fenced by the successor's init_transactions, so that nothing it may still do counts.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import Any, TypeVar

from pipeline.settings import PipelineError

R = TypeVar("R")
BEAT_S = 0.25


class StalledCallError(PipelineError):
    """A call did not return within its deadline and was left behind; its object must not be used again."""


class BoundedCalls:
    """Runs calls one at a time in a thread of its own."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._stalled = False
        # A daemon, so that a call that never returns does not keep the process from ending.
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def call(
        self,
        function: Callable[..., R],
        *arguments: Any,
        deadline_s: float,
        beat: Callable[[], None] = lambda: None,
    ) -> R:
        """Return what `function` returns; raises what it raises, or StalledCallError at the deadline.

        `beat` is called all the while, here and not in the thread. When it raises, the call is left behind
        too. After a call that was left behind there is no other.
        """
        until = time.monotonic() + deadline_s
        return self.finish(self.start(function, *arguments), lambda: until, beat)

    def start(self, function: Callable[..., R], *arguments: Any) -> "Future[R]":
        """Begin a call and return at once; `finish` must be asked before the next one begins.

        Raises StalledCallError after a call that was left behind.
        """
        if self._stalled:
            raise StalledCallError("an earlier call never returned")
        outcome: Future[R] = Future()
        self._stalled = True  # until it has returned
        self._calls.put((lambda: function(*arguments), outcome))
        return outcome

    def finish(
        self, outcome: "Future[R]", until: Callable[[], float], beat: Callable[[], None] = lambda: None
    ) -> R:
        """Return what a call that was begun returns, as `call` does.

        `until` says by when, in monotonic seconds, and may say it anew as the call goes on.
        """
        began_at = time.monotonic()
        while not wait([outcome], min(BEAT_S, max(0.0, until() - time.monotonic()))).done:
            if time.monotonic() >= until():
                waited_s = time.monotonic() - began_at
                raise StalledCallError(f"no answer within {waited_s:.3g} s, leaving the call behind")
            beat()
        self._stalled = False
        return outcome.result()

    def close(self) -> None:
        """Let the thread end once its call returns."""
        self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            _serve_one(*call)
            del call  # or what it holds stays until the next one


def _serve_one(function: Callable[[], Any], outcome: "Future[Any]") -> None:
    try:
        outcome.set_result(function())
    except BaseException as error:  # noqa: BLE001 - raised again where the call was made
        outcome.set_exception(error)
    finally:
        # The error's traceback holds this frame, which holds the error: a cycle, with a producer in it.
        del function, outcome
