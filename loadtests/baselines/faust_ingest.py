"""The baseline that a Python team would build: a Faust application that does ingest's first half.

It verifies each event, refuses replays by a table and forwards what is new, at least once. Its settings are
the fastest honest ones that we measured: one agent without concurrency, raw bytes without serializers, the
partition given, a table in memory (its changelog is written all the same), no web server, no logging, large
fetches and buffers, uvloop where it is installed. No detectors, no registry, no transactions: those are left
out in its favour.
"""

import gc
import logging
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from loadtests.baselines.work import Job, Openings, Telling, job_from_input, topics_of
from schemas.ed25519 import verify_batch

FLUSH_S = 1.0


def make_app(job: Job, openings: Openings) -> Any:
    """Make the application with its one agent."""
    if find_spec("uvloop") is not None:
        from mode.loop import use

        use("uvloop")
    import faust

    servers = str(job.properties["bootstrap.servers"]).split(",")
    app = faust.App(
        "attestream-loadtest-faust",
        broker=[f"kafka://{server.strip()}" for server in servers],
        store="memory://",
        datadir=str(Path(job.folder, "faust")),
        key_serializer="raw",
        value_serializer="raw",
        topic_partitions=job.partitions,
        topic_replication_factor=1,
        broker_session_timeout=10,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=4 << 20,
        broker_max_poll_records=1000,
        stream_buffer_maxsize=16_384,
        stream_wait_empty=False,
        # Nothing waits for an acknowledgement, so batches may fill: with 5 ms a request had four records.
        producer_linger=0.1,
        producer_max_batch_size=262_144,
        web_enabled=False,
        topic_disable_leader=True,
    )
    raw = app.topic(*topics_of(job), key_type=bytes, value_type=bytes, internal=False)
    out = app.topic(job.out, key_type=bytes, value_type=bytes, partitions=job.partitions)
    newest = app.Table("newest", default=int, partitions=job.partitions, key_type=str, value_type=int)

    @app.agent(raw, concurrency=1)
    async def ingest(stream: Any) -> None:
        app.sensors.remove(app.monitor)  # its statistics are read by nobody
        telling = Telling()
        async for event in stream.events():
            message = event.message
            opened = openings.open(message.topic, message.value)
            telling.done += 1
            if opened is not None and verify_batch([opened.key], [opened.message], [opened.signature])[0]:
                place = f"{message.topic} {opened.device_id}"
                if opened.sequence > newest[place]:
                    newest[place] = opened.sequence
                    await out.send(key=message.key, value=message.value, partition=message.partition)
                    telling.accepted += 1
            telling.tell()
            if telling.done >= job.count:
                await app.producer.flush()
                telling.tell(over=True)
                os._exit(0)  # all is forwarded and acknowledged; a stop would take seconds

    return app


def main() -> None:
    """Do one job."""
    job = job_from_input()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # its banner is for nobody
    app = make_app(job, Openings(job))
    logging.disable(logging.CRITICAL)
    gc.freeze()
    from faust import Worker

    Worker(app, loglevel="critical", redirect_stdouts=False, quiet=True).execute_from_commandline()


if __name__ == "__main__":
    main()
