"""After the stream: wait until every record is judged, sealed and anchored, as seen from outside."""

import time
from collections.abc import Callable, Mapping

from pipeline.demo.observed import Observed
from pipeline.demo.tamper import published_logs
from pipeline.settings import PipelineError, Settings

POLL_S = 0.1
JUDGED_DEADLINE_S = 120.0
SEALED_DEADLINE_S = 60.0
TOLD_DEADLINE_S = 60.0

Missing = Callable[[], str]
"""Says what is still missing; empty when nothing is."""


class OverdueError(PipelineError):
    """Something did not happen in time; the message names it."""


def wait_until_none(
    missing: Missing, deadline_s: float, *, on_wait: Callable[[str], None], alive: Callable[[], None]
) -> None:
    """Poll `missing` until it is empty; `alive` raises when waiting has become pointless."""
    until_s = time.monotonic() + deadline_s
    while text := missing():
        alive()
        if time.monotonic() > until_s:
            raise OverdueError(f"not within {deadline_s:.0f} s: {text}")
        on_wait(text)
        time.sleep(POLL_S)


def unjudged(observed: Observed, produced: Callable[[], int]) -> Missing:
    """Raw records without a verdict yet, counted in the topics; `produced` are known to be there."""

    def missing() -> str:
        unseen = max(0, produced() - observed.books.raw)
        count = observed.books.in_flight + unseen
        return f"{count:,} records to be judged" if count > 0 else ""

    return missing


def unsealed(settings: Settings, wanted: Mapping[str, int]) -> Missing:
    """Leaves that no published checkpoint covers yet; `wanted` maps origins to tree sizes."""

    def missing() -> str:
        sizes = {
            log.checkpoint.origin: log.checkpoint.size for log in published_logs(settings.data_dir / "log")
        }
        count = sum(max(0, size - sizes.get(origin, 0)) for origin, size in wanted.items())
        return f"{count:,} leaves to be signed for" if count else ""

    return missing


def unanchored(observed: Observed, wanted: Mapping[str, int]) -> Missing:
    """Whether the ledger has confirmed an epoch log that covers these tree sizes."""

    def missing() -> str:
        needed = observed.epoch_size_covering(wanted)
        if needed is None:
            return "newest checkpoints to enter the epoch log"
        confirmed = observed.confirmed_size()
        return "" if confirmed >= needed else f"epoch log of {needed} to be confirmed (now {confirmed})"

    return missing
