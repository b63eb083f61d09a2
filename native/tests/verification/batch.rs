//! Batches from bytes to verdicts: order, hostile items, memory between batches, threads.

use attestream_fast::batch::Verifier;

use crate::kit::{Signed, shuffled, signed, some};

/// The group's order, little-endian (RFC 8032, section 5.1).
const L: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn verify(verifier: &Verifier, batch: &[Signed]) -> Vec<bool> {
    let batch: Vec<_> = batch.iter().map(Signed::as_slices).collect();
    verifier.verify(&batch)
}

#[test]
fn verdicts_stand_in_the_order_of_the_batch_whatever_was_judged_before() {
    let verifier = Verifier::default();
    let mut step = 3;
    for round in 0..60 {
        let count = (shuffled(&mut step) % 300) as usize;
        let percent = [0, 1, 10, 50, 100][round % 5];
        let bad: Vec<bool> = (0..count).map(|_| shuffled(&mut step) % 100 < percent).collect();
        let expected: Vec<bool> = bad.iter().map(|bad| !bad).collect();
        assert_eq!(verify(&verifier, &some(count, |place| bad[place])), expected);
    }
}

#[test]
fn keys_that_recur_in_any_order_take_no_verdict_from_each_other() {
    let (verifier, mut step) = (Verifier::default(), 5);
    let signers: Vec<Signed> = (0..7).map(signed).collect();
    for every in [1, 2, 9, 100, 6000] {
        let bad = |place: usize| place % every == every / 2;
        let batch: Vec<Signed> = (0..5000)
            .map(|place| {
                let one = signers[(shuffled(&mut step) % 7) as usize].clone();
                if bad(place) { one.broken() } else { one }
            })
            .collect();
        let verdicts = verify(&verifier, &batch);
        assert!(verdicts.iter().enumerate().all(|(place, verdict)| *verdict != bad(place)), "{every}");
    }
}

#[test]
fn an_empty_batch_has_no_verdicts() {
    assert_eq!(verify(&Verifier::default(), &[]), Vec::<bool>::new());
}

#[test]
fn items_of_wrong_lengths_are_false_and_spoil_no_other() {
    let verifier = Verifier::default();
    let good = signed(1);
    let (key, message, signature) = good.as_slices();
    let long = [signature, &[0]].concat();
    let batch = [
        (key, message, signature),
        (&key[1..], message, signature),
        (key, message, &signature[..63]),
        (key, message, &long[..]),
        (&[][..], &[][..], &[][..]),
        (key, message, &signature[..32]),
        (key, message, signature),
    ];
    assert_eq!(verifier.verify(&batch), [true, false, false, false, false, false, true]);
}

#[test]
fn items_without_a_curve_point_are_false_and_spoil_no_other() {
    let no_point = [&[2][..], &[0; 31]].concat(); // no x has y = 2
    let good = signed(1);
    let (key, message, signature) = good.as_slices();
    let bad_r = [&no_point[..], &signature[32..]].concat();
    let batch = [(&no_point[..], message, signature), (key, message, &bad_r[..]), (key, message, signature)];
    assert_eq!(Verifier::default().verify(&batch), [false, false, true]);
}

/// s and s + L satisfy the same equation; only the smaller one is a signature.
#[test]
fn a_response_of_the_group_order_or_more_is_false() {
    let mut shifted = signed(1);
    let mut carry = 0;
    for (byte, order) in shifted.signature[32..].iter_mut().zip(L) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    let mut order = signed(2);
    order.signature[32..].copy_from_slice(&L);
    let mut largest = signed(3);
    largest.signature[32..].fill(0xff);
    let batch = [shifted, order, largest, signed(4)];
    assert_eq!(verify(&Verifier::default(), &batch), [false, false, false, true]);
}

#[test]
fn a_batch_larger_than_any_group_is_judged_in_groups() {
    let verifier = Verifier::default();
    let bad = |place: usize| place == 0 || place == 4999 || (2000..2100).contains(&place);
    for _ in 0..2 {
        let verdicts = verify(&verifier, &some(5000, bad));
        assert!(verdicts.iter().enumerate().all(|(place, verdict)| *verdict != bad(place)));
    }
}

#[test]
fn bad_signatures_are_cheaper_or_hardly_dearer_than_alone() {
    for every in [1, 2, 3, 5, 10, 100] {
        let verifier = Verifier::default();
        let batch = some(1000, |place| place % every == 0);
        let batch: Vec<_> = batch.iter().map(Signed::as_slices).collect();
        let (_, work) = verifier.verify_counting(&batch);
        assert!(
            32 * work.sums + 16 * work.summed + 48 * work.alone <= 48 * 1000 * 17 / 16 + 1024,
            "{work:?}"
        );
    }
}

#[test]
fn threads_share_a_verifier() {
    let verifier = Verifier::default();
    std::thread::scope(|scope| {
        for every in [2, 3, 5, 1000] {
            let verifier = &verifier;
            scope.spawn(move || {
                for _ in 0..5 {
                    let verdicts = verify(verifier, &some(200, |place| place % every == 0));
                    assert!(
                        verdicts.iter().enumerate().all(|(place, verdict)| *verdict == (place % every != 0))
                    );
                }
            });
        }
    });
}
