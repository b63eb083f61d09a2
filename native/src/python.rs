//! The Python module: one call for each polled batch.

use std::sync::LazyLock;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::batch::{Signed, Verifier};

static VERIFIER: LazyLock<Verifier> = LazyLock::new(Verifier::default);

/// Verify n signatures by ZIP 215, with the GIL released; item i says whether `signatures[i]` holds.
#[pyfunction]
fn verify_batch(
    py: Python<'_>,
    public_keys: Vec<Bound<'_, PyBytes>>,
    messages: Vec<Bound<'_, PyBytes>>,
    signatures: Vec<Bound<'_, PyBytes>>,
) -> PyResult<Vec<bool>> {
    let lengths = (public_keys.len(), messages.len(), signatures.len());
    if lengths.0 != lengths.1 || lengths.1 != lengths.2 {
        let text = format!(
            "a batch has one length: one sequence of {}, {} and {} items is shorter than another",
            lengths.0, lengths.1, lengths.2
        );
        return Err(PyValueError::new_err(text));
    }
    let (public_keys, messages, signatures) = (shared(public_keys), shared(messages), shared(signatures));
    Ok(py.detach(|| {
        let batch: Vec<Signed<'_>> = public_keys
            .iter()
            .zip(&messages)
            .zip(&signatures)
            .map(|((key, message), signature)| (&key[..], &message[..], &signature[..]))
            .collect();
        VERIFIER.verify(&batch)
    }))
}

/// The same bytes, readable without the GIL.
fn shared(items: Vec<Bound<'_, PyBytes>>) -> Vec<PyBackedBytes> {
    items.into_iter().map(PyBackedBytes::from).collect()
}

/// What curve25519-dalek's own run-time choice comes to here.
fn backend() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        let has_avx512 = is_x86_feature_detected!("avx512ifma") && is_x86_feature_detected!("avx512vl");
        if cfg!(curve25519_dalek_backend = "avx512") && has_avx512 {
            return "avx512ifma";
        }
        if is_x86_feature_detected!("avx2") {
            return "avx2";
        }
    }
    "serial"
}

/// Batch verification of Ed25519 signatures by ZIP 215.
#[pymodule]
fn attestream_fast(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("BACKEND", backend())?;
    module.add_function(wrap_pyfunction!(verify_batch, module)?)
}
