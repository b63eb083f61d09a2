//! Which claims of a group hold.
//!
//! Halving a failed group and summing both halves anew, level by level, is a denial of service: each bad
//! signature costs a sum over the group at every level, and a few of them among two thousand make all of
//! them dearer than if each had been verified alone. So here
//!
//! - a large group is only asked whether all of it holds. If not, it is judged again in small ones;
//! - of a small one that failed, only one half is summed. The same coefficients serve a group and its
//!   parts, so the other half's sum is the difference: a level costs half, and all levels
//!   together two and a half times the group at most.
//!
//! Which groups are small, and how often they may fail in a row before claims are verified alone, is the
//! matter of `pace`.

use std::ops::AddAssign;

use curve25519_dalek::edwards::EdwardsPoint;

use crate::claim::{Claim, vanishes};
use crate::equation::{draw_coefficients, weighted_sum};

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

/// Accept all claims if all hold; say whether they do. They are left in the order of their keys.
pub fn accept_all(claims: &mut [Claim]) -> (bool, Work) {
    let Some(sum) = sum_of(claims) else {
        return (false, Work::default());
    };
    (accept(claims, &sum), Work { sums: 1, summed: claims.len(), ..Work::default() })
}

/// Judge claims together. They are left in the order of their keys.
pub fn judge_together(claims: &mut [Claim]) -> Work {
    if claims.len() < 2 {
        return judge_alone(claims);
    }
    let Some(sum) = sum_of(claims) else {
        return judge_alone(claims);
    };
    let mut work = Work { sums: 1, summed: claims.len(), ..Work::default() };
    let mut in_doubt = vec![(claims, sum)];
    while let Some((part, sum)) = in_doubt.pop() {
        if accept(part, &sum) {
            continue;
        }
        let half = part.len() / 2;
        if half == 0 {
            work.bad += 1; // its sum is its own equation, times a number that is not 0
            continue;
        }
        work.sums += 1;
        work.summed += half;
        let (left, right) = part.split_at_mut(half);
        let of_left = weighted_sum(left);
        in_doubt.push((right, sum - of_left));
        in_doubt.push((left, of_left));
    }
    work
}

/// The sum over a group; None where no coefficients are to be had.
fn sum_of(claims: &mut [Claim]) -> Option<EdwardsPoint> {
    draw_coefficients(claims).ok()?;
    // Signatures by one key become one term of a sum; and where one signer's are all bad, they lie together.
    claims.sort_unstable_by_key(|claim| claim.key.encoded);
    Some(weighted_sum(claims))
}

fn accept(part: &mut [Claim], sum: &EdwardsPoint) -> bool {
    let holds = vanishes(sum);
    if holds {
        part.iter_mut().for_each(|claim| claim.holds = true);
    }
    holds
}
