"""One event of each of many devices, by columns: what `telemetry.py` does with an event that shows nothing.

An event that may show something changes nothing here; its device moves out and it is judged alone, so one
place says what makes a finding.
"""

from typing import NamedTuple
from zlib import crc32

import numpy as np

from processors.detect.manyblocks import interrupted_columns
from processors.detect.replayed import KEPT, LARGEST_SPACING, ROWS, SAMPLED, span_rows
from processors.detect.rows import ROOM, Array, Rows, gather, scatter
from processors.detect.telemetry_state import OFF

_WINDOW = 4 * ROWS
_NO_WINDOW = -1
MAX_TIME_US, MAX_APPEND_MS = 2**61, 2**50
"""Beyond these a difference might not fit; such events are judged alone."""


class Events(NamedTuple):
    """Events of devices of one table, as columns."""

    number: Array
    """In the batch."""
    row: Array
    value: Array
    """By signal of the table."""
    time_us: Array
    append_ms: Array
    offset: Array
    crc: Array
    is_odd: Array
    """Cannot be judged by columns, whatever its device's state is."""

    def at(self, which: Array) -> "Events":
        """Return some of them."""
        return Events(*(column[which] for column in self))


def take_round(rows: Rows, events: Events) -> Array:
    """Take events of as many devices, each once; return which are taken. Others have changed nothing."""
    hot, after = gather(rows.hot, events.row), gather(rows.hot, events.row)
    is_taken = ~events.is_odd & (hot["most"] < ROOM)
    has_sample, goes_off = _readings(rows, hot, after, events, is_taken)
    _times(rows, hot, after, events, is_taken)
    windows = _replays(rows, hot, after, events, is_taken)
    first = hot["events"] == 0
    after["first_offset"] = np.where(first, events.offset, hot["first_offset"])
    after["events"] += 1
    if not is_taken.all():
        after, hot, has_sample = gather(after, is_taken), gather(hot, is_taken), has_sample[is_taken]
        goes_off = None if goes_off is None else goes_off[is_taken]
        windows, events = windows[is_taken], events.at(is_taken)
    _keep(rows, after, events, windows)
    _append(rows, hot, after, events, has_sample)
    if goes_off is not None:
        _switch_off(rows, after, events, goes_off)
    scatter(rows.hot, events.row, after)
    return is_taken


def _readings(
    rows: Rows, hot: Array, after: Array, events: Events, is_taken: Array
) -> tuple[Array, Array | None]:
    """Go on with each signal's run; return which signals have a sample for their block, and which go off.

    Does what `samples.look` and `telemetry._goes_on` do where a value is in a run, at the ceiling, off, or on
    again.
    """
    limits, value = rows.limits, events.value
    last, run = hot["last"], hot["run"]
    is_on = run != OFF
    in_gate = (value > limits.floor) & (value < limits.roof)
    goes_on = (value == last) & (run > 0)
    is_plain = in_gate & is_on
    if goes_on.any():
        is_plain &= ~(goes_on & (run >= limits.longest_run))
    # A signal that may come in another unit is looked at closely when it comes to its ceiling, or leaves it.
    is_plain &= (run != 0) | ~limits.has_units
    if is_plain.all():
        after["run"] = np.where(goes_on, run + 1, 1)
        after["last"] = np.where(goes_on, last, value)  # of 0.0 and -0.0, which are equal, the first
        after["offset"] = np.where(goes_on, hot["offset"], events.offset[:, None])
        return is_on, None
    is_off = (value >= limits.off_low) & (value <= limits.off_high)
    is_full = value >= limits.ceiling
    is_inside = (value >= limits.low) & (value <= limits.high)
    is_plain |= is_full & is_inside & is_on & ~is_off & ~goes_on & ~limits.has_units
    # The first sample after "off" may average both states, so it may lie between them.
    comes_on = ~is_on & ~is_off & (is_inside | ((value >= limits.off_low) & (value < limits.low)))
    # A value of a run comes to mean "off" where the configuration changes.
    is_taken &= (is_plain | (is_off & ~goes_on) | comes_on).all(axis=1)
    goes_off = is_off & is_on
    after["run"] = np.where(is_off, OFF, np.where(goes_on, run + 1, ~is_full))
    after["last"] = np.where(is_off, np.where(is_on, np.nan, last), np.where(goes_on, last, value))
    after["offset"] = np.where(goes_on | is_off | is_full, hot["offset"], events.offset[:, None])
    return is_on & ~is_off, goes_off if goes_off.any() else None


def _switch_off(rows: Rows, after: Array, events: Events, goes_off: Array) -> None:
    """Do what `samples._switch_off` does."""
    device, signal = np.nonzero(goes_off)
    row = events.row[device]
    rows.cold["track"][row, signal] = interrupted_columns(rows.cold["track"][row, signal])
    rows.cold["carried"][row, signal] = 0
    rows.samples[row, :, signal] = 0.0
    rows.settled[row] = False
    after["count"][device, signal] = 0
    after["most"] = after["count"].max(axis=1)


def _times(rows: Rows, hot: Array, after: Array, events: Events, is_taken: Array) -> None:
    """Do what `telemetry._times` does, but for a clock that has a fault or may be behind."""
    limits, time_us = rows.config.course, events.time_us
    lead_us = time_us - events.append_ms * 1000
    passed, top = time_us - hot["time_us"], hot["top_us"]
    is_behind, is_ahead = lead_us < top - limits.behind_us, lead_us > top
    is_taken &= ~(is_behind | (lead_us > top + limits.ahead_us) | (passed < -limits.back_us))
    is_irregular = is_ahead | (passed < 0)
    if is_irregular.any():
        after["difference_us"] = np.where(is_irregular, lead_us, hot["difference_us"])
        after["top_us"] = np.where(is_ahead, lead_us, top)
        after["below"] = np.where(is_irregular & ~is_ahead, hot["below"], 0)
    else:
        after["below"] = 0
    after["time_us"], after["append_ms"] = time_us, events.append_ms


def _replays(rows: Rows, hot: Array, after: Array, events: Events, is_taken: Array) -> Array:
    """Add each row's CRC, and look up the window that may end with it; return the windows to be kept."""
    crcs = after["crcs"]
    crcs[:, :-1] = hot["crcs"][:, 1:]
    crcs[:, -1] = events.crc
    after["since"] += 1
    windows = np.full(len(hot), _NO_WINDOW)
    looked = np.flatnonzero(events.crc % SAMPLED == 0)
    if not len(looked):
        return windows
    found = np.ascontiguousarray(crcs[looked])
    ordered = np.sort(found, axis=1)
    data = found.tobytes()
    window = np.array([crc32(data[at : at + _WINDOW]) for at in range(0, len(data), _WINDOW)], "<u4")
    is_known = rows.kept[events.row[looked]] == window[:, None]
    is_known &= np.arange(KEPT) < hot["kept"][looked, None]
    is_new = (ordered[:, 1:] != ordered[:, :-1]).all(axis=1)
    is_taken[looked] &= ~(is_known.any(axis=1) & is_new)
    is_due = is_new & (after["since"][looked] >= hot["spacing"][looked])
    windows[looked[is_due]] = window[is_due]
    return windows


def _keep(rows: Rows, after: Array, events: Events, windows: Array) -> None:
    """Do what `Prints` does with a window that is kept."""
    which = np.flatnonzero(windows != _NO_WINDOW)
    if not len(which):
        return
    after["since"][which] = 0
    rows.settled[events.row[which]] = False
    is_full = after["kept"][which] == KEPT
    room = which[~is_full]
    rows.kept[events.row[room], after["kept"][room]] = windows[room]
    after["kept"][room] += 1
    for at in which[is_full].tolist():
        kept, device = rows.kept[events.row[at]], after[at]
        spacing = int(device["spacing"])
        span = span_rows(rows.config.replay_window_s, float(device["interval_us"]))
        if KEPT * spacing >= span or spacing >= LARGEST_SPACING:
            kept[:-1] = kept[1:]
            kept[-1] = windows[at]
        else:
            kept[: KEPT // 2] = kept[1::2]
            kept[KEPT // 2 :] = 0
            device["kept"], device["spacing"] = KEPT // 2, 2 * spacing


def _append(rows: Rows, hot: Array, after: Array, events: Events, has_sample: Array) -> None:
    """Add the samples to the blocks at hand."""
    count = hot["count"]
    if has_sample.all() and len(count) and (count == count[:, :1]).all():
        rows.samples[events.row, count[:, 0]] = events.value
        after["count"] = count + 1
        after["most"] = count[:, 0] + 1
        return
    device, signal = np.nonzero(has_sample)
    rows.samples[events.row[device], count[device, signal], signal] = events.value[device, signal]
    after["count"] = count + has_sample
    after["most"] = after["count"].max(axis=1)
