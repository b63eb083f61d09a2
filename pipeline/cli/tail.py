"""`attestream tail`: the records of a topic, readable, the last ones first and then as they come."""

import heapq
import sys
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import on_kafka

if TYPE_CHECKING:
    from confluent_kafka import Consumer
    from rich.console import Console

    from pipeline.settings import Settings
    from processors.model import RawRecord

LAST = 10
CONSUME_WAIT_S = 0.2
READ_TIMEOUT_S = 30.0

STYLES = {
    "critical": "bold white on red",
    "high": "bold red",
    "medium": "yellow",
    "low": "cyan",
    "informational": "dim",
    "unreadable": "magenta",
}

Follow = Annotated[bool, typer.Option("--follow/--no-follow", help="Go on as records come.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="tail")(tail)


@on_kafka
def tail(
    settings: "Settings",
    what: Annotated[
        str, typer.Argument(help="alerts, findings, rejected, events, anchors, checkpoints, registry.")
    ],
    *,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Everything there is.")] = False,
    last: Annotated[
        int, typer.Option("-n", min=0, help="How many of the last records to begin with.")
    ] = LAST,
    as_json: Annotated[bool, typer.Option("--json", help="Whole records, one JSON document a line.")] = False,
    follow: Follow = True,
) -> None:
    """Print a topic's records readably: when, how bad, what, and whom it concerns."""
    import contextlib

    from pipeline.cli.taillines import TOPIC_OF
    from pipeline.settings import UsageError

    if what not in TOPIC_OF:
        raise UsageError(f"nothing to tail called {what!r}: there are {', '.join(TOPIC_OF)}")
    write = _json_writer() if as_json else _line_writer()
    try:
        with contextlib.closing(
            records(settings, TOPIC_OF[what], last=None if from_beginning else last, follow=follow)
        ) as found:
            for record in found:
                write(record)
    except KeyboardInterrupt:
        return  # how one ends it
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone; there is nobody to complain to


def records(
    settings: "Settings", topic: str, *, last: int | None, follow: bool
) -> "Generator[RawRecord, None, None]":
    """Yield committed records: the last `last` of all partitions by time (None: all), then what comes.

    Raises UsageError when the topic does not exist and KafkaReadError when it cannot be read.
    """
    import uuid

    from pipeline import kafka

    reader = kafka.consumer(
        settings,
        f"{settings.log_name}.tail.{uuid.uuid4().hex}",
        **{"enable.partition.eof": True, "auto.offset.reset": "earliest"},
    )
    try:
        unread = _assign(reader, topic, last)
        backlog: list[RawRecord] = []
        while unread:
            batch = _consume(reader, unread)
            if last is None:
                yield from batch
            else:
                backlog = heapq.nlargest(last, backlog + batch, key=_order)
        yield from sorted(backlog, key=_order)
        while follow:
            yield from _consume(reader, unread)
    finally:
        reader.close()


def _assign(reader: "Consumer", topic: str, last: int | None) -> set[int]:
    """Start every partition early enough for its share of the last records; return the partitions."""
    from confluent_kafka import TopicPartition

    from pipeline.settings import UsageError

    metadata = reader.list_topics(topic, timeout=READ_TIMEOUT_S).topics[topic]
    if metadata.error is not None:
        raise UsageError(f"topic {topic}: {metadata.error.str()}")
    starts = []
    for number in metadata.partitions:
        low, high = reader.get_watermark_offsets(TopicPartition(topic, number), timeout=READ_TIMEOUT_S)
        # Twice as far back, because a transaction's marker takes an offset too and holds no record.
        starts.append(TopicPartition(topic, number, low if last is None else max(low, high - 2 * last)))
    reader.assign(starts)
    return set(metadata.partitions)


def _consume(reader: "Consumer", unread: set[int]) -> "list[RawRecord]":
    """Read what is there; partitions read to their end leave `unread`."""
    from confluent_kafka import KafkaError

    from pipeline import kafka

    batch = []
    for message in reader.consume(500, CONSUME_WAIT_S):
        error = message.error()
        if error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            unread.discard(message.partition() or 0)
        else:
            batch.append(kafka.to_record(message))
    return batch


def _order(record: "RawRecord") -> tuple[int, int, int]:
    return record.append_ms, record.partition, record.offset


def _json_writer() -> "Callable[[RawRecord], None]":
    import json

    from pipeline.cli.taillines import document_of

    def write(record: "RawRecord") -> None:
        print(json.dumps(document_of(record), ensure_ascii=True), flush=True)

    return write


def _line_writer() -> "Callable[[RawRecord], None]":
    from rich.console import Console

    console = Console(highlight=False)

    def write(record: "RawRecord") -> None:
        _print(console, record)

    return write


def _print(console: "Console", record: "RawRecord") -> None:
    from datetime import datetime

    from rich.text import Text

    from pipeline.cli.taillines import line_of

    line = line_of(record)
    moment = datetime.fromtimestamp(record.append_ms / 1000).astimezone()
    text = Text()
    text.append(f"{moment:%Y-%m-%d %H:%M:%S}.{record.append_ms % 1000:03d} ", style="dim")
    text.append(f"{line.severity:<13} ", style=STYLES.get(line.severity, ""))
    text.append(line.what)
    if line.who:
        text.append(f"  {line.who}", style="blue")
    text.append(f"  @{record.partition}/{record.offset}", style="dim")
    console.print(text, soft_wrap=True)
