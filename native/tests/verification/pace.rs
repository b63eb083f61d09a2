//! No sender makes verification dearer than one by one, but for the sixteenth that trying again may cost.

use attestream_fast::pace::{MOST, Pace};
use attestream_fast::search::Work;

use crate::kit::shuffled;

/// Sixteenths of what a claim adds to a sum, as measured: a sum costs two claims beside its own.
const ALONE: usize = 48;

fn price(work: Work) -> usize {
    32 * work.sums + 16 * work.summed + ALONE * work.alone
}

/// What `judge_together` does with a group, without curves: same sums, same order, same budget.
fn judged(bad: &[bool]) -> Work {
    let mut work = Work { sums: 1, summed: bad.len(), ..Work::default() };
    let (mut budget, mut failed) = (2 * bad.len(), std::collections::VecDeque::new());
    if bad.contains(&true) {
        failed.push_back(bad);
    }
    while let Some(part) = failed.pop_front() {
        let half = part.len() / 2;
        if half == 0 {
            work.bad += 1;
        } else if budget < half {
            work.alone += part.len();
            work.bad += part.iter().filter(|bad| **bad).count();
        } else {
            budget -= half;
            work.sums += 1;
            work.summed += half;
            let halves = part.split_at(half);
            failed.extend([halves.0, halves.1].into_iter().filter(|half| half.contains(&true)));
        }
    }
    work
}

/// The price of a stream for each claim, in that of a claim alone; and the size of the next group.
fn run(stream: &[bool]) -> (f64, usize) {
    let (mut pace, mut total, mut rest) = (Pace::default(), 0, stream);
    while !rest.is_empty() {
        let (group, after) = rest.split_at(pace.size().min(rest.len()));
        let work = if pace.together() && group.len() > 1 {
            judged(group)
        } else {
            Work { alone: group.len(), bad: group.iter().filter(|bad| **bad).count(), ..Work::default() }
        };
        total += price(work);
        pace.learn(group.len(), work);
        rest = after;
    }
    (total as f64 / (ALONE * stream.len()) as f64, pace.size())
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
        let (cost, _) = run(&random(share_of_1000, 100_000));
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
                // Beyond the sixteenth: once what one group of MOST can waste.
                let once = (8 * 16 * MOST) as f64 / (ALONE * stream.len()) as f64;
                let (cost, _) = run(&stream);
                assert!(cost <= 1.0 + 1.0 / 16.0 + once, "{calm} then {burst} by {gap}: {cost}");
            }
        }
    }
}

#[test]
fn groups_are_large_when_it_is_calm_and_again_after_an_attack() {
    let calm = vec![false; 6 * MOST];
    assert_eq!(run(&calm).1, MOST);
    let attacked = [calm.clone(), vec![true; 50_000], calm].concat();
    assert_eq!(run(&attacked).1, MOST);
    let under_attack = [vec![false; 6 * MOST], vec![true; 50_000]].concat();
    assert!(run(&under_attack).1 <= 32);
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
