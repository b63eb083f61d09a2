//! The crate without Python. Its verdicts are compared with the wheel's in `tests/native`.

#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

mod batch;
mod equation;
mod keys;
mod kit;
mod pace;
mod search;
