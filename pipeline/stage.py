"""What every stage process has around its loop: logs, metrics, health file, leash, orderly shutdown."""

import ctypes
import faulthandler
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TextIO

import structlog
from prometheus_client import start_http_server

from pipeline import metrics
from pipeline.local.leash import hold_leash
from pipeline.settings import Settings

BEAT_EVERY_S = 0.5
WATCHDOG_S = 60.0
"""A loop that has not beaten for so long hangs in a call that ignores its time-out: the process ends, with
every thread's stack in the log, and the supervisor starts another. Killing a transaction coordinator can
hang librdkafka so (measured). No step and no call within one is allowed half of this."""
HANGS = 70  # exit code
ARENAS = 2
_M_ARENA_MAX = -8  # malloc.h
WATCH_EVERY_S = 0.5
DRAIN_S = 8.0
"""Who was asked to leave commits what it has within so long, or leaves as it is: another party does not
answer, and to leave then is no worse than a crash, from which everything recovers."""
ALARMING_FAILURES = 5
"""Sessions that failed in a row and got nothing done; one or two are everyday life."""
SETTLED_S = 30.0
"""A worker that has run for so long after a failure is over it, also where there was nothing to do."""

log = structlog.get_logger()


class StageState(StrEnum):
    """States of a stage, as its health file and `attestream status` show them."""

    STARTING = "starting"
    RESTORING = "restoring"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPED = "stopped"


class Health:
    """Writes `<data>/run/<stage>.health.json`: liveness is the age of the last beat, readiness the state."""

    def __init__(self, settings: Settings, stage: str, slot: int, metrics_port: int | None = None) -> None:
        name = stage if slot == 0 else f"{stage}-{slot}"
        self.path = settings.data_dir / "run" / f"{name}.health.json"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.stage, self.slot, self.metrics_port = stage, slot, metrics_port
        self.steps = 0
        """Steps finished in state `running`: a session that adds some got somewhere."""
        self.beaten_at = time.monotonic()
        self._data_dir = settings.data_dir
        self._failures = 0
        self._failed_at = 0.0
        self._failing_since = datetime.now(UTC)
        self._trouble = ""
        self._shown: tuple[StageState, str, str] | None = None
        self._written_at = 0.0
        self.progressed()

    def beat(self, state: StageState, detail: str = "", *, alarm: str = "") -> None:
        """Say that the loop is alive; the file is replaced at most twice a second, or on a change.

        `alarm` names, in few words, what of its work the stage cannot do.
        """
        now, self.beaten_at = time.time(), time.monotonic()
        is_running = state is StageState.RUNNING
        self.steps += is_running
        if self._failures and is_running and self.beaten_at - self._failed_at > SETTLED_S:
            self._forget_failures()
        if self._failures >= ALARMING_FAILURES:
            alarm = alarm or f"FAILED {self._failures} times"
        if self._trouble:
            detail = f"{detail}; {self._trouble}" if detail else self._trouble
        # By the clock that never steps: after a step back nothing would be written until it is made up for.
        if self._shown == (state, detail, alarm) and self.beaten_at - self._written_at < BEAT_EVERY_S:
            return
        self._shown, self._written_at = (state, detail, alarm), self.beaten_at
        metrics.LAST_BEAT.labels(*self._labels).set(now)
        metrics.READY.labels(*self._labels).set(is_running)
        text = json.dumps(
            {
                "stage": self.stage,
                "slot": self.slot,
                "pid": os.getpid(),
                "state": state.value,
                "beat_s": now,
                "detail": detail,
                "alarm": alarm,
                "metrics_port": self.metrics_port,
            }
        )
        # A full disk costs the sign of life, not the life: the metrics still tell.
        with suppress(OSError):
            self._write(text)

    def progressed(self) -> None:
        """Say that something got done: a batch was committed, a checkpoint published, an anchor confirmed."""
        metrics.LAST_PROGRESS.labels(*self._labels).set_to_current_time()
        self._forget_failures()

    def session_failed(self, why: str) -> None:
        """Count a session that failed; its reason is told with every beat until something gets done again."""
        if not self._failures:
            self._failing_since = datetime.now(UTC)
        self._failures, self._failed_at = self._failures + 1, time.monotonic()
        since = f"{self._failing_since:%Y-%m-%d %H:%M:%S}Z"
        self._trouble = f"FAILED {self._failures} times since {since}: {why}"
        metrics.FAILED_SESSIONS.labels(*self._labels).set(self._failures)

    @property
    def _labels(self) -> tuple[str, str]:
        return self.stage, str(self.slot)

    def _forget_failures(self) -> None:
        self._failures, self._trouble = 0, ""
        metrics.FAILED_SESSIONS.labels(*self._labels).set(0)

    def _write(self, text: str) -> None:
        used = shutil.disk_usage(self._data_dir)
        metrics.DATA_FREE_BYTES.set(used.free)
        metrics.DATA_SIZE_BYTES.set(used.total)
        # Readers want a whole file, not a durable one: no fsync.
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.path)


class Stop:
    """Set once by SIGTERM, SIGINT or the end of the supervisor; loops look at `requested`."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.requested_at: float | None = None
        """Monotonic time of the request."""

    @property
    def requested(self) -> bool:
        """True when the stage should finish its batch, commit and leave."""
        return self._event.is_set()

    def request(self) -> None:
        """Ask the stage to leave."""
        self.requested_at = self.requested_at or time.monotonic()
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Sleep, but wake at once when asked to leave; True when asked."""
        return self._event.wait(seconds)


class _LossyStream:
    """Standard error that may be a file on a full disk: what cannot be written is lost, and nobody fails."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or count what is lost."""
        try:
            return self._stream.write(text)
        except OSError:
            metrics.LOG_LINES_LOST.inc()
            return len(text)

    def flush(self) -> None:
        """Flush, or count what is lost."""
        try:
            self._stream.flush()
        except OSError:
            metrics.LOG_LINES_LOST.inc()


def configure_logging() -> None:
    """One JSON object a line on stderr; the supervisor keeps it in `<data>/run/<stage>.log`."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(_LossyStream(sys.stderr)),  # type: ignore[arg-type]
    )


def _listen_for_signals(stop: Stop) -> None:
    """Hear SIGTERM and SIGINT also while the main thread is in a call: Python's handlers wait for its end."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)

    def listen() -> None:
        while os.read(read_end, 1):
            stop.request()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.request())
    signal.set_wakeup_fd(write_end)
    threading.Thread(target=listen, name="signals", daemon=True).start()


def _watch(health: Health, stop: Stop) -> None:
    while True:
        time.sleep(WATCH_EVERY_S)
        if stop.requested_at is not None and time.monotonic() - stop.requested_at > DRAIN_S:
            log.warning("left in the middle of a call that does not return", seconds=DRAIN_S)
            os._exit(0)
        if time.monotonic() - health.beaten_at > WATCHDOG_S:
            log.error("the loop hangs, ending the process", seconds=WATCHDOG_S)
            faulthandler.dump_traceback(all_threads=True)
            os._exit(HANGS)


def _use_few_arenas() -> None:
    """Keep malloc(3) of glibc from an arena a thread: pieces of short-lived buffers in each add up for hours.

    Measured in the monitor over ten minutes of 400 records a second: 194 MiB and growing, or 112 MiB and
    level, for the same CPU time. Another C library knows nothing of it and needs nothing.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)


@contextmanager
def running_stage(settings: Settings, stage: str, slot: int) -> Iterator[tuple[Health, Stop]]:
    """Surround a stage's loop; the loop runs until `Stop.requested`."""
    _use_few_arenas()
    configure_logging()
    structlog.contextvars.bind_contextvars(stage=stage, slot=slot)
    stop = Stop()

    _listen_for_signals(stop)
    hold_leash(stop.request)
    server, _thread = start_http_server(port=0, addr="127.0.0.1")
    health = Health(settings, stage, slot, metrics_port=server.server_port)
    health.beat(StageState.STARTING)
    threading.Thread(target=_watch, args=(health, stop), name="watchdog", daemon=True).start()
    log.info("stage starts", pid=os.getpid(), metrics_port=server.server_port)
    try:
        yield health, stop
        health.beat(StageState.STOPPED)
        log.info("stage ends")
    finally:
        server.shutdown()


def state_dir(settings: Settings, stage: str, slot: int) -> Path:
    """Return the folder of a stage slot's working copies (RocksDB and the like), made if missing."""
    path = settings.data_dir / "state" / stage / str(slot)
    path.mkdir(parents=True, exist_ok=True)
    return path
