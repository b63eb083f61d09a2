"""HCS topic running hash, version 3 (HIP-1 and `ConsensusSubmitMessage` in the Hedera protobufs).

The protobuf's comment lists the hashed fields as a plain concatenation. Consensus nodes write them to
a `java.io.ObjectOutputStream` instead, so the hashed bytes carry Java's stream framing: byte arrays as
array objects and the numbers between them as one block of primitive data.
Names in capitals below are those of the Java Object Serialization Stream Protocol.
"""

import hashlib
import struct

from anchors.hedera.ids import EntityId

RUNNING_HASH_VERSION = 3
RUNNING_HASH_BYTES = 48
ZERO_RUNNING_HASH = bytes(RUNNING_HASH_BYTES)
"""The running hash of a topic before its first message."""

_STREAM_HEADER = b"\xac\xed" + b"\x00\x05"  # STREAM_MAGIC, STREAM_VERSION
_TC_ARRAY = b"\x75"
_TC_REFERENCE_TO_FIRST_CLASS = b"\x71" + b"\x00\x7e\x00\x00"  # TC_REFERENCE, baseWireHandle + 0
_TC_BLOCKDATA = b"\x77"
_BYTE_ARRAY_CLASS = (
    b"\x72"  # TC_CLASSDESC
    + struct.pack(">H", 2)
    + b"[B"  # the class name of byte[]
    + bytes.fromhex("acf317f8060854e0")  # its serialVersionUID
    + b"\x02"  # SC_SERIALIZABLE
    + b"\x00\x00"  # no fields
    + b"\x78"  # TC_ENDBLOCKDATA: no class annotation
    + b"\x70"  # TC_NULL: no superclass
)
_NUMBERS = struct.Struct(">q 3q 3q q i q")


def running_hash_v3(
    previous: bytes,
    *,
    payer: EntityId,
    topic: EntityId,
    consensus_time_ns: int,
    sequence: int,
    message: bytes,
) -> bytes:
    """The 48-byte running hash after `message`, given the 48 bytes before it.

    `sequence` is the message's own number, 1 for the first of a topic.
    """
    seconds, nanos = divmod(consensus_time_ns, 1_000_000_000)
    numbers = _NUMBERS.pack(
        RUNNING_HASH_VERSION,
        payer.shard,
        payer.realm,
        payer.number,
        topic.shard,
        topic.realm,
        topic.number,
        seconds,
        nanos,
        sequence,
    )
    message_digest = hashlib.sha384(message).digest()
    stream = hashlib.sha384(_STREAM_HEADER)
    stream.update(_TC_ARRAY + _BYTE_ARRAY_CLASS + struct.pack(">i", len(previous)) + previous)
    stream.update(_TC_BLOCKDATA + bytes([len(numbers)]) + numbers)
    stream.update(_TC_ARRAY + _TC_REFERENCE_TO_FIRST_CLASS)
    stream.update(struct.pack(">i", len(message_digest)) + message_digest)
    return stream.digest()
