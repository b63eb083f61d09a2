//! What attestream does for each record of a batch, in one call: verify Ed25519 signatures by ZIP 215
//! (<https://zips.z.cash/zip-0215>), open telemetry of the common shape, judge blocks of samples, digest Kafka
//! records.
//!
//! The verdict on each signature is the one that verifying it alone gives: [8][s]B = [8]R + [8][k]A, any
//! decodable encoding of A and R, s below the group order. Only the cost depends on the company it is in.
//!
//! `batch` is the way of a batch through the other files: `claim` decodes a signature, `keys` remembers
//! decoded keys, `pace` says how many are judged together, `equation` and `search` judge them.

#![forbid(unsafe_code)]

pub mod batch;
pub mod blocks;
pub mod claim;
pub mod digest;
pub mod equation;
pub mod keys;
pub mod pace;
pub mod search;
pub mod telemetry;

#[cfg(feature = "python")]
mod opener;
#[cfg(feature = "python")]
mod python;
