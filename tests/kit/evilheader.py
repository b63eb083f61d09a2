"""Publishes one record whose header name is not UTF-8, as no well-behaved client can.

Run as a process of its own: `python -m tests.kit.evilheader SERVERS TOPIC PARTITION KEY`, with
AIOKAFKA_NO_EXTENSIONS=1, so that the client's encoder is the one in Python. Prints the record's offset.
"""

import asyncio
import sys
from typing import Any

from aiokafka import AIOKafkaProducer


class NotUtf8(str):
    """A header name that encodes to bytes that are none."""

    __slots__ = ()

    def encode(self, *_args: Any, **_keywords: Any) -> bytes:
        return b"\xff\xfebad"


async def main(servers: str, topic: str, partition: int, key: bytes) -> int:
    producer = AIOKafkaProducer(bootstrap_servers=servers)
    await producer.start()
    try:
        headers = [(NotUtf8("x"), b"1")]
        sent = await producer.send_and_wait(topic, b"x", key=key, partition=partition, headers=headers)
    finally:
        await producer.stop()
    return int(sent.offset)


if __name__ == "__main__":
    print(asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4].encode())))
