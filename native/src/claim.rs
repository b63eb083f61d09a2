//! One signature, decoded: the numbers that its equation speaks of.

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use sha2::{Digest, Sha512};

/// Bytes of an encoded public key.
pub const PUBLIC_KEY_BYTES: usize = 32;

/// A public key as it was encoded, and the point that it encodes.
#[derive(Clone, Copy)]
pub struct Key {
    /// What was hashed with the message: ZIP 215 takes several encodings of some points, each as its own
    /// key.
    pub encoded: [u8; PUBLIC_KEY_BYTES],
    /// The point A.
    pub point: EdwardsPoint,
}

/// "`s` signs, under `key`": true iff [8](R + [k]A - [s]B) is the identity.
pub struct Claim {
    /// Its place in the caller's batch.
    pub place: usize,
    /// The signer's key, A.
    pub key: Key,
    /// The commitment, R.
    pub r: EdwardsPoint,
    /// The response, s.
    pub s: Scalar,
    /// The challenge, k = SHA-512(R, A, message).
    pub k: Scalar,
    /// Its coefficient in sums over several claims; drawn for the group that it is judged in.
    pub z: Scalar,
    /// The verdict; false until it was proven.
    pub holds: bool,
}

impl Claim {
    /// Decode a signature; None where no key could make it a valid one.
    pub fn open(place: usize, key: Key, message: &[u8], signature: &[u8]) -> Option<Self> {
        let (r_bytes, s_bytes) = signature.split_first_chunk::<32>()?;
        let s_bytes: [u8; 32] = s_bytes.try_into().ok()?;
        let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(s_bytes))?;
        // Takes y of the field's order and more, and a sign bit where x is 0, as ZIP 215 wants it.
        let r = CompressedEdwardsY(*r_bytes).decompress()?;
        let digest =
            Sha512::new().chain_update(r_bytes).chain_update(key.encoded).chain_update(message).finalize();
        let k = Scalar::from_bytes_mod_order_wide(&digest.into());
        Some(Self { place, key, r, s, k, z: Scalar::ZERO, holds: false })
    }

    /// The equation of this claim only.
    pub fn holds_alone(&self) -> bool {
        let expected = EdwardsPoint::vartime_double_scalar_mul_basepoint(&self.k, &-self.key.point, &self.s);
        vanishes(&(self.r - expected))
    }
}

/// Whether a left side of the cofactored equation is the identity once it is multiplied by 8.
pub fn vanishes(side: &EdwardsPoint) -> bool {
    side.mul_by_cofactor().is_identity()
}
