//! What a log leaves on its disk, and its records: length (4 bytes, big-endian, all of the record), kind (0 a message, 1 a
//! filler to the end of the file) and payload.

/// Bytes before the payload of a record.
pub const RECORD_HEAD_BYTES: u64 = 5;
pub(super) const FILLER: u8 = 1;

/// What a log leaves on its disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Image {
    /// First byte.
    pub min: u64,
    /// The bytes from there on, whole records.
    pub bytes: Vec<u8>,
    /// End of what is flushed.
    pub durable: u64,
    /// What its checkpoint takes for committed.
    pub confirm: u64,
    /// What was cut away: where it began, and the bytes.
    pub quarantine: Vec<(u64, Vec<u8>)>,
    /// Bits flipped in here, and that is known: where each part begins and ends, both between records, in log order. `bytes` has
    /// what was written there all the same, and nobody is shown it.
    pub damaged: Vec<(u64, u64)>,
}

impl Image {
    /// End of the log.
    pub fn end(&self) -> u64 {
        self.min + self.bytes.len() as u64
    }

    /// Where the records of the log end, in order.
    pub fn boundaries(&self) -> Vec<u64> {
        let mut at = self.min;
        let ends = std::iter::from_fn(|| {
            at = self.record_at(at)?.0;
            Some(at)
        });
        ends.collect()
    }

    /// Where the record at `offset` ends, and its payload.
    pub fn record_at(&self, offset: u64) -> Option<(u64, &[u8])> {
        let at = usize::try_from(offset.checked_sub(self.min)?).ok()?;
        let (len, _) = record(self.bytes.get(at..)?)?;
        let payload = self.bytes.get(at + 5..at + len)?;
        Some((offset + len as u64, payload))
    }

    pub(super) fn range(&self, from: u64, to: u64) -> Option<&[u8]> {
        let at = usize::try_from(from.checked_sub(self.min)?).ok()?;
        let end = usize::try_from(to.checked_sub(self.min)?).ok()?;
        self.bytes.get(at..end)
    }

    /// Whether something between `from` and `to` cannot be read.
    pub fn is_damaged(&self, from: u64, to: u64) -> bool {
        self.damaged
            .iter()
            .any(|damaged| damaged.0 < to && from < damaged.1)
    }

    pub(super) fn keep_below(&mut self, end: u64) {
        let len = usize::try_from(end.saturating_sub(self.min)).unwrap_or(usize::MAX);
        self.bytes.truncate(len);
        self.durable = self.durable.min(self.end());
        self.confirm = self.confirm.min(self.end());
        let end = self.end();
        self.damaged.retain(|(from, _)| *from < end);
        for part in &mut self.damaged {
            part.1 = part.1.min(end);
        }
    }

    /// The machine loses power: of what was not flushed, whole records below `end` stay.
    #[must_use]
    pub fn crashed(mut self, end: u64) -> Self {
        let keep = self
            .boundaries()
            .into_iter()
            .filter(|b| *b <= end.max(self.durable))
            .max();
        self.keep_below(keep.unwrap_or(self.min));
        self.durable = self.end();
        self
    }
}

/// The first record: its length and kind.
pub(super) fn record(bytes: &[u8]) -> Option<(usize, u8)> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    let len = u32::from_be_bytes(*head) as usize;
    let kind = *rest.first()?;
    (len >= 5 && len <= bytes.len() && kind <= FILLER).then_some((len, kind))
}

pub(super) fn push_record(bytes: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    let len = u32::try_from(payload.len() + 5).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(payload);
}
