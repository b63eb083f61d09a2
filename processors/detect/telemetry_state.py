"""What the telemetry detectors remember of one device.

Small groups of devices are judged one by one, from these objects; many at once from rows of numbers
(`rows.py`), where a device's state then lives, and is brought back when it shows something of note. Either
form is written as the same bytes (`statebytes.py`).
"""

import math
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING

from processors.detect.blocks import BLOCK, new_track
from processors.detect.devicecourse import Course
from processors.detect.relations import RelationTrack
from processors.detect.replayed import Prints
from schemas.noise import PRINT_SIGNS

if TYPE_CHECKING:
    from processors.detect.rows import Rows

LEAST_DEVICES = 32
"""In a batch, for states to be brought into rows; less gain nothing."""
OFF = -1
"""`run` of a signal that was off, or was never seen: its next sample may mix both states."""
SATURATED = 0
"""`run` of a signal at its ceiling: on, but unchanged by nature."""
MAX_RUN = 2**31 - 1
MAX_SAMPLES = 2**32 - 1
MAX_BUFFERED = 64
"""Samples from which on no closer look at one keeps more; so many an event has that repeats its codes."""
MOST_SAMPLES = MAX_BUFFERED + BLOCK
"""Those and what the rest of a block adds without a closer look."""
NO_SIGNS = 1
"""`signs` of a signal before its first change (`noiseprints.py`); the highest bit counts them."""
MAX_SIGNS = 1 << PRINT_SIGNS + BLOCK + 1


class Episode:
    """An open finding: raw offset of its first sample, samples or blocks so far, calm ones since."""

    __slots__ = ("calm", "first_offset", "samples")

    def __init__(self, first_offset: int, samples: int, calm: int = 0) -> None:
        self.first_offset = first_offset
        self.samples = samples
        self.calm = calm


class SignalState:
    """One signal of a device: its last sample and run, the block at hand, what is known from blocks before.

    Between `floor` and `roof` the next value needs no closer look, unless it is the last one again; they
    follow from the rest and the configuration, and are not kept. `last` and `first_offset` may lag behind
    the device's `Layout` until it is written back.
    """

    __slots__ = (
        "carried", "code", "first_offset", "floor", "last", "off_high", "off_low", "open", "roof", "run",
        "samples", "signs", "stuck_after", "track", "unit", "unit_count", "unit_level",
    )  # fmt: skip

    def __init__(self, code: int) -> None:
        self.code = code
        self.last = math.nan
        self.run = OFF
        self.first_offset = 0
        self.open = 0
        self.samples = array("d")
        """Doubles side by side: eight lists of numbers of each device would take four times the room."""
        self.carried = 0
        self.unit = self.unit_count = 0
        self.unit_level = 0.0
        self.track = new_track()
        self.signs = NO_SIGNS
        self.stuck_after = 0
        self.floor = self.roof = self.off_low = self.off_high = math.nan


class Layout:
    """The signals of one list of codes, as parallel lists: what a plainly normal sample needs, and no more.

    Devices send the same codes again and again, so what a sample is compared with lies ready: the range of
    values that need no closer look (empty for a signal that is looked at in any case), the last values, and
    where samples of the block at hand are collected.
    """

    __slots__ = ("codes", "floors", "is_new", "lasts", "roofs", "samples", "signals")

    def __init__(self, codes: Sequence[int], signals: list[SignalState | None]) -> None:
        self.codes, self.signals = codes, signals
        self.lasts: Sequence[float] = [math.nan if each is None else each.last for each in signals]
        self.floors = [math.inf if each is None or each.run != 1 else each.floor for each in signals]
        self.is_new = True
        """Until the first event with it: `lasts` are the signals' own."""
        self.roofs = [math.nan if each is None else each.roof for each in signals]
        self.samples = [array("d") if each is None else each.samples for each in signals]

    def settle(self, at: int) -> None:
        """Take up what a closer look made of a signal; one in a run is looked at until the run ends."""
        signal = self.signals[at]
        if signal is not None and self.codes:
            self.floors[at] = signal.floor if signal.run == 1 else math.inf

    def write_back(self, offset: int) -> None:
        """Give the signals their last values, and the offset of the event that had them."""
        if self.is_new:
            return
        for signal, floor, last in zip(self.signals, self.floors, self.lasts, strict=False):
            if signal is not None and floor != math.inf:
                signal.last, signal.first_offset = last, offset


class TelemetryState:
    """One device: its signals, relations between them, its clock, what it sent before, and open episodes."""

    __slots__ = (
        "__weakref__", "alone", "begun", "bound_to", "course", "episodes", "events", "first_offset",
        "last_offset", "layout", "packed", "prints", "relations", "row", "rows", "signals",
    )  # fmt: skip

    def __init__(self, packed: bytes | None = None) -> None:
        self.packed = packed
        """The state as bytes until it is needed otherwise, and then it has nothing of what follows."""
        self.rows: Rows | None = None
        """Where the state is while it lives in a row, and then it has nothing of what follows either."""
        self.row = 0
        self.alone = BLOCK
        """Events since it left a row. To move costs as much as ten: who left stays away for a block."""
        if packed is None:
            self.reset()

    def reset(self) -> None:
        """Be the state of a device not seen before."""
        self.packed = None
        self.signals: dict[int, SignalState] = {}
        self.relations: dict[int, RelationTrack] = {}
        self.episodes: dict[tuple[int, int], Episode] = {}
        self.course = Course()
        self.prints = Prints()
        self.begun = False
        self.events = 0
        self.first_offset = 0
        self.bound_to: object = None
        """The configuration whose limits the signals carry; not kept."""
        self.layout: Layout | None = None
        """Of the last event; not kept."""
        self.last_offset = 0

    @property
    def is_loose(self) -> bool:
        """Whether it is in objects."""
        return self.packed is None and self.rows is None

    def pack(self, data: bytes) -> None:
        """Be these bytes, which were written of this state, until it is needed otherwise."""
        self._let_go()
        self.packed = data

    def enter(self, rows: "Rows", row: int) -> None:
        """Live in a row from now on."""
        self._let_go()
        self.packed, self.rows, self.row = None, rows, row

    def _let_go(self) -> None:
        if self.packed is None:
            del self.signals, self.relations, self.episodes, self.course, self.prints, self.layout

    def leave(self) -> None:
        """Leave the row."""
        if self.rows is not None:
            self.rows.release(self.row)
            self.rows = None

    def __del__(self) -> None:
        # Who forgets a state need not know where it lived.
        self.leave()
