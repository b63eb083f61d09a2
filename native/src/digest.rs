//! Digests of Kafka records, as the leaves of the log hold them.

/// In place of a length: null, as against empty.
const ABSENT: [u8; 4] = [0xFF; 4];

/// Digests one record after another; keeps room for the longest.
#[derive(Default)]
pub struct Digester {
    buffer: Vec<u8>,
}

impl Digester {
    /// BLAKE3 of the digests of key and headers, and of the value: a proof can withhold the value, nobody can
    /// change a header. Every part has its length before it.
    pub fn digest<'a>(
        &mut self,
        key: Option<&[u8]>,
        headers: impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
        value: Option<&[u8]>,
    ) -> [u8; 32] {
        let buffer = &mut self.buffer;
        buffer.clear();
        push(buffer, key);
        buffer.extend(length(headers.len()));
        for (name, value) in headers {
            push(buffer, Some(name));
            push(buffer, value);
        }
        let of_key = blake3::hash(buffer);
        buffer.clear();
        push(buffer, value);
        let of_value = blake3::hash(buffer);
        buffer.clear();
        buffer.extend(of_key.as_bytes());
        buffer.extend(of_value.as_bytes());
        *blake3::hash(buffer).as_bytes()
    }
}

fn push(buffer: &mut Vec<u8>, part: Option<&[u8]>) {
    match part {
        None => buffer.extend(ABSENT),
        Some(data) => {
            buffer.extend(length(data.len()));
            buffer.extend(data);
        }
    }
}

/// No part of a Kafka record has 4 GiB.
fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}
