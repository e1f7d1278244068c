//! The body of SEND_BATCH_MESSAGE: messages back to back, all for one queue.
//!
//! ```text
//! total i32 · magic i32 (0) · body CRC i32 (0) · flag i32 · body length i32 · body · properties length i16 · properties
//! ```

use bytes::{Buf, BufMut, Bytes};
use thiserror::Error;

/// Bytes of a message with empty body and properties.
const FIXED_BYTES: usize = 4 + 4 + 4 + 4 + 4 + 2;

/// Why a batch cannot be read. Answer 13 (`MESSAGE_ILLEGAL`); nothing of it was stored.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BatchError {
    /// The batch ends inside a message.
    #[error("the batch ends inside message {index}")]
    Torn {
        /// Which message of the batch, from 0.
        index: usize,
    },
    /// A message's own lengths do not fit in each other.
    #[error("the lengths of message {index} contradict each other")]
    BadLength {
        /// Which message of the batch, from 0.
        index: usize,
    },
}

/// One message of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchMessage {
    /// The user's own number.
    pub flag: i32,
    /// The body.
    pub body: Bytes,
    /// The properties string.
    pub properties: Bytes,
}

impl From<BatchView<'_>> for BatchMessage {
    fn from(view: BatchView<'_>) -> Self {
        Self {
            flag: view.flag,
            body: Bytes::copy_from_slice(view.body),
            properties: Bytes::copy_from_slice(view.properties),
        }
    }
}

impl BatchMessage {
    /// Appends the message in the batch's form.
    ///
    /// # Panics
    /// When the body or the properties are longer than their length fields can say.
    #[expect(
        clippy::expect_used,
        reason = "documented: the caller keeps to the message's bounds"
    )]
    pub fn encode(&self, out: &mut impl BufMut) {
        let length = |len: usize| i32::try_from(len).expect("a body within the message bound");
        out.put_i32(length(
            FIXED_BYTES + self.body.len() + self.properties.len(),
        ));
        out.put_i32(0);
        out.put_i32(0);
        out.put_i32(self.flag);
        out.put_i32(length(self.body.len()));
        out.put_slice(&self.body);
        out.put_i16(i16::try_from(self.properties.len()).expect("properties within 32767 bytes"));
        out.put_slice(&self.properties);
    }
}

/// One message of a batch that borrows the batch's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchView<'a> {
    /// The user's own number.
    pub flag: i32,
    /// The body.
    pub body: &'a [u8],
    /// The properties string.
    pub properties: &'a [u8],
}

/// Reads the messages of a batch one after another; ends after the first error.
pub const fn views(batch: &[u8]) -> Views<'_> {
    Views {
        rest: batch,
        index: 0,
    }
}

/// See [`views`].
#[derive(Debug, Clone)]
pub struct Views<'a> {
    rest: &'a [u8],
    index: usize,
}

impl<'a> Iterator for Views<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let message = self.read();
        self.index += 1;
        if message.is_err() {
            self.rest = &[];
        }
        Some(message)
    }
}

impl<'a> Views<'a> {
    fn read(&mut self) -> Result<BatchView<'a>, BatchError> {
        let index = self.index;
        let torn = || BatchError::Torn { index };
        let bad_length = || BatchError::BadLength { index };
        let total = self.rest.try_get_i32().map_err(|_| torn())?;
        let total = usize::try_from(total)
            .ok()
            .filter(|&total| total >= FIXED_BYTES)
            .ok_or_else(bad_length)?;
        let (mut message, rest) = self.rest.split_at_checked(total - 4).ok_or_else(torn)?;
        self.rest = rest;
        message.advance(8);
        let flag = message.get_i32();
        let body = usize::try_from(message.get_i32()).ok();
        // Two bytes have to remain for the length of the properties.
        let body = body
            .filter(|&len| len <= message.len().saturating_sub(2))
            .ok_or_else(bad_length)?;
        let (body, mut properties) = message.split_at(body);
        if usize::try_from(properties.get_i16()).ok() != Some(properties.len()) {
            return Err(bad_length());
        }
        Ok(BatchView {
            flag,
            body,
            properties,
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn sample(flag: i32, body: &'static [u8], properties: &'static [u8]) -> BatchMessage {
        BatchMessage {
            flag,
            body: Bytes::from_static(body),
            properties: Bytes::from_static(properties),
        }
    }

    #[test]
    fn messages_come_back_in_order() {
        let sent = [sample(1, b"one", b"A\x01b\x02"), sample(0, b"", b"")];
        let mut batch = BytesMut::new();
        for message in &sent {
            message.encode(&mut batch);
        }
        let read: Vec<BatchMessage> = views(&batch).map(|view| view.unwrap().into()).collect();
        assert_eq!(read, sent);
    }

    // The position of the length field that lies, and what it says.
    #[rstest]
    #[case(0, -1, BatchError::BadLength { index: 0 })]
    #[case(0, 21, BatchError::BadLength { index: 0 })]
    #[case(0, i32::MAX, BatchError::Torn { index: 0 })]
    #[case(16, -1, BatchError::BadLength { index: 0 })]
    #[case(16, i32::MAX, BatchError::BadLength { index: 0 })]
    #[case(16, 5, BatchError::BadLength { index: 0 })]
    fn lying_lengths_are_refused(#[case] at: usize, #[case] value: i32, #[case] error: BatchError) {
        let mut batch = Vec::new();
        sample(1, b"one", b"").encode(&mut batch);
        batch[at..at + 4].copy_from_slice(&value.to_be_bytes());
        let read: Vec<_> = views(&batch).collect();
        assert_eq!(read, [Err(error)]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            prop_assert!(views(&bytes).count() <= bytes.len() / FIXED_BYTES + 1);
        }
    }
}
