"""Prints of the noise of a signal, by which two devices with the same noise meet.

A print is how a signal's last 48 changes went: up, or not. Levels, scales and slow trends do not show in it,
rounding hardly does. Prints are taken where the last four changes are up, up, down, down: the place follows
from the content, so two devices take theirs at the same places whatever their blocks are (winnowing:
Schleimer, Wilkerson, Aiken, SIGMOD 2003). That is one of 24 samples or so. Which prints are alike, and what
follows, is decided where those of many devices come together (`processors/samenoise/`).
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence

from processors.detect.blocks import BLOCK
from processors.detect.findings import Scene
from processors.detect.telemetry_state import NO_SIGNS, OFF, SignalState
from processors.model import VerifiedEvent
from schemas.noise import PRINT_SIGNS, NoiseBlock, NoisePrint

PLACE = 0b1100
NEWEST = (1 << BLOCK + 5) - 1
KEPT_SIGNS = (1 << PRINT_SIGNS + BLOCK) - 1
WHOLE = KEPT_SIGNS + 1
"""Stands above the signs of a signal that has all of them, so that a print may end at any of its last eight;
before, the highest bit tells how many there are."""
PRINT = (1 << PRINT_SIGNS) - 1
LEAST_RISES, MOST_RISES = PRINT_SIGNS // 4, PRINT_SIGNS - PRINT_SIGNS // 4
MOST_TURNS = MOST_RISES + PRINT_SIGNS // 12
"""White noise turns at two of three samples: more turns than rises are normal."""
MANY = 96
"""From so many signals on it costs less to compare their samples together."""
FAST_US = 10e6
"""A device that reports more often than that takes its prints where the two changes before are falls, too: a
quarter of the places."""

Places = Sequence[Sequence[int]]
"""By the newest eight signs and the five before: how many samples ago prints end, oldest first."""


def _places(mask: int) -> Places:
    return [
        tuple(back for back in range(BLOCK - 1, -1, -1) if signs >> back & mask == PLACE)
        for signs in range(NEWEST + 1)
    ]


MASK, FAST_MASK = 0b1111, 0b111111
"""How many signs the place of a print takes."""
PLACES, FAST_PLACES = _places(MASK), _places(FAST_MASK)


def take_noise(scenes: Sequence[Scene], noise: list[NoiseBlock]) -> None:
    """Add the changes of these devices' blocks to their signals' signs, and prints that end there to `noise`.

    Comes before the blocks are judged, which takes their samples away.
    """
    devices = [_whole(scene) for scene in scenes]
    rises = iter(_rises([signal.samples for whole in devices for signal, _ in whole]))
    for scene, whole in zip(scenes, devices, strict=True):
        places = FAST_PLACES if 0.0 < scene.state.course.interval_us < FAST_US else PLACES
        found: list[NoisePrint] = []
        for signal, stands in whole:
            signs = signal.signs << BLOCK | next(rises)
            if signs < WHOLE:
                signal.signs = signs
                continue
            signal.signs = signs & KEPT_SIGNS | WHOLE
            for back in places[signs & NEWEST]:
                print_signs = signs >> back & PRINT
                if moves(print_signs):
                    found.append(NoisePrint(stands, back, print_signs))
        if found:
            noise.append(block_of(scene.verified, found))


def _whole(scene: Scene) -> list[tuple[SignalState, int]]:
    """List the signals whose changes go on without a gap, each with the code that stands for it."""
    signals, noise_of = scene.state.signals, scene.config.noise_of
    whole = []
    for code, signal in signals.items():
        stands = noise_of.get(code)
        if (
            len(signal.samples) == BLOCK + 1
            and stands is not None
            and (stands == code or not _is_on(signals, stands))
        ):
            whole.append((signal, stands))
        else:
            # The changes since are not known, so a print would be of two stretches.
            signal.signs = NO_SIGNS
    return whole


def _rises(blocks: Sequence["array[float]"]) -> Iterable[int]:
    """Tell of each block which of its eight changes are rises, the newest in the lowest bit."""
    if len(blocks) < MANY:
        return map(_rises_of, blocks)
    # Here, since a process that meets few at a time shall not pay for numpy: 0.1 s and 20 MB.
    import numpy as np

    samples = np.frombuffer(b"".join(blocks)).reshape(len(blocks), BLOCK + 1)
    found: list[int] = np.packbits(samples[:, 1:] > samples[:, :-1], axis=1)[:, 0].tolist()
    return found


def _rises_of(samples: "array[float]") -> int:
    a, b, c, d, e, f, g, h, i = samples
    return (
        (128 if b > a else 0)
        + (64 if c > b else 0)
        + (32 if d > c else 0)
        + (16 if e > d else 0)
        + (8 if f > e else 0)
        + (4 if g > f else 0)
        + (2 if h > g else 0)
        + (1 if i > h else 0)
    )


def _is_on(signals: Mapping[int, SignalState], code: int) -> bool:
    signal = signals.get(code)
    return signal is not None and signal.run != OFF


def moves(signs: int) -> bool:
    """Tell whether it goes up and down enough: flat, coarse, rising and zigzag stretches say nothing."""
    turns = (signs ^ signs >> 1) & PRINT >> 1
    return LEAST_RISES <= signs.bit_count() <= MOST_RISES and LEAST_RISES <= turns.bit_count() <= MOST_TURNS


def block_of(verified: VerifiedEvent, found: Sequence[NoisePrint]) -> NoiseBlock:
    """Return what a block's last event tells of the prints found in it."""
    event, source = verified.event, verified.source
    return NoiseBlock(
        event.device_id, event.boot, event.sequence, source.append_us, source.offset, tuple(found)
    )
