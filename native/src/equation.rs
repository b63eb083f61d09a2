//! The batch equation: the sum of z(R + [k]A - [s]B) over several claims, with a coefficient z of its own
//! for each.
//!
//! If every claim holds, [8] times the sum is the identity. If one does not, the sum is the identity for
//! one z in 2^128 only, and nobody who made the signatures knows z. Torsion needs no special care: it is
//! multiplied away in the sum as it is in each claim alone, so parts that cancel between claims change
//! nothing.

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::VartimeMultiscalarMul;

use crate::claim::Claim;

const COEFFICIENT_BYTES: usize = 16;

/// Give each claim a coefficient of 128 bits from the operating system's random source.
///
/// # Errors
/// The random source's. Claims must then be judged alone: coefficients that a signer can guess prove
/// nothing.
pub fn draw_coefficients(claims: &mut [Claim]) -> Result<(), getrandom::Error> {
    let mut bytes = vec![0; claims.len().saturating_mul(COEFFICIENT_BYTES)];
    getrandom::fill(&mut bytes)?;
    let (chunks, _) = bytes.as_chunks::<COEFFICIENT_BYTES>();
    for (claim, chunk) in claims.iter_mut().zip(chunks) {
        claim.z = Scalar::from(u128::from_le_bytes(*chunk));
    }
    Ok(())
}

/// The sum over `claims`, which stand in the order of their keys: a key that recurs is one term.
pub fn weighted_sum(claims: &[Claim]) -> EdwardsPoint {
    let mut of_base = Scalar::ZERO;
    let mut of_keys: Vec<(Scalar, &EdwardsPoint)> = Vec::with_capacity(claims.len());
    let mut last_key = None;
    for claim in claims {
        of_base -= claim.z * claim.s;
        let of_key = claim.z * claim.k;
        match of_keys.last_mut() {
            Some((sum, _)) if last_key == Some(&claim.key.encoded) => *sum += of_key,
            _ => of_keys.push((of_key, &claim.key.point)),
        }
        last_key = Some(&claim.key.encoded);
    }
    let scalars = claims.iter().map(|claim| &claim.z).chain(of_keys.iter().map(|(scalar, _)| scalar));
    let points = claims.iter().map(|claim| &claim.r).chain(of_keys.iter().map(|(_, point)| *point));
    EdwardsPoint::vartime_multiscalar_mul(scalars.chain([&of_base]), points.chain([&ED25519_BASEPOINT_POINT]))
}
