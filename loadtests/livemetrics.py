"""Prometheus metrics of a load test while it runs, on the loopback interface only."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Gauge, start_http_server

from loadtests.errors import PlanError
from loadtests.measure import OnProgress, Progress

LOOPBACK = "127.0.0.1"


@contextmanager
def served(port: int | None) -> Iterator[OnProgress]:
    """Serve what the progress says while the block runs; a port of None serves nothing. Raises PlanError."""
    if port is None:
        yield lambda _progress: None
        return
    registry = CollectorRegistry()
    gauges = {
        name: Gauge(f"attestream_loadtest_{name}", text, registry=registry)
        for name, text in (
            ("planned_records", "Records of this run"),
            ("sent_records", "Handed to the client library"),
            ("acknowledged_records", "Acknowledged by the broker"),
            ("failed_records", "Given up by the client library"),
            ("late_seconds", "How late the newest record was sent"),
            ("lag_records", "Raw records that ingest has not committed"),
            ("unsealed_records", "Committed outputs without a leaf in a signed checkpoint"),
            ("elapsed_seconds", "Since the first record was due"),
        )
    }
    try:
        server, _thread = start_http_server(port, addr=LOOPBACK, registry=registry)
    except OSError as error:
        raise PlanError(f"metrics cannot be served on port {port}: {error.strerror}") from error

    def take(progress: Progress) -> None:
        if progress.phase == "counting":
            return
        values = {
            "planned_records": progress.count,
            "sent_records": progress.sent,
            "acknowledged_records": progress.acknowledged,
            "failed_records": progress.failed,
            "late_seconds": progress.late_ms / 1000,
            "lag_records": progress.lag,
            "unsealed_records": progress.unsealed or 0,
            "elapsed_seconds": progress.elapsed_s,
        }
        for name, value in values.items():
            gauges[name].set(value)

    try:
        yield take
    finally:
        server.shutdown()
        server.server_close()
