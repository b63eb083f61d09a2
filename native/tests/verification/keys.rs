//! Keys are decoded once, remembered within bounds, and mean the same ever after.

use attestream_fast::keys::{Keys, PLACES};
use curve25519_dalek::edwards::CompressedEdwardsY;

use crate::kit::signed;

fn counted(number: u64) -> [u8; 32] {
    let mut raw = [0; 32];
    raw[..8].copy_from_slice(&number.to_le_bytes());
    raw
}

#[test]
fn a_key_decodes_as_the_curve_says_the_first_time_and_later() {
    let mut keys = Keys::default();
    for _ in 0..3 {
        for number in 0..200 {
            let raw = counted(number);
            let expected = CompressedEdwardsY(raw).decompress();
            assert_eq!(keys.decode(&raw).map(|key| key.point), expected);
            assert!(keys.decode(&raw).is_none_or(|key| key.encoded == raw));
        }
    }
    assert_eq!(keys.len(), 200); // with those that are no points
}

#[test]
fn a_key_of_a_wrong_length_is_none_and_takes_no_place() {
    let mut keys = Keys::default();
    let key = signed(1).key;
    for raw in [&[][..], &key[..31], &[&key[..], &[0]].concat(), &[0; 1000]] {
        assert!(keys.decode(raw).is_none());
    }
    assert!(keys.is_empty());
}

#[test]
fn a_flood_of_keys_takes_no_more_than_its_places_and_changes_no_answer() {
    let mut keys = Keys::with_places(50);
    let ours = signed(1).key;
    for number in 0..5_000 {
        keys.decode(&counted(number));
        assert!(keys.len() <= 50);
        assert_eq!(keys.decode(&ours).map(|key| key.point), CompressedEdwardsY(ours).decompress());
    }
    assert_eq!(keys.len(), 50);
}

#[test]
fn the_cache_holds_a_fleet_of_a_hundred_thousand() {
    const { assert!(PLACES > 100_000 && PLACES < 200_000) };
}

#[test]
fn two_encodings_of_a_point_are_two_keys() {
    let (canonical, other) = (counted(1), {
        let mut p_plus_1 = [0xff; 32]; // y = 2^255 - 18, which is 1
        (p_plus_1[0], p_plus_1[31]) = (0xee, 0x7f);
        p_plus_1
    });
    let mut keys = Keys::default();
    let (one, two) = (keys.decode(&canonical).unwrap(), keys.decode(&other).unwrap());
    assert_eq!(one.point, two.point);
    assert_ne!(one.encoded, two.encoded);
}
