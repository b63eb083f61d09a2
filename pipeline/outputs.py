"""The records that ingest and profile write: accepted, rejected, decisions, findings and prints of noise."""

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from blake3 import blake3

from pipeline.topics import DECISIONS, EVENTS, FINDINGS, PRINTS, REJECTED
from processors.model import RawRecord, Rejection, VerifiedEvent
from schemas.decisions import Decision
from schemas.noise import NoiseBlock, encode_noise
from schemas.partition import partition_of
from schemas.records import Finding, Headers


class Produce(Protocol):
    """Takes a record, as `TransactionalProducer.produce` does."""

    def __call__(  # noqa: D102
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        headers: Headers = ...,
    ) -> object: ...


MAX_KEPT_VALUE = 256 * 1024
"""A rejected value above this is kept as digest, length and its first 4 KiB."""
KEPT_HEAD = 4096
MAX_KEPT_KEY = 256
MAX_DETAIL = 500
MAX_PRINTS, MAX_BLOCKS = 20_000, 2000
"""Prints, and blocks of devices, in one record: below 800 KB, however long ids are."""


def source_header(record: RawRecord) -> tuple[str, bytes]:
    """Name the raw record that an output comes from: the accountant's thread through the topics."""
    return ("source", _place(record.topic, record.partition) + b"%d" % record.offset)


@lru_cache(maxsize=1024)
def _place(topic: str, partition: int) -> bytes:
    return f"{topic}/{partition}/".encode()


@lru_cache(maxsize=16)
def _registry_header(offset: int) -> tuple[str, bytes]:
    return ("registry.offset", b"%d" % offset)


def accept(produce: Produce, items: Sequence[VerifiedEvent]) -> None:
    """Forward accepted envelopes of one raw partition, their bytes untouched, to the same partition."""
    if not items:
        return
    first = items[0].source
    place, partition = _place(first.topic, first.partition), first.partition
    for item in items:
        source = item.source
        headers = [_registry_header(item.registry_offset), ("source", b"%b%d" % (place, source.offset))]
        produce(EVENTS, source.value, source.key, partition, headers)  # by place: see TransactionalProducer


def reject(produce: Produce, item: Rejection) -> None:
    """Write a dead letter (headers as KIP-1034 names them) that fits whatever the broker accepted."""
    source, value = item.source, item.source.value
    headers: list[tuple[str, bytes]] = [
        ("reason", item.reason.value.encode()),
        ("registry.offset", b"%d" % item.registry_offset),
        source_header(source),
        # A leaf digest must not be guessable, and not every rejected record holds a signature.
        ("salt", os.urandom(16)),
        ("__streams.errors.exception", item.reason.value.encode()),
        ("__streams.errors.message", item.detail[:MAX_DETAIL].encode()),
        ("__streams.errors.topic", source.topic.encode()),
        ("__streams.errors.partition", b"%d" % source.partition),
        ("__streams.errors.offset", b"%d" % source.offset),
    ]
    if item.device_id is not None:
        headers.append(("device", item.device_id.encode()))
    if value is not None and len(value) > MAX_KEPT_VALUE:
        headers += [("value.length", b"%d" % len(value)), ("value.blake3", blake3(value).digest())]
        value = value[:KEPT_HEAD]
    key = source.key
    if key is not None and len(key) > MAX_KEPT_KEY:
        headers += [("key.length", b"%d" % len(key)), ("key.blake3", blake3(key).digest())]
        key = None
    produce(REJECTED, value=value, key=key, partition=source.partition, headers=headers)


def report(produce: Produce, partition: int, finding: Finding) -> None:
    """Write a finding beside the device's other records."""
    produce(
        FINDINGS, value=finding.encode(os.urandom(16)), key=finding.device_id.encode(), partition=partition
    )


def tell_noise(produce: Produce, source: tuple[str, int], blocks: Sequence[NoiseBlock]) -> None:
    """Write the prints of a raw partition's batch to where those of all devices meet."""
    topic, partition = source
    first = prints = 0
    for at, block in enumerate(blocks, 1):
        prints += len(block.prints)
        if at == len(blocks) or at - first == MAX_BLOCKS or prints >= MAX_PRINTS:
            value = encode_noise(topic, partition, blocks[first:at])
            produce(PRINTS, value=value, key=f"{topic}/{partition}".encode(), partition=0)
            first, prints = at, 0


def decide(produce: Produce, decision: Decision, partitions: int) -> None:
    """Write a decision beside those on the same subject, whatever device they are about."""
    key, at = decision.subject.encode("utf-8", "surrogatepass"), decision.request
    produce(
        DECISIONS,
        value=decision.encode(os.urandom(16)),
        key=key,
        partition=partition_of(key, partitions),
        headers=[
            ("registry.offset", b"%d" % decision.registry_offset),
            ("policy.offset", b"%d" % decision.policy_offset),
            ("source", f"{at.topic}/{at.partition}/{at.offset}".encode()),
        ],
    )
