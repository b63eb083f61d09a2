"""Prints of the noise of many devices, by columns: what `noiseprints.take_noise` does."""

from typing import NamedTuple

import numpy as np

from processors.detect.blocks import BLOCK
from processors.detect.noiseprints import (
    FAST_PLACES,
    KEPT_SIGNS,
    NEWEST,
    PLACES,
    WHOLE,
    moves,
    signs_before,
)
from processors.detect.rows import SAMPLES, Array, Rows
from processors.detect.telemetry_state import NO_SIGNS, OFF
from schemas.noise import NoisePrint

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
    for signal, other in enumerate(limits.stands_at):
        if other is not None:
            has_noise[:, signal] &= ~is_on[:, other]
    rises = np.packbits(samples[:, 1:SAMPLES] > samples[:, : SAMPLES - 1], axis=1)[:, 0].astype("u8")
    before = cold["signs"]
    # The highest bits are shifted out: they count, which is read off before, and are no signs of a print.
    signs = before << np.uint64(BLOCK) | rises
    is_complete = before >= np.uint64(WHOLE >> BLOCK)
    kept = np.where(is_complete, signs & np.uint64(KEPT_SIGNS) | np.uint64(WHOLE), signs)
    cold["signs"] = np.where(has_noise, kept, np.uint64(NO_SIGNS))
    newest = (signs & np.uint64(NEWEST)).astype(np.intp)
    may_print = is_complete & has_noise & is_taken[:, None] & _HAS_PLACE[is_fast.astype(int)[:, None], newest]
    found: dict[int, list[NoisePrint]] = {}
    devices, signals = np.nonzero(may_print)
    for device, code, of_signal, fast in zip(
        devices.tolist(),
        limits.noise_code[signals].tolist(),
        signs[devices, signals].tolist(),
        is_fast[devices].tolist(),
        strict=True,
    ):
        for back in (FAST_PLACES if fast else PLACES)[of_signal & NEWEST]:
            print_signs = signs_before(of_signal, back)
            if moves(print_signs):
                found.setdefault(device, []).append(NoisePrint(code, back, print_signs))
    return list(found.items())
