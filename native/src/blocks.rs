//! Judges blocks of samples of one signal each, bit for bit as `processors/detect/blocks.py` does.
//!
//! Nearly all blocks break no rule: their tracks go on here. One that breaks a rule keeps its track, and is
//! left to Python, which says which rule, and by how much. Names and order are those of that file, where it
//! says why; additions and multiplications come in its order, so that they round alike.

use std::fmt;

const TRACKED: usize = 25;
const THRESHOLDS: usize = 15;
/// Samples of a block.
const LEAST: usize = 3;
const MOST: usize = 64;

const MEMORY: f64 = 1.0 / 32.0;
const BASE_MEMORY: f64 = 1.0 / 48.0;
const CLIP: f64 = 4.0;
const FAR: f64 = 8.0;
const LEARNED: f64 = 48.0;
const SMOOTH_MEMORY: f64 = 0.75;
const EPOCH: f64 = 8.0;
const FEW_TURNS: f64 = 2.1;
const COARSE: f64 = 3.5;
const RANGED: f64 = 60000.0;
const SAME: f64 = 1e-9;

const MANY: f64 = 60000.0;
const WIDE: f64 = 8.0;
const SLIP: f64 = 0.25;
const ROUNDED_SLIP: f64 = 1.01;
const SHARE: f64 = 0.02;

/// What is remembered of a signal from block to block.
type Track = [f64; TRACKED];
/// In the order in which `blocks.THRESHOLDS` packs them.
type Limits = [f64; THRESHOLDS];

/// Says that a block breaks a rule.
struct Breaks;

/// Tables that do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// So many numbers of tracks and samples are not those of so many blocks.
    Sizes(usize, usize, usize),
    /// A block names thresholds that are not there.
    Thresholds(i64),
}

impl fmt::Display for Misfit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sizes(tracks, samples, blocks) => {
                write!(
                    formatter,
                    "{tracks} numbers of tracks and {samples} samples are not of {blocks} blocks"
                )
            }
            Self::Thresholds(which) => write!(formatter, "there are no thresholds of number {which}"),
        }
    }
}

/// Judge blocks of as many samples each; return the places of those that break a rule.
///
/// # Errors
/// Where the tables do not fit together. Some tracks may have gone on then.
pub fn judge_all(
    tracks: &mut [f64],
    samples: &[f64],
    thresholds: &[f64],
    which: &[i64],
) -> Result<Vec<usize>, Misfit> {
    let blocks = which.len();
    let misfit = Misfit::Sizes(tracks.len(), samples.len(), blocks);
    let each = samples.len().checked_div(blocks).unwrap_or(LEAST);
    let (tracks, rest) = tracks.as_chunks_mut::<TRACKED>();
    let are_all =
        tracks.len() == blocks && rest.is_empty() && each.checked_mul(blocks) == Some(samples.len());
    if !are_all || !(LEAST..=MOST).contains(&each) {
        return Err(misfit);
    }
    let (thresholds, _) = thresholds.as_chunks::<THRESHOLDS>();
    let mut breaking = Vec::new();
    for (place, ((track, samples), &which)) in
        tracks.iter_mut().zip(samples.chunks(each)).zip(which).enumerate()
    {
        let limits = usize::try_from(which).ok().and_then(|which| thresholds.get(which));
        if judge(track, samples, limits.ok_or(Misfit::Thresholds(which))?).is_err() {
            breaking.push(place);
        }
    }
    Ok(breaking)
}

/// The second only where it is larger, as Python's `max` has it.
fn larger(one: f64, other: f64) -> f64 {
    if other > one { other } else { one }
}

/// The second only where it is smaller, as Python's `min` has it.
fn smaller(one: f64, other: f64) -> f64 {
    if other < one { other } else { one }
}

/// Take a block's samples; a track changes only where they break no rule.
fn judge(track: &mut Track, samples: &[f64], limits: &Limits) -> Result<(), Breaks> {
    let [
        usual,
        unit,
        step,
        max_change,
        warm,
        ratio_twice,
        smooth_ratio,
        grid_evidence,
        slack,
        limit,
        moves_much,
        jitter_range,
        jitter_fill,
        jitter_calm,
        ratio_once,
    ] = *limits;
    let [
        mut blocks,
        mut base,
        mut scale,
        mut noise,
        mut up,
        mut down,
        level1,
        level2,
        level3,
        mut smooth_change,
        mut smooth_turn,
        mut resolution,
        mut even,
        mut moves,
        mut grid,
        mut loud,
        mut epoch_n,
        mut epoch_low,
        mut epoch_high,
        mut epoch_change,
        mut epoch_fill,
        mut last_low,
        mut last_high,
        mut last_change,
        mut last_fill,
    ] = *track;
    let (mut room, mut size_room) = ([0.0; MOST], [0.0; MOST]);
    let Some(ordered) = sorted(&mut room, samples.iter().copied()) else { return Err(Breaks) };
    let changes = samples.iter().zip(samples.iter().skip(1)).map(|(before, after)| (after - before).abs());
    let Some(sizes) = sorted(&mut size_room, changes) else { return Err(Breaks) };
    let (Some(lowest), Some(highest)) = (ordered.first(), ordered.last()) else { return Err(Breaks) };
    let (Some(&finest), Some(&largest)) = (sizes.first(), sizes.last()) else { return Err(Breaks) };
    let Some(&middle) = ordered.get(ordered.len() >> 1) else { return Err(Breaks) };
    let level = middle + 0.0;
    if blocks == 0.0 {
        (base, noise, scale) = (level, usual, unit);
    }
    let memory = if blocks < LEARNED { 1.0 / (blocks + 1.0) } else { BASE_MEMORY };
    // Level: drift and step.
    let unit = larger(unit, scale);
    let off = level - base;
    if -CLIP * unit < off && off < CLIP * unit && up == 0.0 && down == 0.0 {
        base += memory * off;
    } else {
        let off = larger(-FAR, smaller(FAR, off / unit));
        if blocks >= warm {
            up = smaller(larger(0.0, up + off - slack), 3.0 * limit);
            down = smaller(larger(0.0, down - off - slack), 3.0 * limit);
            if up > limit || down > limit {
                return Err(Breaks);
            }
        }
        base += memory * unit * larger(-CLIP, smaller(CLIP, off));
    }
    if blocks < RANGED {
        blocks += 1.0;
    }
    let memory = larger(memory, MEMORY);
    let moved = level - level3;
    let step = if step == 0.0 { FAR * unit } else { step };
    let stays = -step <= moved && moved <= step;
    if !stays && blocks > warm && has_stepped(moved, level1 - level3, level - level1, step) {
        return Err(Breaks);
    }
    let moved = (level - level1).abs();
    if !moved.is_nan() {
        scale += memory * (smaller(CLIP * unit, moved) - scale);
    }
    // Course: rate, noise, smoothness, grid.
    let count = sizes.len() as f64;
    if largest == 0.0 {
        (epoch_n, loud) = (0.0, 0.0);
        if even != 0.0 {
            even = smaller(RANGED, even + count);
        }
    } else {
        if largest > max_change {
            return Err(Breaks);
        }
        let change = sizes.iter().fold(0.0, |sum, size| sum + size);
        let mean = change / count;
        let usual = larger(usual, noise);
        if mean > ratio_twice * usual && blocks > warm {
            loud = smaller(RANGED, loud + 1.0);
            if mean > ratio_once * usual || loud > 1.0 {
                return Err(Breaks);
            }
        } else {
            loud = 0.0;
        }
        let counted = if mean < 2.0 * usual || blocks < 3.0 { mean } else { 2.0 * usual };
        noise += memory * (counted - noise);
        let width = highest - lowest;
        let turn = if change > FEW_TURNS * width { change } else { turn_of(samples) };
        smooth_change = smooth_change * SMOOTH_MEMORY + change;
        smooth_turn = smooth_turn * SMOOTH_MEMORY + turn;
        if smooth_turn < smooth_ratio * smooth_change && blocks > 4.0 {
            return Err(Breaks);
        }
        let least = if finest < SAME {
            sizes.iter().copied().find(|size| *size > SAME).unwrap_or(largest)
        } else {
            finest
        };
        if least < COARSE * resolution {
            (even, moves) = (0.0, 0.0);
            resolution += (least - resolution) * if least < resolution { 0.5 } else { 1.0 / 64.0 };
        } else {
            (resolution, even, moves, grid) = on_grid((resolution, even, moves, grid), sizes);
            if moves >= 4.0 && even >= grid_evidence {
                return Err(Breaks);
            }
        }
        epoch_n += 1.0;
        if epoch_n == 1.0 {
            (epoch_low, epoch_high, epoch_change, epoch_fill) = (level, level, mean, change / width);
        } else {
            epoch_change += mean;
            epoch_fill += change / width;
            if level < epoch_low {
                epoch_low = level;
            } else if level > epoch_high {
                epoch_high = level;
            }
        }
    }
    if epoch_n == EPOCH {
        let is_white = |low: f64, high: f64, room: f64, fill: f64| {
            high - low < jitter_range * room && fill > jitter_fill
        };
        let is_calm = epoch_change < jitter_calm * EPOCH * noise;
        if is_calm && is_white(epoch_low, epoch_high, 1.5 * epoch_change / EPOCH, epoch_fill / EPOCH) {
            return Err(Breaks);
        }
        let has_last = moves_much != 0.0 && (last_change >= 0.0 || last_change.is_nan());
        let both = (epoch_change + last_change) / (2.0 * EPOCH);
        let fills = (epoch_fill + last_fill) / (2.0 * EPOCH);
        if has_last && is_white(smaller(epoch_low, last_low), larger(epoch_high, last_high), both, fills) {
            return Err(Breaks);
        }
        (last_low, last_high, last_change, last_fill) = (epoch_low, epoch_high, epoch_change, epoch_fill);
        (epoch_n, epoch_low, epoch_high, epoch_change, epoch_fill) = (0.0, 0.0, 0.0, 0.0, 0.0);
    }
    *track = [
        blocks,
        base,
        scale,
        noise,
        up,
        down,
        level,
        level1,
        level2,
        smooth_change,
        smooth_turn,
        resolution,
        even,
        moves,
        grid,
        loud,
        epoch_n,
        epoch_low,
        epoch_high,
        epoch_change,
        epoch_fill,
        last_low,
        last_high,
        last_change,
        last_fill,
    ];
    Ok(())
}

/// Numbers from the least to the largest; None where there is no room for all. Of equal ones, which only
/// differ by the sign of a zero, whichever comes first.
fn sorted(room: &mut [f64; MOST], numbers: impl Iterator<Item = f64>) -> Option<&[f64]> {
    let mut count = 0;
    for number in numbers {
        *room.get_mut(count)? = number;
        count += 1;
        let mut at = count - 1;
        while let Some([before, this]) = at.checked_sub(1).and_then(|from| room.get_mut(from..=at)) {
            if *before <= *this {
                break;
            }
            std::mem::swap(before, this);
            at -= 1;
        }
    }
    room.get(..count)
}

fn turn_of(samples: &[f64]) -> f64 {
    let mut sum = 0.0;
    for three in samples.windows(3) {
        if let [first, second, third] = three {
            sum += ((third - second) - (second - first)).abs();
        }
    }
    sum
}

fn has_stepped(moved: f64, before: f64, since: f64, step: f64) -> bool {
    let is_far = (moved > step && before > step) || (moved < -step && before < -step);
    is_far && -step / 2.0 < since && since < step / 2.0
}

type Grid = (f64, f64, f64, f64);

/// What `grid.judge_grid` does: finest change, samples and moves on a grid, the grid.
fn on_grid((finest, even, moves, grid): Grid, sizes: &[f64]) -> Grid {
    let is_moved = |size: &&f64| **size > SAME;
    let Some(&least) = sizes.iter().find(is_moved) else { return (finest, even, moves, grid) };
    if finest == 0.0 {
        return (least, 0.0, 0.0, 0.0);
    }
    let mut grid = grid;
    let is_apart = |ratio: f64| (ratio - ratio.round_ties_even()).abs();
    if even == 0.0 || grid == 0.0 || least < grid {
        if even != 0.0 && is_apart(grid / least) > SHARE {
            return (finest, 0.0, 0.0, 0.0);
        }
        grid = least;
    }
    let slip = finest * if grid > WIDE * finest { ROUNDED_SLIP } else { SLIP };
    let mut moved = 0.0;
    for size in sizes.iter().filter(is_moved) {
        if is_apart(size / grid) * grid > larger(slip, SHARE * size) {
            return (finest, 0.0, 0.0, 0.0);
        }
        moved += 1.0;
    }
    (finest, smaller(MANY, even + sizes.len() as f64), smaller(MANY, moves + moved), grid)
}
