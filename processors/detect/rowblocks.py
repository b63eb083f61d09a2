"""The end of a block of many devices, by columns: what `deviceblocks.py` does where nothing is of note.

A device that a rule may have something to say about changes nothing here and is told of: it is judged alone.
"""

from typing import NamedTuple

import numpy as np

from processors.detect.blocks import (
    BASE_MEMORY,
    BLOCK,
    CLIP,
    FAR,
    LEARNED,
    LEAST,
    LEVEL,
    RANGED,
)
from processors.detect.devicecourse import FIRST_BLOCKS, INTERVAL_MEMORY
from processors.detect.manyblocks import judge_columns
from processors.detect.noiseprints import FAST_US
from processors.detect.relations import judge_relation
from processors.detect.rowprints import Blocks, row_prints
from processors.detect.rows import ROOM, SAMPLES, Array, Related, Rows, gather, scatter
from processors.detect.telemetry_state import OFF
from schemas.noise import NoisePrint

_EXACT = 2**53
"""Integers below it are floats exactly."""


class Ended(NamedTuple):
    """Which blocks have ended here; `prints` are those of noise of some of their devices, by place."""

    is_taken: Array
    prints: list[tuple[int, list[NoisePrint]]]


def end_row_blocks(rows: Rows, which: Array, *, with_noise: bool) -> Ended:
    """Judge the blocks of these rows, and begin anew; rows that are not taken have changed nothing."""
    hot, cold, samples = gather(rows.hot, which), gather(rows.cold, which), rows.samples[which]
    count = hot["count"]
    is_whole, is_short = count == SAMPLES, count < LEAST
    is_taken = np.ones(len(which), np.bool_)
    _judge(rows, cold, samples, count, is_taken)
    cold["carried"] = ~is_whole
    for related in rows.related:
        _relate(related, hot, cold, is_taken)
    is_fast = (hot["interval_us"] > 0.0) & (hot["interval_us"] < FAST_US)
    _course(rows, hot, is_taken)
    prints = row_prints(rows, Blocks(hot, cold, samples, is_fast, is_taken)) if with_noise else []
    samples = _begin_anew(hot, samples, is_short)
    if not is_taken.all():
        which, samples = which[is_taken], samples[is_taken]
        hot, cold = gather(hot, is_taken), gather(cold, is_taken)
    scatter(rows.hot, which, hot)
    scatter(rows.cold, which, cold)
    rows.samples[which] = samples
    rows.settled[which] = False
    return Ended(is_taken, prints)


def _begin_anew(hot: Array, samples: Array, is_short: Array) -> Array:
    """Keep the last sample of each signal, and all of those that wait for more; return these."""
    count = hot["count"].copy()
    hot["count"], hot["events"] = np.where(is_short, count, 1), 0
    hot["most"] = hot["count"].max(axis=1)
    kept = np.zeros_like(samples)
    kept[:, 0] = np.take_along_axis(samples, np.maximum(count, 1)[:, None] - 1, axis=1)[:, 0]
    if is_short.any():
        device, signal = np.nonzero(is_short)
        kept[device, :, signal] = samples[device, :, signal]
    return kept


def _judge(rows: Rows, cold: Array, samples: Array, count: Array, is_taken: Array) -> None:
    """Judge signals with so many samples; a device of which a rule is broken is not taken.

    Those that were on in part of a block have fewer or more than the others.
    """
    limits, tracks = rows.limits, cold["track"]
    counts = count[:, limits.course_at]
    for number in np.flatnonzero(np.bincount(counts.ravel(), minlength=ROOM + 1)).tolist():
        if number < LEAST:
            continue
        device, course = np.nonzero(counts == number)
        signal = limits.course_at[course]
        tracks[device, signal], broken = judge_columns(
            tracks[device, signal],
            limits.thresholds[course],
            samples[device, :number, signal],
            lambda at, course=course: limits.courses[int(course[at])],  # type: ignore[misc]
        )
        if broken:
            is_taken[device[list(broken)]] = False


def _relate(related: Related, hot: Array, cold: Array, is_taken: Array) -> None:
    """Do what `deviceblocks._relate` does."""
    limits, signals = related.limits, related.signals
    is_on = (hot["run"][:, signals] != OFF).all(axis=1)
    last = hot["last"][:, signals]
    if related.is_of_lasts:
        is_taken &= ~is_on | ((last[:, 2] <= last[:, 0]) & (last[:, 0] <= last[:, 1]))
    is_judged = is_on & ~cold["carried"][:, signals].any(axis=1)
    if related.at is None:
        is_taken &= ~is_judged
        return
    track = cold["relation"][:, related.at]
    level = cold["track"][:, signals, LEVEL].T
    blocks, base, scale, up, down, _ = track.T
    with np.errstate(all="ignore"):
        apart = level[0] - level[1] if limits.kind == "equal" else level[0] - (level[1] + 2 * level[2]) / 3
        unit = np.where(scale > limits.spread, scale, limits.spread)
        off = (apart - base) / unit
        is_rare = ~(np.abs(apart) / limits.tolerance <= 1.0) | ~(np.abs(off) <= FAR)
        is_warm = blocks >= limits.warm_blocks
        most = 3 * limits.limit
        sums = []
        for before, change in ((up, off), (down, -off)):
            total = before + change - limits.slack
            total = np.where(total > 0.0, total, 0.0)
            sums.append(np.where(is_warm, np.where(most < total, most, total), before))
        is_rare |= (sums[0] / limits.limit > 1.0) | (sums[1] / limits.limit > 1.0)
        memory = np.where(blocks < LEARNED, 1 / (blocks + 1), BASE_MEMORY)
        off = np.where((off > -CLIP) & (off < CLIP), off, np.where(off > 0, CLIP, -CLIP))
        after = np.array(
            [
                np.where(blocks + 1 > RANGED, RANGED, blocks + 1),
                base + memory * unit * off,
                scale + memory * (np.abs(off) * unit - scale),
                *sums,
                np.zeros(len(track)),
            ]
        ).T
    for device in np.flatnonzero(is_rare & is_judged & is_taken).tolist():
        known = track[device].tolist()
        if judge_relation(known, level[:, device].tolist(), limits) > 1.0:
            is_taken[device] = False
        after[device] = known
    cold["relation"][:, related.at] = np.where(is_judged[:, None], after, track)


def _course(rows: Rows, hot: Array, is_taken: Array) -> None:
    """Do what `Course.block_end` does."""
    limits = rows.config.course
    took = hot["time_us"] - hot["block_us"]
    passed = hot["append_ms"] - hot["block_append_ms"]
    hot["block_us"], hot["block_append_ms"] = hot["time_us"], hot["append_ms"]
    is_taken &= ~((took == 0) & (passed * 1000 > limits.behind_us)) & (took < _EXACT)
    has_passed = took > 0
    interval, usual, blocks = took / BLOCK, hot["interval_us"], hot["blocks"]
    is_first = (blocks < FIRST_BLOCKS) | (usual <= 0.0)
    with np.errstate(all="ignore"):
        factor = usual / interval
        counted = np.where(is_first & has_passed, blocks + 1, blocks)
        learning = usual + (interval - usual) / counted
    is_usual = (1 / limits.rate_ratio < factor) & (factor < limits.rate_ratio)
    is_taken &= ~has_passed | is_first | is_usual
    follows = usual + INTERVAL_MEMORY * (interval - usual)
    hot["interval_us"] = np.where(has_passed, np.where(is_first, learning, follows), usual)
    hot["off_rate"] = np.where(has_passed & ~is_first, 0, hot["off_rate"])
    hot["blocks"] = counted
