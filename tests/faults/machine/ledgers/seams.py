"""Named points on an anchor's way, at which a schedule can kill or pause the very process."""

from collections.abc import Callable
from typing import Any

_POINTS = {
    "anchor.after_use_topic": ("store", "use_topic", "after"),
    "anchor.after_prepare": ("client", "prepare", "after"),
    "anchor.after_keep": ("store", "put_in_flight", "after"),
    "anchor.before_submit": ("client", "submit", "before"),
    "anchor.after_submit": ("client", "submit", "after"),
    "anchor.before_submitted": ("store", "submitted", "before"),
    "anchor.after_submitted": ("store", "submitted", "after"),
    "anchor.after_confirm": ("client", "confirm", "after"),
    "anchor.before_confirmed": ("store", "confirmed", "before"),
    "anchor.after_confirmed": ("store", "confirmed", "after"),
    "anchor.before_acknowledged": ("store", "acknowledged", "before"),
    "anchor.after_acknowledged": ("store", "acknowledged", "after"),
}
ANCHOR_SEAMS = tuple(_POINTS)


def wrap_anchor(passing: Callable[[str], None]) -> None:
    """Call `passing` with the name of each point that the worker comes past."""
    from anchors.hedera.client import HederaLedger
    from pipeline.anchorstore import AnchorStore

    owners: dict[str, Any] = {"store": AnchorStore, "client": HederaLedger}
    for at, (owner, name, when) in _POINTS.items():
        _wrap(owners[owner], name, at, when, passing)


def _wrap(owner: Any, name: str, at: str, when: str, passing: Callable[[str], None]) -> None:
    real = getattr(owner, name)

    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        if when == "before":
            passing(at)
        found = real(*arguments, **keywords)
        if when == "after":
            passing(at)
        return found

    setattr(owner, name, wrapped)
