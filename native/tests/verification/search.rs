//! Bad claims are found wherever they stand, at a bounded price.

use attestream_fast::claim::Claim;
use attestream_fast::search::{Work, judge_alone, judge_together};

use crate::kit::{claims, shuffled};

fn check(claims: &mut [Claim], bad: impl Fn(usize) -> bool) -> Work {
    let expected = claims.iter().filter(|claim| bad(claim.place)).count();
    let work = judge_together(claims);
    assert_eq!(work.bad, expected);
    for claim in claims.iter() {
        assert_eq!(claim.holds, !bad(claim.place), "place {} of {}", claim.place, claims.len());
    }
    // A pass over all, two over parts, and what is left alone.
    assert!(work.summed <= 3 * claims.len(), "{work:?} for {}", claims.len());
    assert!(work.alone <= claims.len(), "{work:?} for {}", claims.len());
    work
}

#[test]
fn groups_of_all_sizes_with_bad_ones_first_last_everywhere_and_nowhere() {
    for count in 0..=70 {
        check(&mut claims(count, |_| false), |_| false);
        check(&mut claims(count, |_| true), |_| true);
        check(&mut claims(count, |place| place == 0), |place| place == 0);
        check(&mut claims(count, |place| place + 1 == count), |place| place + 1 == count);
        check(&mut claims(count, |place| place % 2 == 0), |place| place % 2 == 0);
    }
}

#[test]
fn every_share_of_bad_ones() {
    let mut step = 1;
    for percent in [1, 2, 5, 10, 25, 50, 75, 99] {
        let bad: Vec<bool> = (0..300).map(|_| shuffled(&mut step) % 100 < percent).collect();
        check(&mut claims(300, |place| bad[place]), |place| bad[place]);
    }
}

/// Naive bisection sums both halves at every level: eleven passes here instead of one.
#[test]
fn a_lone_bad_one_costs_one_more_pass_whatever_its_place() {
    for bad in [0, 1, 1023, 1024, 1500, 2047] {
        let work = check(&mut claims(2048, |place| place == bad), |place| place == bad);
        assert_eq!(work.alone, 0);
        assert_eq!(work.sums, 12);
        assert_eq!(work.summed, 2048 + 2047);
    }
}

#[test]
fn a_group_of_bad_ones_ends_in_verification_alone() {
    let work = check(&mut claims(1024, |_| true), |_| true);
    assert_eq!(work.alone, 1024);
    assert!(work.sums <= 1 + 15, "{work:?}");
}

#[test]
fn one_key_with_many_bad_signatures_is_found_as_one_part() {
    let of_one_signer = |place: usize| place.is_multiple_of(8);
    let mut all = claims(256, of_one_signer);
    let key = all[0].key;
    let message_key = all[0].k;
    for claim in all.iter_mut().filter(|claim| of_one_signer(claim.place)) {
        (claim.key, claim.k) = (key, message_key);
    }
    let work = check(&mut all, of_one_signer);
    assert!(work.alone <= 64, "{work:?}");
}

#[test]
fn alone_is_alone() {
    let mut all = claims(9, |place| place == 4);
    assert_eq!(judge_alone(&mut all), Work { alone: 9, bad: 1, ..Work::default() });
    assert!(all.iter().all(|claim| claim.holds == (claim.place != 4)));
}
