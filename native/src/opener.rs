//! Opens a batch of telemetry for Python: what is in it, what was signed, and its digest.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use crate::telemetry::{codes_of, read_envelope, read_telemetry};

/// So many DIDs and key ids, and lists of codes, are remembered; then it begins anew. Of a larger fleet that is
/// heard in turn none would be found. `Authenticate` keeps what it saw of as many devices.
const MOST_NAMES: usize = 1 << 17;
const MOST_SHAPES: usize = 1 << 12;

/// `device_id`, boot, sequence, time in us, codes, values as doubles of eight bytes with the lowest first,
/// key id, signature, the signed message, BLAKE3 of the payload.
type Opened<'py> = (
    Bound<'py, PyString>,
    u64,
    u64,
    i64,
    Bound<'py, PyTuple>,
    Bound<'py, PyBytes>,
    Bound<'py, PyString>,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
);

/// Opens envelopes of one kind and audience; remembers names and lists of codes, which recur, as objects.
#[pyclass]
pub struct Opener {
    envelope: Vec<u8>,
    telemetry: Vec<u8>,
    prefix: Vec<u8>,
    names: HashMap<String, Py<PyString>>,
    codes: HashMap<Vec<u8>, Py<PyTuple>>,
    message: Vec<u8>,
}

#[pymethods]
impl Opener {
    /// `envelope` and `telemetry` are what Avro's encoding of each begins with, `prefix` what a signed message
    /// begins with.
    #[new]
    fn new(envelope: &[u8], telemetry: &[u8], prefix: &[u8]) -> Self {
        Self {
            envelope: envelope.to_vec(),
            telemetry: telemetry.to_vec(),
            prefix: prefix.to_vec(),
            names: HashMap::new(),
            codes: HashMap::new(),
            message: Vec::new(),
        }
    }

    /// Open each value that holds telemetry of the common shape; None for all else.
    fn open<'py>(
        &mut self,
        py: Python<'py>,
        values: Vec<Option<Bound<'py, PyBytes>>>,
    ) -> PyResult<Vec<Option<Opened<'py>>>> {
        values
            .iter()
            .map(|value| value.as_ref().map_or(Ok(None), |value| self.open_one(py, value.as_bytes())))
            .collect()
    }
}

impl Opener {
    fn open_one<'py>(&mut self, py: Python<'py>, value: &[u8]) -> PyResult<Option<Opened<'py>>> {
        let Some(envelope) = read_envelope(value, &self.envelope) else { return Ok(None) };
        let Some(found) = read_telemetry(envelope.payload, &self.telemetry) else { return Ok(None) };
        let Some(codes) = self.codes(py, found.shape)? else { return Ok(None) };
        let message = &mut self.message;
        message.clear();
        message.extend(&self.prefix);
        message.extend(format!("{} ", envelope.payload.len()).as_bytes());
        message.extend(envelope.payload);
        let message = PyBytes::new(py, message);
        Ok(Some((
            self.name(py, found.device_id),
            found.boot,
            found.sequence,
            found.time_us,
            codes,
            PyBytes::new(py, found.values),
            self.name(py, envelope.key_id),
            PyBytes::new(py, envelope.signature),
            message,
            PyBytes::new(py, blake3::hash(envelope.payload).as_bytes()),
        )))
    }

    fn name<'py>(&mut self, py: Python<'py>, name: &str) -> Bound<'py, PyString> {
        if let Some(known) = self.names.get(name) {
            return known.bind(py).clone();
        }
        if self.names.len() >= MOST_NAMES {
            self.names.clear();
        }
        let made = PyString::new(py, name);
        self.names.insert(name.to_owned(), made.clone().unbind());
        made
    }

    fn codes<'py>(&mut self, py: Python<'py>, shape: &[u8]) -> PyResult<Option<Bound<'py, PyTuple>>> {
        if let Some(known) = self.codes.get(shape) {
            return Ok(Some(known.bind(py).clone()));
        }
        let Some(codes) = codes_of(shape) else { return Ok(None) };
        if self.codes.len() >= MOST_SHAPES {
            self.codes.clear();
        }
        let made = PyTuple::new(py, codes)?;
        self.codes.insert(shape.to_vec(), made.clone().unbind());
        Ok(Some(made))
    }
}
