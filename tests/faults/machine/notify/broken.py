"""Route and deliver with one rule broken each; `make faults-broken` shows that each is found."""

import time
from collections.abc import Callable
from typing import Any


def _repeats_routed() -> None:
    """An alert that comes again is told again."""
    from processors.route import RouteState

    real = RouteState.is_repeat

    def is_repeat(self: RouteState, uid: str) -> bool:
        real(self, uid)
        return False

    RouteState.is_repeat = is_repeat  # type: ignore[method-assign]


def _numbers_in_memory() -> None:
    """The numbers of the parties are not carried into the changelog."""
    from processors.route import RouteState

    real = RouteState.changes

    def changes(self: RouteState) -> list[tuple[bytes, bytes]]:
        return [(key, value) for key, value in real(self) if not key.startswith(b"p/")]

    RouteState.changes = changes  # type: ignore[method-assign]


def _read_is_delivered() -> None:
    """What was read ahead counts as delivered."""
    from pipeline.deliver.waiting import Waiting

    real = Waiting.add

    def add(self: Waiting, batch: Any) -> None:
        real(self, batch)
        self.done_to = self.read_to

    Waiting.add = add  # type: ignore[method-assign]


def _body_of_the_moment() -> None:
    """The body says when it was sent, so a repeat is another message."""
    from pipeline.deliver.delivery import Delivery

    real = vars(Delivery)["document"].func

    def document(self: Delivery) -> dict[str, Any]:
        return {**real(self), "sent": time.time_ns()}

    Delivery.document = property(document)  # type: ignore[assignment]


NOTIFY_BROKEN: dict[str, Callable[[], None]] = {
    "repeats_routed": _repeats_routed,
    "numbers_in_memory": _numbers_in_memory,
    "read_is_delivered": _read_is_delivered,
    "body_of_the_moment": _body_of_the_moment,
}
