"""What devices must have in common to be judged together, and whether one may be."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from processors.detect.blocks import BLOCK
from processors.detect.config import DetectConfig
from processors.detect.relations import RELATED
from processors.detect.replayed import ROWS
from processors.detect.statebytes import HEAD, WORD, Head, of_signals
from processors.detect.telemetry_state import MAX_SIGNS, NO_SIGNS, TelemetryState
from schemas.events import MAX_READINGS

ROOM = 2 * BLOCK
"""Samples that a row has room for: a signal that came on late in a block takes its samples into the next."""


class Place(NamedTuple):
    """What devices must have in common to live in one table."""

    signals: tuple[int, ...]
    """Codes that are judged, in the order in which the state holds them; an event need not have all."""
    relations: tuple[int, ...]


def place_of(state: TelemetryState, config: DetectConfig, codes: Sequence[int]) -> Place | None:
    """Return where a device that sends these codes next may live; None where it may not."""
    if state.alone < BLOCK:
        return None
    if state.packed is not None:
        return _place_of_packed(state.packed, config, codes)
    signals = state.signals
    if (
        state.episodes
        or not state.begun
        or state.prints.missing
        or any(each.unit or len(each.samples) > ROOM for each in signals.values())
    ):
        return None
    return _place(tuple(signals), tuple(sorted(state.relations)), config, codes)


def _place_of_packed(data: bytes, config: DetectConfig, codes: Sequence[int]) -> Place | None:
    head = Head(*HEAD.unpack_from(data)[:9])
    if head.episodes or not head.begun or head.rows < ROWS or head.most > ROOM:
        return None
    n, at = head.signals, head.codes_at
    if max(data[head.counts_at : head.counts_at + n], default=0) != head.most:
        return None
    signs = struct.unpack_from(f"<{n}Q", data, HEAD.size + of_signals(n)[0].size + n * WORD)
    if any(data[at + 4 * n : at + 5 * n]) or not all(NO_SIGNS <= each < MAX_SIGNS for each in signs):
        return None
    signals = struct.unpack_from(f"<{n}i", data, at)
    at = head.related_at + head.relations * RELATED * WORD
    return _place(signals, struct.unpack_from(f"<{head.relations}i", data, at), config, codes)


def _place(
    signals: tuple[int, ...], relations: tuple[int, ...], config: DetectConfig, codes: Sequence[int]
) -> Place | None:
    if (
        len(set(codes)) < len(codes)
        or len(codes) > MAX_READINGS
        or not signals
        or len(set(signals)) < len(signals)
        or not set(codes) & config.signals.keys() <= set(signals) <= config.signals.keys()
        or list(relations) != sorted({*relations} & {each.codes[0] for each in config.relations})
    ):
        return None
    return Place(signals, relations)
