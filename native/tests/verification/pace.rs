//! No sender makes verification dearer than one by one, but for the sixteenth that trying again may cost.

use attestream_fast::batch::Verifier;
use attestream_fast::pace::{MOST, Pace, WARY};
use attestream_fast::search::Work;

use crate::kit::{Signed, shuffled, some};

/// Sixteenths of what a claim adds to a sum, as measured: a sum costs two claims beside its own.
const ALONE: usize = 48;

fn price(work: Work) -> usize {
    32 * work.sums + 16 * work.summed + ALONE * work.alone
}

/// What `judge_together` does with a group, without curves: the same sums.
fn judged(bad: &[bool]) -> Work {
    let mut work = Work { sums: 1, summed: bad.len(), ..Work::default() };
    let mut in_doubt = vec![bad];
    while let Some(part) = in_doubt.pop() {
        let half = part.len() / 2;
        if !part.contains(&true) {
        } else if half == 0 {
            work.bad += 1;
        } else {
            work.sums += 1;
            work.summed += half;
            in_doubt.extend([&part[..half], &part[half..]]);
        }
    }
    work
}

/// What a verifier does with claims, without curves.
fn run(pace: &mut Pace, mut rest: &[bool]) -> Work {
    let (mut total, mut startled) = (Work::default(), 0);
    while !rest.is_empty() {
        let most = if startled > 0 { WARY.min(startled) } else { MOST };
        let group = &rest[..pace.size().min(most).min(rest.len())];
        let mut work = Work { sums: 1, summed: group.len(), ..Work::default() };
        if group.len() > WARY && group.contains(&true) {
            total += work;
            startled = group.len();
            pace.startle(work);
            continue;
        }
        if !pace.together() || group.len() < 2 {
            let bad = group.iter().filter(|bad| **bad).count();
            work = Work { alone: group.len(), bad, ..Work::default() };
        } else if group.len() <= WARY {
            work = judged(group);
        }
        pace.learn(group.len(), work);
        total += work;
        startled = startled.saturating_sub(group.len());
        rest = &rest[group.len()..];
    }
    total
}

/// The price of a stream of full batches for each claim, in that of a claim alone.
fn cost(stream: &[bool]) -> f64 {
    let mut pace = Pace::default();
    let total: usize = stream.chunks(MOST).map(|batch| price(run(&mut pace, batch))).sum();
    total as f64 / (ALONE * stream.len()) as f64
}

fn size_after(stream: &[bool]) -> usize {
    let mut pace = Pace::default();
    run(&mut pace, stream);
    pace.size()
}

#[test]
fn a_verifier_does_the_work_that_is_counted_here() {
    let mut sorted = some(3000, |_| false);
    sorted.sort_by_key(|signed| signed.key);
    for (calm, every) in [(0, 1), (0, 7), (0, 64), (5000, 900), (5000, 3), (9000, 5000)] {
        let (verifier, mut pace) = (Verifier::default(), Pace::default());
        let batch: Vec<Signed> = (0..calm + 3000).map(|place| sorted[place % 3000].clone()).collect();
        for (number, chunk) in batch.chunks(3000).enumerate() {
            let bad = |place: usize| number * 3000 + place >= calm && place.is_multiple_of(every);
            let chunk: Vec<Signed> = chunk
                .iter()
                .enumerate()
                .map(|(place, one)| if bad(place) { one.clone().broken() } else { one.clone() })
                .collect();
            let slices: Vec<_> = chunk.iter().map(Signed::as_slices).collect();
            let mut counted = Work::default();
            for part in (0..chunk.len()).map(bad).collect::<Vec<_>>().chunks(MOST) {
                counted += run(&mut pace, part);
            }
            assert_eq!(verifier.verify_counting(&slices).1, counted, "{calm} {every}");
        }
    }
}

fn random(share_of_1000: u64, count: usize) -> Vec<bool> {
    let mut step = 7;
    (0..count).map(|_| shuffled(&mut step) % 1000 < share_of_1000).collect()
}

#[test]
fn each_share_of_bad_signatures_costs_less_than_alone_or_a_sixteenth_more() {
    for (share_of_1000, at_most) in
        [(0, 0.35), (1, 0.5), (10, 0.6), (50, 0.85), (100, 1.0), (250, 1.07), (500, 1.07), (1000, 1.07)]
    {
        let cost = cost(&random(share_of_1000, 100_000));
        assert!(cost <= at_most, "{share_of_1000} in 1,000: {cost}");
    }
}

/// The sender knows the rule, and sends good ones until groups are as large as it wants them.
#[test]
fn bursts_of_any_length_after_calms_of_any_length_cost_no_more() {
    for calm in [0, 1, 4, 8, 16, 31, 64, 500, 2 * MOST, 3 * MOST + 1, 20_000] {
        for burst in [1, 2, 3, 8, 16, 33, 64, 500, MOST, 10_000] {
            for gap in [1, 2, 3, 5, 32] {
                let round: Vec<bool> =
                    (0..calm).map(|_| false).chain((0..burst).map(|place| place % gap == 0)).collect();
                let stream = round.repeat(1 + 60_000 / round.len());
                // Beyond the sixteenth: once what the account holds, and what overdraws it.
                let once = (2 * 16 * MOST + 2048) as f64 / (ALONE * stream.len()) as f64;
                let cost = cost(&stream);
                assert!(cost <= 1.0 + 1.0 / 16.0 + once, "{calm} then {burst} by {gap}: {cost}");
            }
        }
    }
}

#[test]
fn groups_are_large_when_it_is_calm_and_again_after_an_attack() {
    let calm = vec![false; 6 * MOST];
    assert_eq!(size_after(&calm), MOST);
    let attacked = [calm.clone(), vec![true; 50_000], calm].concat();
    assert_eq!(size_after(&attacked), MOST);
    let under_attack = [vec![false; 6 * MOST], vec![true; 50_000]].concat();
    assert!(size_after(&under_attack) <= 32);
}

#[test]
fn groups_that_hold_but_are_short_do_not_hold_it_back() {
    let mut pace = Pace::default();
    for _ in 0..4 * MOST {
        pace.learn(1, Work { alone: 1, ..Work::default() });
    }
    assert_eq!(pace.size(), MOST);
    pace.learn(0, Work::default());
    assert_eq!(pace.size(), MOST);
}
