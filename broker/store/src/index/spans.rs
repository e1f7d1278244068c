//! When the messages of a part of the log were stored, roughly: a run keeps no time per key. Keys arrive in the order of
//! the log, so a list of sections, each with its first offset and its earliest and latest store time, tells which
//! offsets can lie within a time range. Nothing is assumed of clocks: a section's times are a range, not an order.

/// A stretch of the log from `offset` to the next section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Section {
    /// Of its first message with a key.
    pub(crate) offset: u64,
    /// Store time of its earliest message, Unix milliseconds.
    pub(crate) earliest: i64,
    /// Of its latest.
    pub(crate) latest: i64,
}

/// Sections in the order of their offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spans(Vec<Section>);

impl Spans {
    pub(crate) fn new(sections: Vec<Section>) -> Self {
        Self(sections)
    }

    pub(crate) fn sections(&self) -> &[Section] {
        &self.0
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Begins a section at `offset`.
    pub(crate) fn begin(&mut self, offset: u64, time: i64) {
        self.0.push(Section {
            offset,
            earliest: time,
            latest: time,
        });
    }

    /// Counts a message in the last section.
    pub(crate) fn widen(&mut self, time: i64) {
        if let Some(last) = self.0.last_mut() {
            last.earliest = last.earliest.min(time);
            last.latest = last.latest.max(time);
        }
    }

    /// Appends sections that lie behind these.
    pub(crate) fn append(&mut self, later: &Self) {
        self.0.extend_from_slice(&later.0);
    }

    /// Earliest and latest time of all; `None` without sections.
    pub(crate) fn times(&self) -> Option<(i64, i64)> {
        self.0
            .iter()
            .map(|section| (section.earliest, section.latest))
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Whether any message can have been stored within `begin..=end`.
    pub(crate) fn overlap(&self, begin: i64, end: i64) -> bool {
        self.times()
            .is_some_and(|(earliest, latest)| earliest <= end && latest >= begin)
    }

    /// Whether the message at `offset` can have been stored within `begin..=end`.
    pub(crate) fn may_hold(&self, offset: u64, begin: i64, end: i64) -> bool {
        let after = self.0.partition_point(|section| section.offset <= offset);
        after
            .checked_sub(1)
            .and_then(|at| self.0.get(at))
            .is_none_or(|section| section.earliest <= end && section.latest >= begin)
    }

    /// The same times in at most `max` sections.
    #[must_use]
    pub(crate) fn thinned(&self, max: usize) -> Self {
        let group = self.0.len().div_ceil(max).max(1);
        let joined = self.0.chunks(group).filter_map(|sections| {
            sections.iter().copied().reduce(|a, b| Section {
                offset: a.offset,
                earliest: a.earliest.min(b.earliest),
                latest: a.latest.max(b.latest),
            })
        });
        Self(joined.collect())
    }
}
