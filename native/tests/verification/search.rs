//! Bad claims are found wherever they stand, at a bounded price.

use attestream_fast::claim::Claim;
use attestream_fast::pace::WARY;
use attestream_fast::search::{Work, accept_all, judge_alone, judge_together};

use crate::kit::{claims, shuffled};

fn check(claims: &mut [Claim], bad: impl Fn(usize) -> bool) -> Work {
    let expected = claims.iter().filter(|claim| bad(claim.place)).count();
    let work = judge_together(claims);
    assert_eq!(work.bad, expected);
    for claim in claims.iter() {
        assert_eq!(claim.holds, !bad(claim.place), "place {} of {}", claim.place, claims.len());
    }
    // Once over all, and half of it at each of five levels; naive bisection has twice as much of the latter.
    if claims.len() <= WARY {
        assert!(2 * work.summed <= 7 * claims.len(), "{work:?} for {}", claims.len());
        assert!(work.alone <= 1);
    }
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

#[test]
fn a_lone_bad_one_costs_one_more_pass_whatever_its_place() {
    for bad in 0..32 {
        let work = check(&mut claims(32, |place| place == bad), |place| place == bad);
        assert_eq!(work, Work { sums: 1 + 5, summed: 32 + 31, alone: 0, bad: 1 });
    }
}

#[test]
fn one_key_with_many_bad_signatures_is_found_as_one_part() {
    let of_one_signer = |place: usize| place.is_multiple_of(4);
    let mut all = claims(32, of_one_signer);
    let (key, k) = (all[0].key, all[0].k);
    for claim in all.iter_mut().filter(|claim| of_one_signer(claim.place)) {
        (claim.key, claim.k) = (key, k);
    }
    let apart = check(&mut claims(32, of_one_signer), of_one_signer);
    let together = check(&mut all, of_one_signer);
    assert!(together.sums < apart.sums, "{together:?} {apart:?}");
}

#[test]
fn a_group_is_accepted_as_a_whole_or_not_at_all() {
    for count in [0, 1, 2, 32, 33, 700] {
        let mut all = claims(count, |_| false);
        assert_eq!(accept_all(&mut all), (true, Work { sums: 1, summed: count, ..Work::default() }));
        assert!(all.iter().all(|claim| claim.holds));
    }
    for bad in [0, 350, 699] {
        let mut all = claims(700, |place| place == bad);
        assert!(!accept_all(&mut all).0);
        assert!(all.iter().all(|claim| !claim.holds));
    }
}

#[test]
fn alone_is_alone() {
    let mut all = claims(9, |place| place == 4);
    assert_eq!(judge_alone(&mut all), Work { alone: 9, bad: 1, ..Work::default() });
    assert!(all.iter().all(|claim| claim.holds == (claim.place != 4)));
}
