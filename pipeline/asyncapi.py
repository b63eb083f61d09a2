"""The AsyncAPI 3 document of all topics, made from the table of topics, their content and the Avro schemas.

Source: AsyncAPI 3.0.0, section "AsyncAPI Specification", and the Kafka bindings 0.5.0.
"""

import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from pipeline.partytopics import topics_of
from pipeline.settings import Settings
from pipeline.topiccontent import AVRO, CONTENT, JSON, Content, content_for_party
from pipeline.topics import RAW_TOPICS, SEALED_TOPICS, TOPICS, TopicSpec
from schemas.codec import CODEC, HEADER_SIZE, compiled_in

ASYNCAPI, KAFKA_BINDING = "3.0.0", "0.5.0"
AVRO_FORMAT = "application/vnd.apache.avro+json;version=1.9.0"
"""The newest that AsyncAPI knows; nothing that our schemas use has changed since."""
PARTY = "{party}"

Json = dict[str, Any]
Schemas = Mapping[tuple[str, int], Any]
"""By record and version, as the codec has them."""


def document() -> Json:
    """Return the whole document; the same for every run of one build."""
    partitions = Settings.model_fields["partitions"].default
    contents, schemas = {**CONTENT, **content_for_party(PARTY)}, compiled_in()
    specs = [(spec, contents[spec.name]) for spec in (*TOPICS, *topics_of(PARTY))]
    channels = {_id(spec.name): _channel(spec, content, partitions) for spec, content in specs}
    return {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "attestream",
            "version": version("attestream"),
            "description": "Signed events of devices, what was decided of them, and the log of both.",
            "license": {"name": "Apache-2.0"},
        },
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "description": "Any Kafka with transactions.",
                "variables": {"bootstrap": {"default": "127.0.0.1:9092"}},
            }
        },
        "channels": channels,
        "operations": dict(_operation(spec.name) for spec, _ in specs),
        "components": {"messages": {_id(spec.name): _message(content, schemas) for spec, content in specs}},
    }


def text() -> str:
    """Return the document as it stands in the docs."""
    return json.dumps(document(), indent=2) + "\n"


def _id(topic: str) -> str:
    return topic.replace(PARTY, "party").replace(".", "-")


def _channel(spec: TopicSpec, content: Content, partitions: int) -> Json:
    kept: Json = {"cleanup.policy": [spec.config["cleanup.policy"]]}
    if "retention.ms" in spec.config:
        kept["retention.ms"] = int(spec.config["retention.ms"])
    channel: Json = {
        "address": spec.name,
        "description": _described(spec, content),
        "messages": {"record": {"$ref": f"#/components/messages/{_id(spec.name)}"}},
        "bindings": {
            "kafka": {
                "partitions": partitions if spec.by_device else 1,
                "topicConfiguration": kept,
                "bindingVersion": KAFKA_BINDING,
            }
        },
    }
    if PARTY in spec.name:
        channel["parameters"] = {"party": {"description": "Name of a subscribed party."}}
    return channel


def _described(spec: TopicSpec, content: Content) -> str:
    said = [f"Value: {content.value.replace('`', '')}.", f"Key: {content.key}."]
    if spec.by_device:
        said.append("The partition is the key's, by murmur2 as Kafka's own clients choose it.")
    if spec.name in SEALED_TOPICS:
        said.append("Sealed: each record is a leaf of the published log.")
    return " ".join(said)


def _operation(topic: str) -> tuple[str, Json]:
    action = "receive" if topic in RAW_TOPICS else "send"
    channel = f"#/channels/{_id(topic)}"
    return f"{action}-{_id(topic)}", {
        "action": action,
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/record"}],
    }


def _message(content: Content, schemas: Schemas) -> Json:
    message: Json = {"contentType": content.content_type}
    if content.content_type == AVRO:
        newest = max(name for name in schemas if name[0] == content.record)
        message["payload"] = {"schemaFormat": AVRO_FORMAT, "schema": schemas[newest]}
        message["description"] = " ".join(_encoded(content))
    else:
        message["payload"] = {"type": "object" if content.content_type == JSON else "string"}
    if content.headers:
        message["headers"] = {
            "type": "object",
            "properties": {name: {"type": "string", "description": what} for name, what in content.headers},
        }
    message["bindings"] = {
        "kafka": {"key": {"type": "string", "description": content.key}, "bindingVersion": KAFKA_BINDING}
    }
    return message


def _encoded(content: Content) -> Iterator[str]:
    header = CODEC.header(content.record)
    yield f"Avro single-object encoding: the body follows the {HEADER_SIZE} bytes {header.hex()}."
    if content.carries:
        inner = CODEC.header(content.carries).hex()
        yield f"The payload within is {content.carries} behind {inner}; its schema: schemas/avro."
