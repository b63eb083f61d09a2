"""Calls with a deadline that holds even when the library ignores its own.

librdkafka's send_offsets_to_transaction waits for ever when its cached coordinator has gone away
(librdkafka issues 5456 and 5511; met here by killing a broker). The call is left behind in its thread; its
producer is fenced by the successor's init_transactions, so that nothing it may still do counts.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

from pipeline.settings import PipelineError


class StalledCallError(PipelineError):
    """A call did not return within its deadline and was left behind; its object must not be used again."""


class BoundedCalls:
    """Runs calls one at a time in a thread of its own."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], None], Future[None]] | None] = SimpleQueue()
        self._stalled = False
        # A daemon, so that a call that never returns does not keep the process from ending.
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def call(self, function: Callable[..., None], *arguments: Any, deadline_s: float) -> None:
        """Run `function`; raises what it raises, or StalledCallError at the deadline and ever after."""
        if self._stalled:
            raise StalledCallError("an earlier call never returned")
        outcome: Future[None] = Future()
        self._calls.put((lambda: function(*arguments), outcome))
        try:
            outcome.result(deadline_s)
        except TimeoutError:
            if outcome.done():
                raise  # the function's own
            self._stalled = True
            raise StalledCallError(f"no answer within {deadline_s:.0f} s, leaving the call behind") from None

    def close(self) -> None:
        """Let the thread end once its call returns."""
        self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            function, outcome = call
            try:
                function()
            except BaseException as error:  # noqa: BLE001 - raised again where the call was made
                outcome.set_exception(error)
            else:
                outcome.set_result(None)
