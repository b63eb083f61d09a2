//! A batch, from bytes to verdicts.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::claim::Claim;
use crate::keys::Keys;
use crate::pace::Pace;
use crate::search::{Work, judge_alone, judge_together};

/// A signature as it came in: public key, message, signature.
pub type Signed<'a> = (&'a [u8], &'a [u8], &'a [u8]);

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

    /// Verify a batch, and say what it cost.
    pub fn verify_counting(&self, batch: &[Signed<'_>]) -> (Vec<bool>, Work) {
        let mut verdicts = vec![false; batch.len()];
        let mut total = Work::default();
        let mut signed = batch.iter().enumerate().peekable();
        while signed.peek().is_some() {
            // Held while keys are looked up, not while curves are computed.
            let mut memory = self.memory();
            let pace = memory.pace;
            let mut keyed = Vec::with_capacity(pace.size().min(batch.len()));
            for (place, &(key, message, signature)) in signed.by_ref() {
                if let Some(key) = memory.keys.decode(key) {
                    keyed.push((place, key, message, signature));
                }
                if keyed.len() >= pace.size() {
                    break;
                }
            }
            drop(memory);
            let mut claims: Vec<Claim> = keyed
                .into_iter()
                .filter_map(|(place, key, message, signature)| Claim::open(place, key, message, signature))
                .collect();
            let work = if pace.together() { judge_together(&mut claims) } else { judge_alone(&mut claims) };
            self.memory().pace.learn(claims.len(), work);
            total += work;
            for claim in &claims {
                if let Some(verdict) = verdicts.get_mut(claim.place) {
                    *verdict = claim.holds;
                }
            }
        }
        (verdicts, total)
    }

    /// A thread that panicked within leaves nothing half done that could bear on a verdict.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
