//! The compact header of a send; its bytes are drawn in `frame/compact.rs`.

use super::{Fixed, SendView, Texts, field_of, is_send};
use crate::command::HeaderFormat;
use crate::frame::Limits;
use crate::header::{SEND_FIELDS, SendField};

pub(super) fn read<'a>(header: &'a [u8], limits: &Limits) -> Option<SendView<'a>> {
    let mut rest = header;
    let code = i32::from(i16::from_be_bytes(array(&mut rest)?));
    if !is_send(code) {
        return None;
    }
    let _language: [u8; 1] = array(&mut rest)?;
    let fixed = Fixed {
        code,
        version: i32::from(i16::from_be_bytes(array(&mut rest)?)),
        opaque: i32::from_be_bytes(array(&mut rest)?),
        flag: i32::from_be_bytes(array(&mut rest)?),
    };
    let remark = block(&mut rest)?;
    if fixed.is_response() || !remark.is_empty() {
        return None;
    }
    let mut fields = block(&mut rest)?;
    let mut texts: Texts<'a> = [None; SEND_FIELDS];
    let mut count = 0;
    while !fields.is_empty() {
        let key_len = usize::try_from(i16::from_be_bytes(array(&mut fields)?)).ok()?;
        let key = take(&mut fields, key_len)?;
        let value = std::str::from_utf8(block(&mut fields)?).ok()?;
        count += 1;
        match field_of(code, key) {
            Some(field) => *texts.get_mut(field as usize)? = Some(value),
            None => {
                std::str::from_utf8(key).ok()?;
            }
        }
    }
    if count > limits.ext_fields_max {
        return None;
    }
    let properties = texts.get(SendField::properties as usize).copied().flatten();
    SendView::new(
        fixed,
        HeaderFormat::Compact,
        &texts,
        properties.unwrap_or_default().as_bytes(),
    )
}

fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (array, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*array)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(taken)
}

/// The bytes that follow an i32 length.
fn block<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = i32::from_be_bytes(array(rest)?);
    take(rest, usize::try_from(len).ok()?)
}
