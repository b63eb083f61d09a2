"""One slow question at a time, asked in a thread of its own, so that nobody's silence stops the rounds."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Any, Generic, TypeVar

R = TypeVar("R")


class Errand(Generic[R]):
    """At most one call is under way; `collect` says when it is done."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._outcome: Future[R] | None = None

    @property
    def is_free(self) -> bool:
        """Tell whether another may be sent."""
        return self._outcome is None

    def send(self, function: Callable[..., R], *arguments: Any) -> None:
        """Begin a call; only while free."""
        outcome: Future[R] = Future()
        self._outcome = outcome

        def body() -> None:
            try:
                outcome.set_result(function(*arguments))
            except BaseException as error:  # noqa: BLE001 - raised again by `collect`
                outcome.set_exception(error)

        # A daemon: a call that never returns does not keep the process from ending.
        Thread(target=body, name=self._name, daemon=True).start()

    def collect(self) -> R | None:
        """Return what the call returned, or raise what it raised, once; None while there is nothing."""
        if self._outcome is None or not self._outcome.done():
            return None
        outcome, self._outcome = self._outcome, None
        return outcome.result()
