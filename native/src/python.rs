//! The Python module: one call for each polled batch.

use std::sync::LazyLock;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyString};

use crate::batch::{Signed, Verifier};
use crate::blocks::judge_all;
use crate::digest::Digester;
use crate::opener::Opener;

static VERIFIER: LazyLock<Verifier> = LazyLock::new(Verifier::default);

type Bytes<'py> = Bound<'py, PyBytes>;
type Header<'py> = (Bound<'py, PyString>, Option<Bytes<'py>>);

/// Verify n signatures by ZIP 215, with the GIL released; item i says whether `signatures[i]` holds.
#[pyfunction]
fn verify_batch(
    py: Python<'_>,
    public_keys: Vec<Bytes<'_>>,
    messages: Vec<Bytes<'_>>,
    signatures: Vec<Bytes<'_>>,
) -> PyResult<Vec<bool>> {
    one_length([public_keys.len(), messages.len(), signatures.len()])?;
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

/// Digest n Kafka records: keys, headers as pairs of name and value, and values.
#[pyfunction]
fn record_digests<'py>(
    py: Python<'py>,
    keys: Vec<Option<Bytes<'py>>>,
    headers: Vec<Vec<Header<'py>>>,
    values: Vec<Option<Bytes<'py>>>,
) -> PyResult<Vec<Bytes<'py>>> {
    one_length([keys.len(), headers.len(), values.len()])?;
    let mut digester = Digester::default();
    let records = keys.iter().zip(&headers).zip(&values);
    records
        .map(|((key, headers), value)| {
            let names = headers.iter().map(|(name, _)| name.to_str()).collect::<PyResult<Vec<&str>>>()?;
            let parts = names.iter().zip(headers).map(|(name, (_, value))| (name.as_bytes(), bytes(value)));
            Ok(PyBytes::new(py, &digester.digest(bytes(key), parts, bytes(value))))
        })
        .collect()
}

/// Judge n blocks of one signal each; return what is known of each now, and the places of those that break a
/// rule, whose tracks stay. All are tables of doubles but `which`, which chooses a row of `thresholds` for
/// each block.
#[pyfunction]
fn judge_blocks<'py>(
    py: Python<'py>,
    tracks: PyBuffer<f64>,
    samples: PyBuffer<f64>,
    thresholds: PyBuffer<f64>,
    which: PyBuffer<i64>,
) -> PyResult<(Bytes<'py>, Vec<usize>)> {
    let (mut tracks, samples) = (tracks.to_vec(py)?, samples.to_vec(py)?);
    let (thresholds, which) = (thresholds.to_vec(py)?, which.to_vec(py)?);
    let breaking = py
        .detach(|| judge_all(&mut tracks, &samples, &thresholds, &which))
        .map_err(|wrong| PyValueError::new_err(wrong.to_string()))?;
    let known = PyBytes::new_with(py, size_of_val(&tracks[..]), |bytes| {
        let (places, _) = bytes.as_chunks_mut();
        places.iter_mut().zip(tracks).for_each(|(place, number)| *place = number.to_ne_bytes());
        Ok(())
    })?;
    Ok((known, breaking))
}

fn bytes<'a>(data: &'a Option<Bytes<'_>>) -> Option<&'a [u8]> {
    data.as_ref().map(|data| data.as_bytes())
}

fn one_length(lengths: [usize; 3]) -> PyResult<()> {
    let [first, second, third] = lengths;
    if first == second && second == third {
        return Ok(());
    }
    let text = format!(
        "a batch has one length: one sequence of {first}, {second} and {third} items is shorter than another"
    );
    Err(PyValueError::new_err(text))
}

/// The same bytes, readable without the GIL.
fn shared(items: Vec<Bytes<'_>>) -> Vec<PyBackedBytes> {
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

/// What takes a batch at once: signatures by ZIP 215, telemetry of the common shape, blocks of samples,
/// digests of records.
#[pymodule]
fn attestream_fast(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("BACKEND", backend())?;
    module.add_class::<Opener>()?;
    module.add_function(wrap_pyfunction!(judge_blocks, module)?)?;
    module.add_function(wrap_pyfunction!(record_digests, module)?)?;
    module.add_function(wrap_pyfunction!(verify_batch, module)?)
}
