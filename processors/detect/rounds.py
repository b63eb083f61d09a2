"""One event of each of many devices, by columns: what `telemetry.py` does with an event that shows nothing.

An event that may show something changes nothing here; its device moves out and it is judged alone, so one
place says what makes a finding.
"""

from typing import NamedTuple
from zlib import crc32

import numpy as np

from processors.detect.manyblocks import interrupted_columns
from processors.detect.place import ROOM
from processors.detect.replayed import KEPT, LARGEST_SPACING, ROWS, SAMPLED, span_rows
from processors.detect.rows import Array, Limits, Rows, gather, scatter
from processors.detect.telemetry_state import OFF

_WINDOW = 4 * ROWS
MAX_TIME_US, MAX_APPEND_MS = 2**61, 2**50
"""Beyond these a difference might not fit; such events are judged alone."""


class Events(NamedTuple):
    """Events of devices of one table, as columns."""

    number: Array
    """In the batch."""
    row: Array
    value: Array
    """By signal of the table."""
    is_here: Array | None
    """Which signals an event has; None: each all of them."""
    time_us: Array
    append_ms: Array
    offset: Array
    crc: Array
    is_odd: Array
    """Cannot be judged by columns, whatever its device's state is."""

    def at(self, which: Array | slice) -> "Events":
        """Return some of them."""
        return Events(*(None if column is None else column[which] for column in self))  # type: ignore[arg-type]


def take_round(rows: Rows, events: Events) -> Array:
    """Take events of as many devices, each once; return which are taken. Others have changed nothing."""
    hot = gather(rows.hot, events.row)
    is_taken = ~events.is_odd & (hot["most"] < ROOM)
    off, goes_off = _readings(rows, hot, events, is_taken)
    _times(rows, hot, events, is_taken)
    due, windows = _replays(rows, hot, events, is_taken)
    hot["first_offset"] = np.where(hot["events"] == 0, events.offset, hot["first_offset"])
    hot["events"] += 1
    if len(due):
        is_kept = is_taken[due]
        _keep(rows, hot, events, due[is_kept], windows[is_kept])
    _append(rows, hot, events, off, is_taken)
    if len(goes_off):
        _switch_off(rows, hot, events, goes_off, is_taken)
    if is_taken.all():
        scatter(rows.hot, events.row, hot)
    else:
        taken = np.flatnonzero(is_taken)
        scatter(rows.hot, events.row[taken], gather(hot, taken))
    return is_taken


def _readings(rows: Rows, hot: Array, events: Events, is_taken: Array) -> tuple[Array, Array]:
    """Go on with each signal's run; return which signals have no sample for their block, and which go off.

    Both as places in a table of a row for each signal, since numpy is fast where rows are long. Does what
    `samples.look` and `telemetry._goes_on` do where a value is in a run, at the ceiling, off, or on again.
    """
    limits = rows.limits
    value, last = events.value.T.copy(), hot["last"].T.copy()
    run, offset = hot["run"].T.copy(), hot["offset"].T.copy()
    is_plain = (value > limits.floor[:, None]) & (value < limits.roof[:, None])
    goes_on = (value == last) & (run > 0)
    is_plain &= run > 0
    is_plain &= ~(goes_on & (run >= limits.longest_run[:, None]))
    after = (
        run * goes_on + 1,
        np.where(goes_on, last, value),  # of 0.0 and -0.0, which are equal, the first
        np.where(goes_on, offset, events.offset),
    )
    if events.is_here is not None:
        is_here = events.is_here.T
        is_plain |= ~is_here
        after = tuple(  # type: ignore[assignment]
            np.where(is_here, now, before) for now, before in zip(after, (run, last, offset), strict=True)
        )
    odd = np.flatnonzero(~is_plain)
    off = goes_off = odd
    if len(odd):
        signal, device = np.divmod(odd, len(hot))
        seen = _Seen(
            signal, value.ravel()[odd], last.ravel()[odd], run.ravel()[odd], offset.ravel()[odd],
            events.offset[device], goes_on.ravel()[odd],
        )  # fmt: skip
        is_fit, has_no_sample, is_last, found = _look(rows.limits, seen)
        is_taken[device[~is_fit]] = False
        off, goes_off = odd[has_no_sample], odd[is_last]
        for table, numbers in zip(after, found, strict=True):
            table.ravel()[odd] = numbers
    if events.is_here is not None:
        off = np.concatenate((off, np.flatnonzero(~events.is_here.T)))
    hot["run"], hot["last"], hot["offset"] = (table.T for table in after)
    return off, goes_off


class _Seen(NamedTuple):
    """Samples that are not plainly normal, each with what is known of its signal."""

    signal: Array
    value: Array
    last: Array
    run: Array
    offset: Array
    event_offset: Array
    goes_on: Array


def _look(limits: Limits, seen: _Seen) -> tuple[Array, Array, Array, tuple[Array, Array, Array]]:
    """Return which samples show nothing, which are none, which are the first of these, and the runs now."""
    signal, value, last, run, offset, event_offset, goes_on = seen
    is_on, has_units = run != OFF, limits.has_units[signal]
    low, off_low = limits.low[signal], limits.off_low[signal]
    is_off = (value >= off_low) & (value <= limits.off_high[signal])
    is_full = value >= limits.ceiling[signal]
    is_inside = (value >= low) & (value <= limits.high[signal])
    # A signal that may come in another unit is looked at closely when it comes to its ceiling, or leaves it.
    is_plain = (value > limits.floor[signal]) & (value < limits.roof[signal]) & is_on
    is_plain &= ~(goes_on & (run >= limits.longest_run[signal])) & ((run != 0) | ~has_units)
    is_plain |= is_full & is_inside & is_on & ~is_off & ~goes_on & ~has_units
    # The first sample after "off" may average both states, so it may lie between them.
    comes_on = ~is_on & ~is_off & (is_inside | ((value >= off_low) & (value < low)))
    # A value of a run comes to mean "off" where the configuration changes.
    is_fit = is_plain | (is_off & ~goes_on) | comes_on
    after = (
        np.where(is_off, OFF, np.where(goes_on, run + 1, ~is_full)),
        np.where(is_off, np.where(is_on, np.nan, last), np.where(goes_on, last, value)),
        np.where(goes_on | is_off | is_full, offset, event_offset),
    )
    return is_fit, ~is_on | is_off, is_off & is_on, after


def _switch_off(rows: Rows, hot: Array, events: Events, goes_off: Array, is_taken: Array) -> None:
    """Do what `samples._switch_off` does."""
    signal, device = np.divmod(goes_off, len(hot))
    signal, device = signal[is_taken[device]], device[is_taken[device]]
    row = events.row[device]
    rows.cold["track"][row, signal] = interrupted_columns(rows.cold["track"][row, signal])
    rows.cold["carried"][row, signal] = 0
    rows.samples[row, :, signal] = 0.0
    rows.settled[row] = False
    hot["count"][device, signal] = 0
    hot["most"] = hot["count"].max(axis=1)


def _times(rows: Rows, hot: Array, events: Events, is_taken: Array) -> None:
    """Do what `telemetry._times` does, but for a clock that has a fault or may be behind."""
    limits, time_us = rows.config.course, events.time_us
    lead_us = time_us - events.append_ms * 1000
    passed, above = time_us - hot["time_us"], lead_us - hot["top_us"]
    is_taken &= (above >= -limits.behind_us) & (above <= limits.ahead_us) & (passed >= -limits.back_us)
    irregular = np.flatnonzero((above > 0) | (passed < 0))
    before = hot["below"][irregular]
    hot["below"] = 0
    if len(irregular):
        lead_us, is_ahead = lead_us[irregular], above[irregular] > 0
        hot["difference_us"][irregular] = lead_us
        hot["top_us"][irregular] = np.where(is_ahead, lead_us, hot["top_us"][irregular])
        hot["below"][irregular] = np.where(is_ahead, 0, before)
    hot["time_us"], hot["append_ms"] = time_us, events.append_ms


def _replays(rows: Rows, hot: Array, events: Events, is_taken: Array) -> tuple[Array, Array]:
    """Add each row's CRC, and look up the window that may end with it; return the windows to be kept.

    Those come after the numbers of their devices.
    """
    crcs = hot["crcs"]
    crcs[:, :-1] = crcs[:, 1:].copy()
    crcs[:, -1] = events.crc
    hot["since"] += 1
    looked = np.flatnonzero(events.crc % SAMPLED == 0)
    found = crcs[looked]
    ordered = np.sort(found, axis=1)
    is_new = (ordered[:, 1:] != ordered[:, :-1]).all(axis=1)
    data = found.view(f"V{_WINDOW}").ravel().tolist()
    window = np.fromiter(map(crc32, data), np.uint32, len(data))
    is_known = rows.kept.take(events.row[looked], axis=0) == window[:, None]
    if is_known.any():
        is_known &= np.arange(KEPT) < hot["kept"][looked, None]
        is_taken[looked] &= ~(is_known.any(axis=1) & is_new)
    due = np.flatnonzero(is_new & (hot["since"][looked] >= hot["spacing"][looked]))
    return looked[due], window[due]


def _keep(rows: Rows, hot: Array, events: Events, which: Array, windows: Array) -> None:
    """Do what `Prints` does with a window that is kept."""
    hot["since"][which] = 0
    rows.settled[events.row[which]] = False
    kept = hot["kept"][which]
    is_full = kept == KEPT
    room = ~is_full
    rows.kept[events.row[which[room]], kept[room]] = windows[room]
    hot["kept"][which[room]] += 1
    for at, window in zip(which[is_full].tolist(), windows[is_full].tolist(), strict=True):
        kept, device = rows.kept[events.row[at]], hot[at]
        spacing = int(device["spacing"])
        span = span_rows(rows.config.replay_window_s, float(device["interval_us"]))
        if KEPT * spacing >= span or spacing >= LARGEST_SPACING:
            kept[:-1] = kept[1:]
            kept[-1] = window
        else:
            kept[: KEPT // 2] = kept[1::2]
            kept[KEPT // 2 :] = 0
            device["kept"], device["spacing"] = KEPT // 2, 2 * spacing


def _append(rows: Rows, hot: Array, events: Events, off: Array, is_taken: Array) -> None:
    """Add the samples to the blocks at hand, but for those of signals that are off."""
    count, most, row, value = hot["count"].T.copy(), hot["most"].copy(), events.row, events.value
    is_next = count == most
    has_sample = np.ones(count.shape, np.bool_)
    if len(off):
        has_sample.ravel()[off], is_next.ravel()[off] = False, True
        value = np.where(has_sample.T, value, 0.0)
    is_even = is_next.all(axis=0)
    odd = np.flatnonzero(~is_even & is_taken)
    if len(odd):
        value = np.where(is_even[:, None], value, 0.0)
    # Whatever stands behind a block's samples is of one that is over, so all signals' next ones are written.
    at, size = row * ROOM + most, value.itemsize * value.shape[1]
    if not is_taken.all():
        at, value = at[is_taken], value[is_taken]
    rows.samples.reshape(-1).view(f"V{size}")[at] = np.ascontiguousarray(value).view(f"V{size}")[:, 0]
    if len(odd):
        signal, device = np.nonzero(has_sample[:, odd])
        device = odd[device]
        rows.samples[row[device], count[signal, device], signal] = events.value[device, signal]
    count += has_sample
    hot["count"], hot["most"] = count.T, count.max(axis=0)
