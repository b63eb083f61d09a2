"""Sessions: a stage's clients and memory live until the first failure, then all of it is made anew.

So there is one answer to every failure, and nothing half-known outlives it: what counts is in Kafka and in
the published logs. Only two things end the process: a fatal error and being superseded. A worker that has a
successor must not come back by itself.
"""

import gc
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import structlog
from confluent_kafka import KafkaError, KafkaException

from pipeline import metrics
from pipeline.kafka import is_fatal
from pipeline.patience import LeavingError
from pipeline.settings import PipelineError
from pipeline.stage import Health, StageState, Stop

log = structlog.get_logger()

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0


class SupersededError(PipelineError):
    """Another worker does our work. To begin anew would fence it, and it us, again and again: leave."""


class Session(Protocol):
    """Runs until asked to stop, or raises."""

    def run(self, stop: Stop) -> None:
        """Do the stage's work."""

    def close(self) -> None:
        """Release the clients."""


def run_sessions(stage: str, make: Callable[[], Session], health: Health, stop: Stop) -> None:
    """Run one session after another until asked to stop; pauses grow while none gets anywhere."""
    pause_s = FIRST_PAUSE_S
    while not stop.requested:
        work_done = health.steps
        session: Session | None = None
        try:
            session = make()
            session.run(stop)
        except LeavingError:
            return
        except (KafkaException, PipelineError, OSError) as error:
            if isinstance(error, SupersededError) or (isinstance(error, KafkaException) and is_fatal(error)):
                raise
            why = _why(error)
            metrics.RECOVERIES.labels(stage).inc()
            log.warning("session failed, beginning anew", error=why)
            health.session_failed(why)
            health.beat(StageState.RESTORING)
            pause_s = FIRST_PAUSE_S if health.steps > work_done else min(2 * pause_s, LONGEST_PAUSE_S)
            stop.wait(pause_s)
        finally:
            if session is not None:
                with suppress(KafkaException):
                    session.close()
            # Clients end, with their threads, when nothing refers to them, and a session refers to itself.
            session = None
            gc.collect()


def _why(error: Exception) -> str:
    """Say it as an operator reads it: the client library's own errors are records, or have no text at all."""
    cause = error.args[0] if error.args else None
    if isinstance(cause, KafkaError):
        return f"Kafka, {cause.name()}: {cause.str()}"
    return str(error) or f"a call did not return in time ({type(error).__name__})"
