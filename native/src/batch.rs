//! A batch, from bytes to verdicts.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::claim::Claim;
use crate::keys::Keys;
use crate::pace::{MOST, Pace, WARY};
use crate::search::{Work, accept_all, judge_alone, judge_together};

/// A signature as it came in: public key, message, signature.
pub type Signed<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// What a key begins with, the place in the batch, and the signature itself.
type Placed<'a> = (u64, usize, Signed<'a>);

/// A batch by its keys. Whatever of one key is judged in the same group is one term of its sum, and a device
/// has often sent several; in the order in which they came hardly any two would meet.
fn by_key<'a>(batch: &[Signed<'a>]) -> Vec<Placed<'a>> {
    let mut placed: Vec<_> = batch
        .iter()
        .enumerate()
        .map(|(place, signed)| {
            (signed.0.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)), place, *signed)
        })
        .collect();
    placed.sort_unstable_by_key(|&(front, place, _)| (front, place));
    placed
}

/// What is remembered from batch to batch. It bears on the cost of a verdict, never on the verdict.
#[derive(Default)]
struct Memory {
    keys: Keys,
    pace: Pace,
}

/// Verifies batches; several threads may share one.
#[derive(Default)]
pub struct Verifier {
    memory: Mutex<Memory>,
}

impl Verifier {
    /// Verify each signature of a batch; the verdicts stand in the batch's order.
    pub fn verify(&self, batch: &[Signed<'_>]) -> Vec<bool> {
        self.verify_counting(batch).0
    }

    /// Verify a batch, and say what it took.
    pub fn verify_counting(&self, batch: &[Signed<'_>]) -> (Vec<bool>, Work) {
        let mut verdicts = vec![false; batch.len()];
        let mut work = Work::default();
        for part in by_key(batch).chunks(MOST) {
            let mut claims = self.open(part);
            work += self.judge(&mut claims);
            for claim in &claims {
                if let Some(verdict) = verdicts.get_mut(claim.place) {
                    *verdict = claim.holds;
                }
            }
        }
        (verdicts, work)
    }

    /// Decode what can be decoded of signatures, each with its place in the batch.
    fn open(&self, part: &[Placed<'_>]) -> Vec<Claim> {
        let keys: Vec<_> = {
            let mut memory = self.memory();
            part.iter().map(|(_, _, (key, _, _))| memory.keys.decode(key)).collect()
        };
        let opened = part.iter().zip(keys);
        opened
            .filter_map(|(&(_, place, (_, message, signature)), key)| {
                Claim::open(place, key?, message, signature)
            })
            .collect()
    }

    fn judge(&self, mut claims: &mut [Claim]) -> Work {
        let mut work = Work::default();
        while !claims.is_empty() {
            let size = self.memory().pace.size();
            let (group, rest) = claims.split_at_mut(size.min(claims.len()));
            work += if group.len() > WARY { self.judge_large(group) } else { self.judge_small(group) };
            claims = rest;
        }
        work
    }

    /// Accept a group as a whole, or judge it in small ones to its end, whatever other threads learn
    /// meanwhile.
    fn judge_large(&self, mut group: &mut [Claim]) -> Work {
        let (hold, mut work) = accept_all(group);
        if hold {
            self.memory().pace.learn(group.len(), work);
            return work;
        }
        self.memory().pace.startle(work);
        while !group.is_empty() {
            let size = self.memory().pace.size().min(WARY);
            let (small, rest) = group.split_at_mut(size.min(group.len()));
            work += self.judge_small(small);
            group = rest;
        }
        work
    }

    fn judge_small(&self, group: &mut [Claim]) -> Work {
        let together = self.memory().pace.together();
        let work = if together { judge_together(group) } else { judge_alone(group) };
        self.memory().pace.learn(group.len(), work);
        work
    }

    /// A thread that panicked within leaves nothing half done that could bear on a verdict.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
