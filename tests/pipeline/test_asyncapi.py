"""The AsyncAPI document: every topic, every header that is written, and no reference into nothing."""

import json
from collections.abc import Iterator
from typing import Any

import fastavro
import pytest
from typer.testing import CliRunner

from pipeline import asyncapi, outputs
from pipeline.cli.main import build
from pipeline.partytopics import party_topic, undelivered_topic
from pipeline.topiccontent import AVRO, CONTENT
from pipeline.topics import EVENTS, REJECTED, TOPICS
from processors.model import RawRecord, Rejection
from schemas.reasons import Reason
from tests.kit.regenerate_formats import ASYNCAPI


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (node["$ref"],) if "$ref" in node else ()
        for each in node.values():
            yield from references(each)
    elif isinstance(node, list):
        for each in node:
            yield from references(each)


def test_the_docs_hold_it_and_the_command_prints_it() -> None:
    text = ASYNCAPI.read_text(encoding="utf-8")
    assert text == asyncapi.text(), "python -m tests.kit.regenerate_formats"
    assert CliRunner().invoke(build("topics"), ["topics", "asyncapi"]).stdout == text


def test_every_topic_has_a_channel_an_operation_and_a_message() -> None:
    document = asyncapi.document()
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert addresses == {
        *(spec.name for spec in TOPICS), party_topic("{party}"), undelivered_topic("{party}")
    }  # fmt: skip
    reached = {operation["channel"]["$ref"] for operation in document["operations"].values()}
    assert reached == {f"#/channels/{name}" for name in document["channels"]}
    for reference in references(document):
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_every_avro_payload_is_a_schema() -> None:
    messages = asyncapi.document()["components"]["messages"].values()
    payloads = [message["payload"] for message in messages if message["contentType"] == AVRO]
    assert payloads
    for payload in payloads:
        fastavro.parse_schema(json.loads(json.dumps(payload["schema"])))


@pytest.mark.parametrize("size", [10, outputs.MAX_KEPT_VALUE + 1])
def test_a_rejection_has_the_headers_that_are_documented(size: int) -> None:
    written: list[tuple[str, bytes]] = []

    def produce(topic: str, value: Any, key: Any, partition: int, headers: Any = ()) -> None:
        assert topic == REJECTED
        written.extend(headers)

    source = RawRecord("device.telemetry.raw", 0, 7, 1, b"k" * size, b"v" * size)
    outputs.reject(produce, Rejection(source, Reason.REPLAY, "again", 3, "did:key:z1"))
    known = dict(CONTENT[REJECTED].headers)
    assert {name for name, _ in written} <= set(known)
    if size > outputs.MAX_KEPT_VALUE:
        assert {name for name, _ in written} == set(known)
    assert set(dict(CONTENT[EVENTS].headers)) == {"registry.offset", "source"}
