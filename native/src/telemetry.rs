//! Envelopes and telemetry of the common shape, read where they lie.
//!
//! Each function returns what any Avro decoder would, or None: then another reads the bytes, and says what is
//! wrong with them if anything is. So nothing is taken here that would not be taken there: other shapes, other
//! spellings of a number, anything cut short or too long are all None.

/// Bytes of the marker and fingerprint that Avro's single-object encoding begins with.
pub const HEADER_BYTES: usize = 10;

const SIGNATURE_BYTES: usize = 64;
/// Ed25519, and that so many bytes follow.
const SIGNATURE: [u8; 3] = [0x00, 0x80, 0x01];
/// Of a byte of a number: another follows.
const MORE: u8 = 0x80;
/// A boot or sequence of 2^62, the largest, as it is written.
const MOST_WRITTEN: u64 = 2 << 62;

/// An envelope with one signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// What was signed, in Avro.
    pub payload: &'a [u8],
    /// Which of the device's keys signed.
    pub key_id: &'a str,
    /// Ed25519's 64 bytes.
    pub signature: &'a [u8],
}

/// A telemetry event that breaks no rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Telemetry<'a> {
    /// The device's DID.
    pub device_id: &'a str,
    /// At least 1.
    pub boot: u64,
    /// At least 1.
    pub sequence: u64,
    /// The device's own time.
    pub time_us: i64,
    /// Its codes as they are written, and the count of its values: see `codes_of`.
    pub shape: &'a [u8],
    /// Its values, all finite: doubles of eight bytes, the lowest first.
    pub values: &'a [u8],
}

/// Read an envelope that begins with `header`.
pub fn read_envelope<'a>(value: &'a [u8], header: &[u8]) -> Option<Envelope<'a>> {
    let rest = value.strip_prefix(header)?;
    let (&low, mut rest) = rest.split_first()?;
    let mut size = usize::from(low);
    if low >= MORE {
        let (&high, after) = rest.split_first()?;
        if high == 0 || high >= MORE {
            return None;
        }
        (size, rest) = (usize::from(low & 0x7F) | usize::from(high) << 7, after);
    }
    if size & 1 == 1 {
        return None;
    }
    let (payload, rest) = rest.split_at_checked(size >> 1)?;
    // One signature follows: a key id whose length is one byte, 64 bytes, and the end of the array.
    let rest = rest.strip_prefix(&[2])?;
    let (&size, rest) = rest.split_first()?;
    if size & 1 == 1 || size >= MORE {
        return None;
    }
    let (key_id, rest) = rest.split_at_checked(usize::from(size >> 1))?;
    let rest = rest.strip_prefix(&SIGNATURE)?;
    let (signature, rest) = rest.split_at_checked(SIGNATURE_BYTES)?;
    let key_id = str::from_utf8(key_id).ok()?;
    (rest == [0]).then_some(Envelope { payload, key_id, signature })
}

/// Read a telemetry event that begins with `header`.
pub fn read_telemetry<'a>(payload: &'a [u8], header: &[u8]) -> Option<Telemetry<'a>> {
    let rest = payload.strip_prefix(header)?;
    let (&size, rest) = rest.split_first()?;
    if size & 1 == 1 || size >= MORE {
        return None;
    }
    let (name, rest) = rest.split_at_checked(usize::from(size >> 1))?;
    let device_id = str::from_utf8(name).ok().filter(|name| name.starts_with("did:"))?;
    let (boot, rest) = counter(rest)?;
    let (sequence, rest) = counter(rest)?;
    let (time, rest) = number(rest)?;
    let time_us = (time >> 1).cast_signed() ^ -(time & 1).cast_signed();
    // As many values as codes stand at the end, and the end of their array.
    let (&0, rest) = rest.split_last()? else { return None };
    let count = usize::from(*rest.first()? >> 1);
    let (shape, values) = rest.split_at_checked(rest.len().checked_sub(8 * count)?)?;
    let (doubles, _) = values.as_chunks::<8>();
    let sum = doubles.iter().map(|each| f64::from_le_bytes(*each)).sum::<f64>();
    let are_finite = sum.is_finite() && doubles.iter().all(|each| f64::from_le_bytes(*each).is_finite());
    are_finite.then_some(Telemetry { device_id, boot, sequence, time_us, shape, values })
}

/// Read one block of codes, its end, and the count of one block of as many values.
pub fn codes_of(shape: &[u8]) -> Option<Vec<u32>> {
    let (&count, mut rest) = shape.split_first()?;
    if count & 1 == 1 || count == 0 || count >= MORE {
        return None;
    }
    let mut codes = Vec::with_capacity(usize::from(count >> 1));
    for _ in 0..count >> 1 {
        let (written, after) = number(rest)?;
        let code = u32::try_from(written).ok().filter(|code| code & 1 == 0)?;
        codes.push(code >> 1);
        rest = after;
    }
    (rest == [0, count]).then_some(codes)
}

/// Read a boot or sequence.
fn counter(data: &[u8]) -> Option<(u64, &[u8])> {
    let (written, rest) = number(data)?;
    let is_counter = written & 1 == 0 && 0 < written && written <= MOST_WRITTEN;
    is_counter.then_some((written >> 1, rest))
}

/// Read a number as it is written, before its sign is taken from its lowest bit. One of 63 bits and more, or
/// spelled with more bytes than it takes, is None.
fn number(data: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (at, &byte) in data.iter().enumerate().take(9) {
        number |= u64::from(byte & 0x7F) << (7 * at);
        if byte < MORE {
            return (at == 0 || byte != 0).then_some((number, data.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{HEADER_BYTES, codes_of, number, read_envelope, read_telemetry};

    const HEADER: [u8; HEADER_BYTES] = [0xC3, 1, 1, 2, 3, 4, 5, 6, 7, 8];

    fn payload() -> Vec<u8> {
        let mut made = HEADER.to_vec();
        made.push(2 * 9);
        made.extend(b"did:key:z");
        made.extend([2, 4, 6]); // boot 1, sequence 2, and a time of 3
        made.extend([4, 10, 0x80, 1, 0, 4]); // codes 5 and 64, then two values
        made.extend(1.5_f64.to_le_bytes());
        made.extend((-2.0_f64).to_le_bytes());
        made.push(0);
        made
    }

    fn envelope() -> Vec<u8> {
        let mut made = HEADER.to_vec();
        let inner = payload();
        made.push(u8::try_from(2 * inner.len()).unwrap_or(0));
        made.extend(inner);
        made.extend([2, 4, b'k', b'1', 0, 0x80, 1]);
        made.extend([7; 64]);
        made.push(0);
        made
    }

    #[test]
    fn what_is_of_the_common_shape_is_read() {
        let made = envelope();
        let found = read_envelope(&made, &HEADER).map(|each| (each.payload, each.key_id, each.signature));
        assert_eq!(found, Some((&payload()[..], "k1", &[7; 64][..])));
        let inner = payload();
        let read = read_telemetry(&inner, &HEADER);
        let numbers = read.map(|each| (each.device_id, each.boot, each.sequence, each.time_us));
        assert_eq!(numbers, Some(("did:key:z", 1, 2, 3)));
        assert_eq!(read.and_then(|each| codes_of(each.shape)), Some(vec![5, 64]));
        assert_eq!(read.map(|each| each.values.len()), Some(16));
    }

    #[test]
    fn whatever_is_cut_off_or_added_is_none() {
        let (whole, inner) = (envelope(), payload());
        for end in 0..whole.len() {
            assert_eq!(read_envelope(whole.get(..end).unwrap_or(&[]), &HEADER), None, "{end}");
        }
        for end in 0..inner.len() {
            let found = read_telemetry(inner.get(..end).unwrap_or(&[]), &HEADER);
            assert_eq!(found.and_then(|each| codes_of(each.shape)), None, "{end}");
        }
        assert_eq!(read_envelope(&[&whole[..], &[0]].concat(), &HEADER), None);
        let longer = [&inner[..], &[0]].concat();
        assert_eq!(read_telemetry(&longer, &HEADER).and_then(|each| codes_of(each.shape)), None);
    }

    #[test]
    fn a_value_that_is_no_number_is_none() {
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut made = payload();
            made.truncate(made.len() - 9);
            made.extend(odd.to_le_bytes());
            made.push(0);
            assert_eq!(read_telemetry(&made, &HEADER), None);
        }
    }

    #[test]
    fn numbers_have_one_spelling() {
        assert_eq!(number(&[0x7F, 9]), Some((127, &[9][..])));
        assert_eq!(number(&[0x80, 1]), Some((128, &[][..])));
        assert_eq!(number(&[0]), Some((0, &[][..])));
        assert_eq!(number(&[0x80, 0]), None);
        assert_eq!(number(&[0x80]), None);
        assert_eq!(
            number(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]),
            Some((u64::MAX >> 1, &[][..]))
        );
        assert_eq!(number(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1]), None);
    }
}
