"""Prints of noise as they travel from the detectors to where those of many devices meet (`device.prints`)."""

from collections.abc import Sequence
from typing import NamedTuple

from schemas.codec import CODEC
from schemas.errors import CodecError

PRINT_SIGNS = 48
"""Changes of a signal in a print."""
MAX_BACK = 7


class NoisePrint(NamedTuple):
    """How the last changes of one signal went, up to so many events before a block's last."""

    code: int
    """The signal, an IEEE 11073 MDC code."""
    back: int
    signs: int
    """The newest change in the lowest bit, 1 for up."""


class NoiseBlock(NamedTuple):
    """The prints that ended in one block of a device's events; what is said of an event is the last one's."""

    device_id: str
    boot: int
    sequence: int
    time_us: int
    """The broker's time."""
    offset: int
    prints: tuple[NoisePrint, ...]


class NoiseBatch(NamedTuple):
    """A record of the topic: blocks of the devices of one raw partition, in its order."""

    topic: str
    partition: int
    blocks: tuple[NoiseBlock, ...]


def encode_noise(topic: str, partition: int, blocks: Sequence[NoiseBlock]) -> bytes:
    """Write blocks of one raw partition."""
    return CODEC.encode(
        "noise_prints",
        {
            "topic": topic,
            "partition": partition,
            "blocks": [
                {
                    "device_id": each.device_id,
                    "boot": each.boot,
                    "sequence": each.sequence,
                    "time": each.time_us,
                    "offset": each.offset,
                    "codes": [found.code for found in each.prints],
                    "backs": [found.back for found in each.prints],
                    "signs": [found.signs for found in each.prints],
                }
                for each in blocks
            ],
        },
    )


def decode_noise(value: bytes) -> NoiseBatch:
    """Read what `encode_noise` wrote; raises CodecError for anything else."""
    found = CODEC.decode("noise_prints", value)
    blocks = []
    for each in found["blocks"]:
        codes, backs, signs = each["codes"], each["backs"], each["signs"]
        if not len(codes) == len(backs) == len(signs):
            message = f"{len(codes)} codes, {len(backs)} backs and {len(signs)} signs are not parallel"
            raise CodecError(message)
        if not all(0 <= back <= MAX_BACK for back in backs) or not all(
            0 <= sign < 1 << PRINT_SIGNS for sign in signs
        ):
            raise CodecError(f"a print ends at most {MAX_BACK} events ago and has {PRINT_SIGNS} signs")
        if each["sequence"] < 0:
            raise CodecError(f"a sequence number is {each['sequence']}")
        prints = tuple(map(NoisePrint, codes, backs, signs))
        blocks.append(
            NoiseBlock(
                each["device_id"], each["boot"], each["sequence"], each["time"], each["offset"], prints
            )
        )
    return NoiseBatch(found["topic"], found["partition"], tuple(blocks))
