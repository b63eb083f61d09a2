"""Which partition a key belongs to: MurmurHash2 as Apache Kafka's Java clients use it.

`org.apache.kafka.common.utils.Utils.murmur2` and `BuiltInPartitioner.partitionForKey`: the 32-bit hash
with seed 0x9747b28c, sign bit cleared, modulo the partition count. So a device's records land in the same
partition whichever client wrote them, and a record elsewhere shows that somebody chose its place.
"""

import struct

KAFKA_PARTITIONER = "murmur2"
"""librdkafka's name (`partitioner`) of the same rule, null keys included: all in one partition."""

_MASK = 0xFFFFFFFF
_SEED = 0x9747B28C
_M = 0x5BD1E995


def murmur2(data: bytes) -> int:
    """Hash `data` to an unsigned 32-bit number; Java shows the same bits as a signed one."""
    size = len(data)
    h = _SEED ^ size
    for k in struct.unpack_from(f"<{size // 4}I", data):
        k = k * _M & _MASK  # noqa: PLW2901 - the algorithm's own names
        h = (h * _M & _MASK) ^ ((k ^ (k >> 24)) * _M & _MASK)
    tail = data[size & ~3 :]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """Place a key in one of `partitions` partitions, 0-based."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
