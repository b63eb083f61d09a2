//! What a sum over several claims proves, and what it must not be talked into.

use attestream_fast::claim::{Claim, vanishes};
use attestream_fast::equation::{draw_coefficients, weighted_sum};
use attestream_fast::search::judge_together;
use curve25519_dalek::scalar::Scalar;

use crate::kit::{Signed, claims, signed, signed_with_torsion};

fn summed(claims: &mut [Claim]) -> bool {
    draw_coefficients(claims).unwrap();
    vanishes(&weighted_sum(claims))
}

#[test]
fn a_sum_vanishes_iff_every_claim_holds() {
    for count in [1, 2, 3, 31, 32, 33, 200] {
        assert!(summed(&mut claims(count, |_| false)));
        for bad in [0, count / 2, count - 1] {
            assert!(!summed(&mut claims(count, |place| place == bad)));
        }
    }
    assert!(vanishes(&weighted_sum(&[])));
}

#[test]
fn a_half_is_the_whole_without_the_other_half() {
    let mut all = claims(40, |place| place == 3 || place == 30);
    draw_coefficients(&mut all).unwrap();
    let (left, right) = all.split_at(20);
    assert_eq!(weighted_sum(&all) - weighted_sum(left), weighted_sum(right));
}

#[test]
fn a_key_that_recurs_is_one_term_with_the_same_sum() {
    let one = signed(1);
    let mut all: Vec<Claim> = (0..5).map(|place| one.claim(place)).collect();
    draw_coefficients(&mut all).unwrap();
    let apart = all.iter().map(|claim| weighted_sum(std::slice::from_ref(claim))).sum();
    assert_eq!(weighted_sum(&all), apart);
}

/// With equal coefficients the two errors would cancel.
#[test]
fn errors_that_cancel_are_both_found() {
    let mut pair = [signed(1).claim(0), signed(2).claim(1)];
    pair[0].s += Scalar::ONE;
    pair[1].s -= Scalar::ONE;
    let work = judge_together(&mut pair);
    assert_eq!(work.bad, 2);
    assert!(pair.iter().all(|claim| !claim.holds));
}

/// Torsion is multiplied away: in a sum as in each equation alone, whether it cancels between claims or
/// not.
#[test]
fn torsion_of_keys_and_commitments_is_accepted_alone_and_together() {
    let all: Vec<Signed> =
        (0..64).map(|number| signed_with_torsion(number, number as usize % 8, number as usize / 8)).collect();
    let mut claims: Vec<Claim> = all.iter().enumerate().map(|(place, one)| one.claim(place)).collect();
    assert!(claims.iter().all(Claim::holds_alone));
    assert_eq!(judge_together(&mut claims).bad, 0);
    assert!(claims.iter().all(|claim| claim.holds));
}

/// A torsion part of R that cancels with the other's stays acceptable; a broken message beside it does not.
#[test]
fn torsion_that_cancels_carries_no_bad_claim_through() {
    for torsion in 1..8 {
        let pair = [signed_with_torsion(1, 0, torsion), signed_with_torsion(2, 0, 8 - torsion).broken()];
        let mut claims: Vec<Claim> = pair.iter().enumerate().map(|(place, one)| one.claim(place)).collect();
        assert_eq!(judge_together(&mut claims).bad, 1);
        for claim in &claims {
            assert_eq!(claim.holds, claim.place == 0);
        }
    }
}

#[test]
fn coefficients_are_drawn_anew() {
    let mut all = claims(8, |_| false);
    draw_coefficients(&mut all).unwrap();
    let first: Vec<Scalar> = all.iter().map(|claim| claim.z).collect();
    draw_coefficients(&mut all).unwrap();
    assert!(all.iter().zip(&first).all(|(claim, before)| claim.z != *before));
    assert!(all.iter().all(|claim| claim.z.as_bytes()[16..] == [0; 16]));
}
