//! How many claims are judged together: many while they hold, few or one after some did not.

use crate::search::Work;

/// The largest group. Sums over more save nothing worth the memory.
pub const MOST: usize = 2048;
/// The largest group that is searched for bad claims. As many together cost a quarter more than `MOST`, and
/// where one claim in a hundred is bad, a third less.
pub const WARY: usize = 32;
const FEWEST: usize = 4;
/// Claims that held in a row, after which groups are large.
const CALM: usize = 2 * MOST;
/// How many are verified alone before groups are thought of again.
const ALONE: usize = 16;

/// Costs, in sixteenths of what one more claim adds to a sum. Each sum has a fixed share besides: its
/// doublings.
const COST_SUMMED: i64 = 16;
const COST_SUM: i64 = 32;
const COST_ALONE: i64 = 48;
/// What a claim may cost beyond one that is verified alone: a sixteenth of it.
const ALLOWED: i64 = COST_ALONE / 16;
/// Most that is kept of what was saved: a large group that fails shall not overdraw the account.
const SAVED_MOST: i64 = 2 * MOST as i64 * COST_SUMMED;

/// Chooses the size of the next group from how the last ones went.
///
/// It keeps an account against a verifier that judges each claim alone: what groups that held have saved,
/// and what groups that failed have wasted. While the account is overdrawn, claims are judged alone, and
/// each pays back a sixteenth of its cost. So whatever the share of bad signatures and wherever their
/// sender places them, all claims together cost a sixteenth more than each alone at most, and beyond that
/// once what the account holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    size: usize,
    calm: usize,
    saved: i64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { size: WARY, calm: 0, saved: 0 }
    }
}

impl Pace {
    /// How many claims to take next.
    pub fn size(&self) -> usize {
        match self.together() {
            true if self.calm >= CALM => MOST,
            true => self.size,
            false => ALONE,
        }
    }

    /// Whether they are to be judged together.
    pub fn together(&self) -> bool {
        self.saved >= 0
    }

    /// Learn from a group of `claims` that were judged.
    pub fn learn(&mut self, claims: usize, work: Work) {
        let as_alone = count(claims).saturating_mul(COST_ALONE + ALLOWED);
        self.saved = self.saved.saturating_add(as_alone).saturating_sub(cost(work)).min(SAVED_MOST);
        if work.bad > 0 {
            // Half of the distance between bad ones: then most groups hold.
            self.size = (claims / (2 * work.bad)).clamp(FEWEST, WARY);
            self.calm = 0;
        } else {
            self.size = self.size.max(2 * claims).min(WARY);
            self.calm = (self.calm + claims).min(CALM);
        }
    }

    /// Learn from a large group that does not hold as a whole and must be judged again.
    pub fn startle(&mut self, work: Work) {
        self.saved = self.saved.saturating_sub(cost(work));
        self.calm = 0;
    }
}

fn cost(work: Work) -> i64 {
    count(work.sums) * COST_SUM + count(work.summed) * COST_SUMMED + count(work.alone) * COST_ALONE
}

fn count(claims: usize) -> i64 {
    i64::try_from(claims).unwrap_or(i64::MAX / 1024)
}
