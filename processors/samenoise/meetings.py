"""SAME NOISE: two devices whose signals go up and down alike, as those of two patients never do.

One print that is alike is a meeting, and may be chance. A source that feeds two devices keeps them in step:
their meetings lie the same number of reports apart, again and again (as songs are recognised: Wang, "An
Industrial-Strength Audio Search Algorithm", ISMIR 2003). So what is counted of two devices is how many
changes went alike at one distance, each once, however many prints tell of it.

Pure: what comes out follows from the records of the topic in their order, and from nothing else.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from processors.detect.config import DetectConfig
from processors.detect.findings import is_power_of_ten
from processors.model import RawRecord
from processors.samenoise.memory import NoiseMemory
from processors.samenoise.pair import Pair, Party
from processors.samenoise.table import Place, Seen
from processors.samenoise.telling import Telling
from schemas.errors import CodecError
from schemas.noise import PRINT_SIGNS, NoiseBatch, decode_noise
from schemas.records import Finding, FindingStatus


@dataclass(slots=True)
class Noticed:
    """What a batch came to."""

    findings: list[Finding] = field(default_factory=list)
    prints: int = 0
    meetings: int = 0
    unreadable: list[tuple[RawRecord, str]] = field(default_factory=list)


class SameNoise:
    """Judges prints by one configuration; what is remembered is the caller's."""

    def __init__(self, config: DetectConfig) -> None:
        self._limits = config.same_noise
        self._telling = Telling(config.same_noise, config.digest)

    def process(self, batch: Iterable[RawRecord], memory: NoiseMemory) -> Noticed:
        """Judge records of `device.prints` in offset order; the memory moves along."""
        noticed = Noticed()
        for record in batch:
            self._end_quiet(record, memory, noticed)
            try:
                for seen in self._prints(record, memory):
                    noticed.prints += 1
                    for known in memory.table.alike(seen, self._limits):
                        noticed.meetings += 1
                        self._meet(seen, known, record.append_us, memory, noticed)
                    memory.table.add(seen, record.append_ms, record.offset)
            except CodecError as error:
                noticed.unreadable.append((record, str(error)))
            memory.took(record.offset)
        return noticed

    def recall(self, record: RawRecord, memory: NoiseMemory) -> None:
        """Take the prints of a record that was judged before: those that are looked up are not kept."""
        try:
            for seen in self._prints(record, memory):
                memory.table.add(seen, record.append_ms, record.offset)
        except CodecError:
            return  # told when it was judged

    def _prints(self, record: RawRecord, memory: NoiseMemory) -> list[Seen]:
        memory.table.expire(record.append_ms - self._limits.apart_us // 1000)
        return _seen(decode_noise(record.value or b""))

    def _meet(self, seen: Seen, known: Seen, now_us: int, memory: NoiseMemory, noticed: Noticed) -> None:
        one, other = (seen, known) if seen.device_id < known.device_id else (known, seen)
        pair = memory.pair((one.device_id, other.device_id))
        if pair is None:
            if memory.is_full:
                self._end(memory.oldest(), now_us, memory, noticed)
            pair = _new_pair(one, other)
        elif not _in_step(pair, one, other):
            if pair.told_of is not None:
                return
            if pair.covered > PRINT_SIGNS:
                # Out of step takes away what in step gave, so that one chance ends no true course.
                pair.covered -= PRINT_SIGNS
                memory.keep(pair)
                return
            pair = _new_pair(one, other)
        elif pair.told_of is None and one.sequence - pair.last_sequence > self._limits.gap:
            pair = _new_pair(one, other)
        pair.last_us, pair.last_sequence = now_us, max(pair.last_sequence, one.sequence)
        pair.one.last, pair.other.last = one.place, other.place
        pair.cover(seen.code, one.sequence)
        pair.meetings += 1
        memory.keep(pair)
        self._tell(pair, seen, memory, noticed)

    def _tell(self, pair: Pair, seen: Seen, memory: NoiseMemory, noticed: Noticed) -> None:
        if pair.told_of is not None:
            if is_power_of_ten(pair.meetings - pair.opened_at):
                noticed.findings.append(self._telling.finding(pair, FindingStatus.UPDATED, seen.time_us))
            return
        if pair.covered < self._limits.alike:
            return
        # A hundred devices of one source are told of as a hundred findings, not as one for each two of them.
        if all(memory.named[device] for device in pair.devices):
            return
        pair.told_of, pair.opened_at = seen.device_id, pair.meetings
        memory.opened(pair)
        noticed.findings.append(self._telling.finding(pair, FindingStatus.OPENED, seen.time_us))

    def _end_quiet(self, record: RawRecord, memory: NoiseMemory, noticed: Noticed) -> None:
        """Forget pairs that have not met for a while, and clear what was told of them."""
        since_us = record.append_us - self._limits.quiet_us
        if memory.quiet_at_us > since_us:
            return
        for pair in [each for each in memory if each.last_us < since_us]:
            self._end(pair, record.append_us, memory, noticed)
        memory.quiet_at_us = min((each.last_us for each in memory), default=record.append_us)

    def _end(self, pair: Pair, now_us: int, memory: NoiseMemory, noticed: Noticed) -> None:
        memory.drop(pair)
        if pair.told_of is not None:
            memory.cleared(pair)
            noticed.findings.append(self._telling.finding(pair, FindingStatus.CLEARED, now_us))


def _in_step(pair: Pair, one: Seen, other: Seen) -> bool:
    """Tell whether a meeting lies as far apart as those before."""
    return (one.boot, other.boot) == (pair.one.boot, pair.other.boot) and (
        one.sequence - other.sequence == pair.distance
    )


def _new_pair(one: Seen, other: Seen) -> Pair:
    return Pair(
        Party(one.device_id, one.boot, one.place, one.place),
        Party(other.device_id, other.boot, other.place, other.place),
        one.sequence - other.sequence,
        one.sequence,
        0,
    )


def _seen(batch: NoiseBatch) -> list[Seen]:
    found = []
    for block in batch.blocks:
        place = Place(batch.topic, batch.partition, block.offset)
        for code, back, signs in block.prints:
            found.append(
                Seen(
                    block.device_id,
                    block.boot,
                    # Below 0 where the device began to count anew within the block.
                    max(0, block.sequence - back),
                    block.time_us,
                    place,
                    code,
                    signs,
                )
            )
    return found
