"""Prints of the noise of many devices, by columns: what `noiseprints.take_noise` does."""

from typing import NamedTuple

import numpy as np

from processors.detect.blocks import BLOCK
from processors.detect.noiseprints import (
    FAST_MASK,
    FAST_PLACES,
    KEPT_SIGNS,
    LEAST_RISES,
    MASK,
    MOST_RISES,
    MOST_TURNS,
    NEWEST,
    PLACE,
    PLACES,
    PRINT,
    WHOLE,
)
from processors.detect.rows import SAMPLES, Array, Rows
from processors.detect.telemetry_state import NO_SIGNS, OFF
from schemas.noise import NoisePrint

_BACKS = np.arange(BLOCK - 1, -1, -1)
"""How many samples ago a print may end, oldest first."""
_MASKS = np.array([MASK, FAST_MASK])
_HAS_PLACE = np.array([[bool(backs) for backs in places] for places in (PLACES, FAST_PLACES)])


class Blocks(NamedTuple):
    """Blocks at their end, as columns of a table."""

    hot: Array
    cold: Array
    samples: Array
    is_fast: Array
    """Reports more often than every `FAST_US`."""
    is_taken: Array


def row_prints(rows: Rows, blocks: Blocks) -> list[tuple[int, list[NoisePrint]]]:
    """Add the changes of blocks to the signs in `cold`; return the prints that end there, by device."""
    limits = rows.limits
    hot, cold, samples, is_fast, is_taken = blocks
    is_on = hot["run"] != OFF
    has_noise = (hot["count"] == SAMPLES) & limits.has_noise
    for own, other in enumerate(limits.stands_at):
        if other is not None:
            has_noise[:, own] &= ~is_on[:, other]
    risen = (samples[:, 1:SAMPLES] > samples[:, : SAMPLES - 1]).swapaxes(0, 1).copy().view(np.uint8)
    rises = risen[0]
    for each in risen[1:]:
        rises = rises << 1 | each
    before = cold["signs"]
    # The highest bits are shifted out: they count, which is read off before, and are no signs of a print.
    signs = before << np.uint64(BLOCK) | rises.astype(np.uint64)
    is_complete = before >= np.uint64(WHOLE >> BLOCK)
    kept = np.where(is_complete, signs & np.uint64(KEPT_SIGNS) | np.uint64(WHOLE), signs)
    cold["signs"] = np.where(has_noise, kept, np.uint64(NO_SIGNS))
    newest = (signs & np.uint64(NEWEST)).astype(np.intp)
    may_print = is_complete & has_noise & is_taken[:, None] & _HAS_PLACE[is_fast.astype(int)[:, None], newest]
    device, signal = np.nonzero(may_print)
    if not len(device):
        return []
    has_ended = (newest[device, signal, None] >> _BACKS & _MASKS[is_fast[device].astype(int), None]) == PLACE
    at, place = np.nonzero(has_ended)
    back = _BACKS[place]
    print_signs = signs[device, signal][at] >> back.astype("u8") & np.uint64(PRINT)
    is_print = moves_columns(print_signs)
    found: dict[int, list[NoisePrint]] = {}
    for whose, code, before, of_print in zip(
        device[at[is_print]].tolist(),
        limits.noise_code[signal[at[is_print]]].tolist(),
        back[is_print].tolist(),
        print_signs[is_print].tolist(),
        strict=True,
    ):
        found.setdefault(whose, []).append(NoisePrint(code, before, of_print))
    return list(found.items())


def moves_columns(signs: Array) -> Array:
    """Do what `moves` does."""
    turns = (signs ^ signs >> np.uint64(1)) & np.uint64(PRINT >> 1)
    rises, turned = np.bitwise_count(signs), np.bitwise_count(turns)
    found: Array = (rises >= LEAST_RISES) & (rises <= MOST_RISES)
    found &= (turned >= LEAST_RISES) & (turned <= MOST_TURNS)
    return found
