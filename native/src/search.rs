//! Which claims of a group do not hold.
//!
//! Halving a failed group and summing both halves anew, level by level, is a denial of service: each bad signature
//! costs a sum over the group at every level, and a few of them among two thousand make all of them dearer than if
//! each had been verified alone. So here
//!
//! - only one half is summed. The same coefficients serve a group and its parts, so the other half's sum is the
//!   difference: a level costs half, and a lone bad signature as much again as the group did, whatever its place;
//! - sums over parts have a budget. When it is spent, what is still in doubt is verified alone; the largest part
//!   is halved first, so that is little.
//!
//! How often groups fail in a row, `pace` bounds.

use std::collections::VecDeque;
use std::ops::AddAssign;

use curve25519_dalek::edwards::EdwardsPoint;

use crate::claim::{Claim, vanishes};
use crate::equation::{draw_coefficients, weighted_sum};

/// Claims in sums over parts, for each claim of the group. Two bad ones among thousands need one and a half.
const PASSES: usize = 2;

/// What judging took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Sums computed.
    pub sums: usize,
    /// Claims in them.
    pub summed: usize,
    /// Claims verified alone.
    pub alone: usize,
    /// Claims found not to hold.
    pub bad: usize,
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.sums += other.sums;
        self.summed += other.summed;
        self.alone += other.alone;
        self.bad += other.bad;
    }
}

/// Judge claims one by one.
pub fn judge_alone(claims: &mut [Claim]) -> Work {
    let mut work = Work { alone: claims.len(), ..Work::default() };
    for claim in claims {
        claim.holds = claim.holds_alone();
        work.bad += usize::from(!claim.holds);
    }
    work
}

/// Judge claims together; they are left in the order of their keys.
pub fn judge_together(claims: &mut [Claim]) -> Work {
    if claims.len() < 2 || draw_coefficients(claims).is_err() {
        return judge_alone(claims);
    }
    // Signatures by one key become one term of a sum; and where one signer's are all bad, they lie together.
    claims.sort_unstable_by_key(|claim| claim.key.encoded);
    let mut work = Work { sums: 1, summed: claims.len(), ..Work::default() };
    let mut budget = claims.len().saturating_mul(PASSES);
    let sum = weighted_sum(claims);
    let mut failed = VecDeque::new();
    sort_out(claims, sum, &mut failed);
    while let Some((part, sum)) = failed.pop_front() {
        let half = part.len() / 2;
        if half == 0 {
            work.bad += 1; // its sum is its own equation, times a number that is not 0
        } else if budget < half {
            work += judge_alone(part);
        } else {
            budget -= half;
            work.sums += 1;
            work.summed += half;
            let (left, right) = part.split_at_mut(half);
            let left_sum = weighted_sum(left);
            sort_out(left, left_sum, &mut failed);
            sort_out(right, sum - left_sum, &mut failed);
        }
    }
    work
}

/// Accept a part whose sum vanishes; put it to those that failed otherwise.
fn sort_out<'a>(
    part: &'a mut [Claim],
    sum: EdwardsPoint,
    failed: &mut VecDeque<(&'a mut [Claim], EdwardsPoint)>,
) {
    if vanishes(&sum) {
        part.iter_mut().for_each(|claim| claim.holds = true);
    } else {
        failed.push_back((part, sum));
    }
}
