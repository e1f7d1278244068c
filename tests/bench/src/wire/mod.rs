//! The generator's own way of speaking the protocol: frames that are built once and patched, answers that are scanned in place.
//!
//! A generator that shares two cores with the broker it measures must cost next to nothing, so it allocates nothing per message
//! and decodes no more of an answer than it checks. Its frames are held against `rocket-protocol`'s decoder by tests.

pub mod answer;
pub mod call;
pub mod frame;
pub mod pull;
pub mod socket;

use rocket_protocol::command::HeaderFormat;

/// Header type in the highest byte of the header word.
pub(crate) const COMPACT: u8 = 1;

/// Length word and header word.
pub(crate) const PREFIX_BYTES: usize = 8;

/// Opaques are this number plus 30 bits, so that they have ten digits and can be patched in JSON.
pub(crate) const OPAQUE_BASE: i32 = 1_000_000_000;

/// The version that requests say they come from: `V5_4_0` of `MQVersion.java`, as in the frames of Java's client 5.4.0.
const CLIENT_VERSION: i16 = 493;

/// Writes heads of requests in either form and remembers where fields begin.
#[derive(Debug)]
pub(crate) struct Head {
    format: HeaderFormat,
    bytes: Vec<u8>,
    fields: usize,
    fields_at: usize,
    code: i16,
    opaque_at: usize,
}

impl Head {
    pub(crate) fn new(format: HeaderFormat, code: i16) -> Self {
        let mut head = Self {
            format,
            bytes: vec![0; PREFIX_BYTES],
            fields: 0,
            fields_at: 0,
            code,
            opaque_at: 0,
        };
        head.begin();
        head
    }

    /// Starts over in the same buffer.
    pub(crate) fn restart(&mut self) {
        self.bytes.truncate(PREFIX_BYTES);
        self.fields = 0;
        self.begin();
    }

    fn begin(&mut self) {
        match self.format {
            HeaderFormat::Json => {
                self.bytes.extend_from_slice(b"{\"code\":");
                self.bytes
                    .extend_from_slice(self.code.to_string().as_bytes());
                self.bytes.extend_from_slice(b",\"extFields\":{");
            }
            HeaderFormat::Compact => {
                self.bytes.extend_from_slice(&self.code.to_be_bytes());
                self.bytes.push(0); // JAVA
                self.bytes.extend_from_slice(&CLIENT_VERSION.to_be_bytes());
                self.opaque_at = self.bytes.len();
                self.bytes.extend_from_slice(&OPAQUE_BASE.to_be_bytes());
                self.bytes.extend_from_slice(&[0; 4]); // flag
                self.bytes.extend_from_slice(&[0; 4]); // no remark
                self.fields_at = self.bytes.len();
                self.bytes.extend_from_slice(&[0; 4]);
            }
        }
    }

    /// Adds one ext field; returns where its value begins. `\u{1}` and `\u{2}` are escaped as Java's JSON writer does.
    pub(crate) fn field(&mut self, name: &str, value: &str) -> usize {
        let at;
        match self.format {
            HeaderFormat::Json => {
                if self.fields > 0 {
                    self.bytes.push(b',');
                }
                self.bytes.push(b'"');
                self.bytes.extend_from_slice(name.as_bytes());
                self.bytes.extend_from_slice(b"\":\"");
                at = self.bytes.len();
                for byte in value.bytes() {
                    match byte {
                        1 => self.bytes.extend_from_slice(b"\\u0001"),
                        2 => self.bytes.extend_from_slice(b"\\u0002"),
                        plain => self.bytes.push(plain),
                    }
                }
                self.bytes.push(b'"');
            }
            HeaderFormat::Compact => {
                let name_len = u16::try_from(name.len()).unwrap_or(u16::MAX);
                let value_len = u32::try_from(value.len()).unwrap_or(u32::MAX);
                self.bytes.extend_from_slice(&name_len.to_be_bytes());
                self.bytes.extend_from_slice(name.as_bytes());
                self.bytes.extend_from_slice(&value_len.to_be_bytes());
                at = self.bytes.len();
                self.bytes.extend_from_slice(value.as_bytes());
            }
        }
        self.fields += 1;
        at
    }

    /// Closes the header and writes the length words for a body of `body_bytes`; the frame's bytes up to the body, and where
    /// its opaque lies.
    pub(crate) fn finish(&mut self, body_bytes: usize) -> (&[u8], usize) {
        match self.format {
            HeaderFormat::Json => {
                self.bytes
                    .extend_from_slice(b"},\"flag\":0,\"language\":\"JAVA\",\"opaque\":");
                self.opaque_at = self.bytes.len();
                self.bytes
                    .extend_from_slice(OPAQUE_BASE.to_string().as_bytes());
                self.bytes
                    .extend_from_slice(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
                self.bytes
                    .extend_from_slice(CLIENT_VERSION.to_string().as_bytes());
                self.bytes.push(b'}');
            }
            HeaderFormat::Compact => {
                let len = self.bytes.len() - self.fields_at - 4;
                put(&mut self.bytes, self.fields_at, len);
            }
        }
        let header = self.bytes.len() - PREFIX_BYTES;
        put(&mut self.bytes, 0, 4 + header + body_bytes);
        put(&mut self.bytes, 4, header);
        if let (HeaderFormat::Compact, Some(kind)) = (self.format, self.bytes.get_mut(4)) {
            *kind = COMPACT;
        }
        (&self.bytes, self.opaque_at)
    }
}

fn put(bytes: &mut [u8], at: usize, number: usize) {
    let number = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    patch(bytes, at, &number);
}

/// Overwrites bytes of a frame.
///
/// # Panics
/// Beyond the frame's end: places come from the frame's own building.
#[expect(
    clippy::indexing_slicing,
    reason = "documented: places come from the frame's own building"
)]
pub(crate) fn patch(bytes: &mut [u8], at: usize, with: &[u8]) {
    bytes[at..at + with.len()].copy_from_slice(with);
}

/// Overwrites `digits` decimal digits at `at`.
pub(crate) fn patch_decimal(bytes: &mut [u8], at: usize, digits: usize, mut number: u64) {
    for byte in bytes
        .get_mut(at..at + digits)
        .unwrap_or_default()
        .iter_mut()
        .rev()
    {
        *byte = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Overwrites `digits` hexadecimal digits (capitals) at `at`.
pub(crate) fn patch_hex(bytes: &mut [u8], at: usize, digits: usize, mut number: u64) {
    for byte in bytes
        .get_mut(at..at + digits)
        .unwrap_or_default()
        .iter_mut()
        .rev()
    {
        let nibble = (number & 15) as u8;
        *byte = if nibble < 10 {
            b'0' + nibble
        } else {
            b'A' + nibble - 10
        };
        number >>= 4;
    }
}

/// Writes an opaque where [`Head::finish`] said that it lies.
pub(crate) fn patch_opaque(bytes: &mut [u8], at: usize, format: HeaderFormat, opaque: i32) {
    match format {
        HeaderFormat::Json => patch_decimal(bytes, at, 10, u64::from(opaque.unsigned_abs())),
        HeaderFormat::Compact => patch(bytes, at, &opaque.to_be_bytes()),
    }
}
