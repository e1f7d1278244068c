//! The JSON header of a send. Texts stay slices of the header; only the properties, whose separators are control characters
//! and therefore always escaped, are written out into the scratch.

use std::ops::Range;

use super::{Fixed, Scratch, SendView, Texts, field_of, is_send};
use crate::command::HeaderFormat;
use crate::frame::Limits;
use crate::header::{SEND_FIELDS, SendField};
use crate::swar::find_json_special;

pub(super) fn read<'a>(
    header: &'a [u8],
    limits: &Limits,
    scratch: &'a mut Scratch,
) -> Option<SendView<'a>> {
    let mut found = Found::default();
    found.scan(header, limits, &mut scratch.0)?;
    if !is_send(found.fixed.code) || found.fixed.is_response() {
        return None;
    }
    let text = std::str::from_utf8(header).ok()?;
    let mut texts: Texts<'a> = [None; SEND_FIELDS];
    for (place, span) in texts.iter_mut().zip(found.fields) {
        if let Some(span) = span {
            *place = Some(text.get(span)?);
        }
    }
    let plain = texts.get(SendField::properties as usize).copied().flatten();
    let properties = match plain {
        Some(plain) if !found.is_unescaped => plain.as_bytes(),
        Some(_) => scratch.0.as_slice(),
        None => b"",
    };
    SendView::new(found.fixed, HeaderFormat::Json, &texts, properties)
}

/// What of a header has been read.
#[derive(Default)]
struct Found {
    fixed: Fixed,
    has_code: bool,
    has_fields: bool,
    fields: [Option<Range<usize>>; SEND_FIELDS],
    /// The properties are in the scratch.
    is_unescaped: bool,
}

impl Found {
    fn scan(&mut self, header: &[u8], limits: &Limits, scratch: &mut Vec<u8>) -> Option<()> {
        let mut scanner = Scanner {
            bytes: header,
            at: 0,
        };
        scanner.expect(b'{')?;
        let mut first = true;
        while scanner.member(&mut first)? {
            let name = scanner.plain_string()?;
            scanner.expect(b':')?;
            match header.get(name)? {
                b"code" => {
                    let code = scanner.number()?;
                    // The fields cannot be told apart without it, and most requests that are no send end here. A second
                    // code is nothing that a client sends.
                    if !is_send(code) || self.has_code || self.has_fields {
                        return None;
                    }
                    self.has_code = true;
                    self.fixed.code = code;
                }
                b"version" => self.fixed.version = scanner.number()?,
                b"opaque" => self.fixed.opaque = scanner.number()?,
                b"flag" => self.fixed.flag = scanner.number()?,
                b"language" | b"remark" | b"serializeTypeCurrentRPC" => {
                    scanner.plain_string()?;
                }
                b"extFields" => {
                    if !self.has_code || self.has_fields {
                        return None;
                    }
                    self.has_fields = true;
                    self.scan_fields(&mut scanner, limits, scratch)?;
                }
                _ => return None,
            }
        }
        scanner.next_token().is_none().then_some(())
    }

    fn scan_fields(
        &mut self,
        scanner: &mut Scanner<'_>,
        limits: &Limits,
        scratch: &mut Vec<u8>,
    ) -> Option<()> {
        scanner.expect(b'{')?;
        let mut first = true;
        let mut count = 0;
        while scanner.member(&mut first)? {
            let name = scanner.plain_string()?;
            scanner.expect(b':')?;
            count += 1;
            let Some(field) = field_of(self.fixed.code, scanner.bytes.get(name)?) else {
                scanner.plain_string()?;
                continue;
            };
            let span = if matches!(field, SendField::properties) {
                let start = scanner.at;
                if let Some(span) = scanner.plain_string() {
                    self.is_unescaped = false;
                    span
                } else {
                    scanner.at = start;
                    self.is_unescaped = true;
                    scanner.escaped_string(scratch)?
                }
            } else {
                scanner.plain_string()?
            };
            *self.fields.get_mut(field as usize)? = Some(span);
        }
        (count <= limits.ext_fields_max).then_some(())
    }
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    #[inline]
    fn next_token(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    #[inline]
    fn expect(&mut self, token: u8) -> Option<()> {
        if self.next_token()? != token {
            return None;
        }
        self.at += 1;
        Some(())
    }

    /// Steps to the next member of an object; `false` behind its last.
    #[inline]
    fn member(&mut self, first: &mut bool) -> Option<bool> {
        match self.next_token()? {
            b'}' => {
                self.at += 1;
                Some(false)
            }
            b',' if !*first => {
                self.at += 1;
                Some(true)
            }
            _ if *first => {
                *first = false;
                Some(true)
            }
            _ => None,
        }
    }

    /// An i32 without fraction, exponent or needless zeros.
    fn number(&mut self) -> Option<i32> {
        let is_negative = self.next_token()? == b'-';
        if is_negative {
            self.at += 1;
        }
        let start = self.at;
        let mut number = 0_i64;
        while let Some(&digit @ b'0'..=b'9') = self.bytes.get(self.at) {
            number = number * 10 + i64::from(digit - b'0');
            self.at += 1;
            if self.at - start > 10 {
                return None;
            }
        }
        let digits = self.bytes.get(start..self.at)?;
        let is_odd = match digits.first()? {
            b'0' => digits.len() > 1 || is_negative,
            _ => false,
        };
        if is_odd || matches!(self.bytes.get(self.at), Some(b'.' | b'e' | b'E')) {
            return None;
        }
        i32::try_from(if is_negative { -number } else { number }).ok()
    }

    /// Where the inside of a string without escapes lies.
    #[inline]
    fn plain_string(&mut self) -> Option<Range<usize>> {
        self.expect(b'"')?;
        let start = self.at;
        let end = start + find_json_special(self.bytes.get(start..)?)?;
        if self.bytes.get(end) != Some(&b'"') {
            return None;
        }
        self.at = end + 1;
        Some(start..end)
    }

    /// A string with escapes, written out without them; returns where its inside lies as it stands. Escapes that are more
    /// than one ASCII letter are left to others.
    fn escaped_string(&mut self, out: &mut Vec<u8>) -> Option<Range<usize>> {
        self.expect(b'"')?;
        out.clear();
        let start = self.at;
        loop {
            let rest = self.bytes.get(self.at..)?;
            let special = find_json_special(rest)?;
            let (run, tail) = rest.split_at_checked(special)?;
            out.extend_from_slice(run);
            self.at += special;
            match tail {
                [b'"', ..] => {
                    let end = self.at;
                    self.at += 1;
                    return Some(start..end);
                }
                [b'\\', b'u', b'0', b'0', high, low, ..] => {
                    let byte = hex(*high)? << 4 | hex(*low)?;
                    if byte >= 0x80 {
                        return None;
                    }
                    out.push(byte);
                    self.at += 6;
                }
                [b'\\', letter, ..] => {
                    out.push(match letter {
                        b'"' | b'\\' | b'/' => *letter,
                        b'b' => 8,
                        b'f' => 12,
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        _ => return None,
                    });
                    self.at += 2;
                }
                _ => return None,
            }
        }
    }
}

const fn hex(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        b'A'..=b'F' => Some(letter - b'A' + 10),
        _ => None,
    }
}
