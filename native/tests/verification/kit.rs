//! Signers, and claims that hold or do not.

use attestream_fast::claim::{Claim, Key};
use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use sha2::{Digest, Sha512};

pub const MESSAGE: &[u8] = b"heart rate 62";

/// Public key, message and signature, as a batch has them.
#[derive(Clone)]
pub struct Signed {
    pub key: [u8; 32],
    pub message: Vec<u8>,
    pub signature: [u8; 64],
}

impl Signed {
    pub fn as_slices(&self) -> (&[u8], &[u8], &[u8]) {
        (&self.key, &self.message, &self.signature)
    }

    pub fn broken(mut self) -> Self {
        self.message.push(b'!');
        self
    }

    pub fn claim(&self, place: usize) -> Claim {
        let key = Key { encoded: self.key, point: CompressedEdwardsY(self.key).decompress().unwrap() };
        Claim::open(place, key, &self.message, &self.signature).unwrap()
    }
}

pub fn scalar(label: &str, number: u64) -> Scalar {
    let digest = Sha512::new().chain_update(label).chain_update(number.to_le_bytes()).finalize();
    Scalar::from_bytes_mod_order_wide(&digest.into())
}

/// What signer `number` signs, with `torsion_a` and `torsion_r` (0 to 7) added to key and commitment.
pub fn signed_with_torsion(number: u64, torsion_a: usize, torsion_r: usize) -> Signed {
    let (secret, nonce) = (scalar("secret", number), scalar("nonce", number));
    let key = (EdwardsPoint::mul_base(&secret) + EIGHT_TORSION[torsion_a]).compress().0;
    let r = (EdwardsPoint::mul_base(&nonce) + EIGHT_TORSION[torsion_r]).compress().0;
    let digest = Sha512::new().chain_update(r).chain_update(key).chain_update(MESSAGE).finalize();
    let s = nonce + Scalar::from_bytes_mod_order_wide(&digest.into()) * secret;
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&r);
    signature[32..].copy_from_slice(s.as_bytes());
    Signed { key, message: MESSAGE.to_vec(), signature }
}

pub fn signed(number: u64) -> Signed {
    signed_with_torsion(number, 0, 0)
}

/// `count` signatures, of which those at `bad` do not hold.
pub fn some(count: usize, bad: impl Fn(usize) -> bool) -> Vec<Signed> {
    (0..count)
        .map(|place| {
            let one = signed(place as u64);
            if bad(place) { one.broken() } else { one }
        })
        .collect()
}

pub fn claims(count: usize, bad: impl Fn(usize) -> bool) -> Vec<Claim> {
    some(count, bad).iter().enumerate().map(|(place, one)| one.claim(place)).collect()
}

/// A series of numbers that looks random and is always the same.
pub fn shuffled(step: &mut u64) -> u64 {
    *step ^= *step << 13;
    *step ^= *step >> 7;
    *step ^= *step << 17;
    *step
}
