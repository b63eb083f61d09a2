"""The end of a block of many devices, by columns: what `deviceblocks.py` does where nothing is of note.

A device that a rule may have something to say about changes nothing here and is told of: it is judged alone.
"""

from collections.abc import Sequence
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
from processors.detect.manyblocks import judge_signals
from processors.detect.noiseprints import FAST_US
from processors.detect.place import ROOM
from processors.detect.relations import judge_relation
from processors.detect.rowprints import Blocks, row_prints
from processors.detect.rows import SAMPLES, Array, Related, Rows, gather, scatter
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
    hot, cold, samples = gather(rows.hot, which), gather(rows.cold, which), rows.samples.take(which, axis=0)
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
    if not is_taken.all():
        taken = np.flatnonzero(is_taken)
        which, samples, is_short = which[taken], samples[taken], is_short[taken]
        hot, cold = gather(hot, taken), gather(cold, taken)
    _begin_anew(rows, which, hot, samples, is_short)
    scatter(rows.hot, which, hot)
    scatter(rows.cold, which, cold)
    rows.settled[which] = False
    return Ended(is_taken, prints)


def _begin_anew(rows: Rows, which: Array, hot: Array, samples: Array, is_short: Array) -> None:
    """Keep the last sample of each signal, and all of those that wait for more."""
    count = hot["count"].copy()
    last = np.take_along_axis(samples, np.maximum(count, 1)[:, None] - 1, axis=1)[:, 0]
    if (is_short & (count > 0)).any():
        kept = np.zeros_like(samples)
        kept[:, 0] = last
        device, signal = np.nonzero(is_short)
        kept[device, :, signal] = samples[device, :, signal]
        rows.samples[which] = kept
        hot["count"] = count = np.where(is_short, count, 1)
        hot["most"] = count.max(axis=1)
    else:
        rows.samples[which, 0] = np.where(count > 0, last, 0.0)
        hot["count"] = count = np.minimum(count, 1)
        hot["most"] = count.max(axis=1)
    hot["events"] = 0


def _judge(rows: Rows, cold: Array, samples: Array, count: Array, is_taken: Array) -> None:
    """Judge signals with so many samples; a device of which a rule is broken is not taken.

    Those that were on in part of a block have fewer or more than the others.
    """
    limits, tracks, every = rows.limits, cold["track"], rows.limits.with_course
    courses, counts = limits.courses, count[:, every]
    many = len(courses.limits)
    if (counts == SAMPLES).all():
        seen = samples[:, :SAMPLES, every].swapaxes(1, 2)
        which = np.broadcast_to(np.arange(many), counts.shape)
        tracks[:, every], broken = judge_signals(tracks[:, every], seen, courses, which)
        is_taken[np.array(broken, np.intp) // max(many, 1)] = False
        return
    for number in np.flatnonzero(np.bincount(counts.ravel(), minlength=ROOM)).tolist():
        if number >= LEAST:
            device, course = np.nonzero(counts == number)
            signal = limits.course_at[course]
            seen = samples[device, :number, signal]
            tracks[device, signal], broken = judge_signals(tracks[device, signal], seen, courses, course)
            is_taken[device[broken]] = False


def _relate(relations: Sequence[Related], hot: Array, cold: Array, is_taken: Array) -> None:
    """Do what `deviceblocks._relate` does, for relations of different tracks at once."""
    seen: list[tuple[Related, Array, Array, Array]] = []
    is_on, carried, last = hot["run"].T != OFF, cold["carried"].T.copy(), hot["last"].T
    for related in relations:
        signals = related.signals
        are_on = is_on[signals].all(axis=0)
        if related.is_of_lasts:
            mean, high, low = last[signals]
            is_taken &= ~are_on | ((low <= mean) & (mean <= high))
        is_judged = are_on & ~carried[signals].any(axis=0)
        if related.at is None:
            is_taken &= ~is_judged
            continue
        level = cold["track"][:, signals, LEVEL].T
        is_equal = related.limits.kind == "equal"
        apart = level[0] - level[1] if is_equal else level[0] - (level[1] + 2 * level[2]) / 3
        seen.append((related, level, apart, is_judged))
    if not seen:
        return
    tracked, levels, aparts, judged = zip(*seen, strict=True)
    places = [related.at for related in tracked]
    known = cold["relation"][:, places].T.copy()
    after, is_rare = _related(known, np.array(aparts), tracked)
    is_judged = np.array(judged)
    for number, device in np.argwhere(is_rare & is_judged & is_taken).tolist():
        track = known[:, number, device].tolist()
        if judge_relation(track, levels[number][:, device].tolist(), tracked[number].limits) > 1.0:
            is_taken[device] = False
        after[:, number, device] = track
    cold["relation"][:, places] = np.where(is_judged, after, known).T


def _related(known: Array, apart: Array, relations: Sequence[Related]) -> tuple[Array, Array]:
    """Return what is known of relations after blocks that show nothing, and which may show something.

    By relation and device; so is `apart`, and what is known has a row more for each of its numbers.
    """
    blocks, base, scale, up, down, _ = known
    tolerance, spread, slack, limit, warm_blocks = np.array(
        [
            (each.tolerance, each.spread, each.slack, each.limit, each.warm_blocks)
            for each in (related.limits for related in relations)
        ]
    ).T[:, :, None]
    with np.errstate(all="ignore"):
        unit = np.where(scale > spread, scale, spread)
        off = (apart - base) / unit
        is_rare: Array = ~(np.abs(apart) / tolerance <= 1.0) | ~(np.abs(off) <= FAR)
        is_warm, most = blocks >= warm_blocks, 3 * limit
        sums = []
        for before, change in ((up, off), (down, -off)):
            total = before + change - slack
            total = np.where(total > 0.0, total, 0.0)
            sums.append(np.where(is_warm, np.where(most < total, most, total), before))
        is_rare |= (sums[0] / limit > 1.0) | (sums[1] / limit > 1.0)
        memory = np.where(blocks < LEARNED, 1 / (blocks + 1), BASE_MEMORY)
        off = np.where((off > -CLIP) & (off < CLIP), off, np.where(off > 0, CLIP, -CLIP))
        after = np.array(
            [
                np.where(blocks + 1 > RANGED, RANGED, blocks + 1),
                base + memory * unit * off,
                scale + memory * (np.abs(off) * unit - scale),
                *sums,
                np.zeros(apart.shape),
            ]
        )
    return after, is_rare


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
