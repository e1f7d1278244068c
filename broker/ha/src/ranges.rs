//! What other replicas lack of their logs and are given from this one (docs/replication.md §8.15). It is read beside the actor, one
//! range at a time: a disk that is slow to give it holds up no acknowledgement and no sign of life.
//!
//! ```text
//!  Fetch ─▶ the state machine says yes ─▶ waits ─▶ is read ─▶ Range
//!                   ▲                                 │
//!                   └────── the log was cut ──────────┤
//!                                                     └─ the link has ended: nothing
//! ```
//!
//! That yes is about the log as it is then. After a cut the bytes of another epoch may lie in the same place, so a question from
//! before is asked again. Each link has one question out at the most, and no more wait than a group may have replicas.

use std::collections::VecDeque;

use rocket_replication::messages::{Fetch, LinkId};
use rocket_replication::state::REPLICAS_MAX;

use crate::surroundings::RangeReader;

/// A question that is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Where to.
    pub(crate) link: LinkId,
    /// What for.
    pub(crate) fetch: Fetch,
    /// The log was cut since: whether it has that is to be found out again.
    pub(crate) is_stale: bool,
}

/// See the module.
pub(crate) struct Ranges {
    reader: Box<dyn RangeReader + Send>,
    /// The reader is at it.
    is_out: bool,
    /// For whom; nobody, when that link has ended.
    asked: Option<Asked>,
    waiting: VecDeque<Asked>,
}

impl Ranges {
    pub(crate) fn new(reader: Box<dyn RangeReader + Send>) -> Self {
        Self {
            reader,
            is_out: false,
            asked: None,
            waiting: VecDeque::new(),
        }
    }

    /// `link` is to be given what it asks for. `false`: it has asked before and was not answered yet, or too many wait.
    pub(crate) fn ask(&mut self, link: LinkId, fetch: Fetch) -> bool {
        let mut others = self.asked.iter().chain(&self.waiting);
        if self.waiting.len() >= REPLICAS_MAX || others.any(|asked| asked.link == link) {
            return false;
        }
        self.waiting.push_back(Asked {
            link,
            fetch,
            is_stale: false,
        });
        self.next();
        true
    }

    /// The link has ended: it is given nothing any more.
    pub(crate) fn left(&mut self, link: LinkId) {
        if self.asked.is_some_and(|asked| asked.link == link) {
            self.asked = None;
        }
        self.waiting.retain(|asked| asked.link != link);
    }

    /// The log is cut.
    pub(crate) fn cut(&mut self) {
        for asked in self.asked.iter_mut().chain(&mut self.waiting) {
            asked.is_stale = true;
        }
    }

    /// The reader is done. Whom that was for, if anybody waits for it still; when that was seen to, [`Ranges::next`] is to be called.
    pub(crate) fn read(&mut self) -> Option<Asked> {
        self.is_out = false;
        self.asked.take()
    }

    /// Has the next range read, if none is.
    pub(crate) fn next(&mut self) {
        if self.is_out {
            return;
        }
        if let Some(asked) = self.waiting.pop_front() {
            let Fetch { offset, length, .. } = asked.fetch;
            self.reader.read_range(offset, length);
            self.is_out = true;
            self.asked = Some(asked);
        }
    }
}

#[cfg(test)]
mod tests {
    use rocket_replication::epochs::EpochStart;
    use rocket_replication::{Epoch, GroupUid, PhysicalOffset};

    use super::*;
    use crate::memory::MemoryReader;

    fn fetch(offset: u64) -> Fetch {
        Fetch {
            group_uid: GroupUid(7),
            offset: PhysicalOffset(offset),
            length: 10,
            bytes_epoch: EpochStart {
                epoch: Epoch(1),
                start: PhysicalOffset(0),
            },
        }
    }

    /// Links `1..=links` have asked for what lies at their number.
    fn asked(links: u64) -> (Ranges, MemoryReader) {
        let reader = MemoryReader::default();
        let mut ranges = Ranges::new(Box::new(reader.clone()));
        for link in 1..=links {
            assert!(ranges.ask(LinkId(link), fetch(link)), "link {link}");
        }
        (ranges, reader)
    }

    /// The reader reads what it was asked for, at this offset.
    fn read(ranges: &mut Ranges, reader: &MemoryReader, offset: u64) -> Option<Asked> {
        assert_eq!(reader.take(), Some((PhysicalOffset(offset), 10)));
        assert_eq!(reader.take(), None, "one at a time");
        let asked = ranges.read();
        ranges.next();
        asked
    }

    #[test]
    fn one_range_is_read_at_a_time_in_the_order_of_the_questions() {
        let (mut ranges, reader) = asked(3);
        for link in 1..=3 {
            let asked = read(&mut ranges, &reader, link);
            let expected = Asked {
                link: LinkId(link),
                fetch: fetch(link),
                is_stale: false,
            };
            assert_eq!(asked, Some(expected));
        }
        assert_eq!(reader.take(), None);
        assert!(ranges.ask(LinkId(1), fetch(5)), "it was answered");
        assert_eq!(reader.take(), Some((PhysicalOffset(5), 10)));
    }

    #[test]
    fn link_has_one_question_out_and_not_too_many_links_wait() {
        let links = REPLICAS_MAX as u64 + 1;
        let (mut ranges, reader) = asked(links);
        assert!(!ranges.ask(LinkId(links + 1), fetch(0)), "too many wait");
        assert!(read(&mut ranges, &reader, 1).is_some());
        assert!(!ranges.ask(LinkId(2), fetch(0)), "that is being read");
        assert!(!ranges.ask(LinkId(3), fetch(0)), "that waits");
        assert!(ranges.ask(LinkId(1), fetch(0)));
    }

    #[test]
    fn link_that_has_ended_is_given_nothing_and_holds_up_nobody() {
        let (mut ranges, reader) = asked(3);
        ranges.left(LinkId(1));
        ranges.left(LinkId(2));
        assert_eq!(read(&mut ranges, &reader, 1), None, "nobody waits for it");
        let asked = read(&mut ranges, &reader, 3);
        assert_eq!(asked.map(|asked| asked.link), Some(LinkId(3)));
        assert_eq!(reader.take(), None);
    }

    #[test]
    fn question_from_before_a_cut_is_known_as_such() {
        let (mut ranges, reader) = asked(2);
        ranges.cut();
        assert!(ranges.ask(LinkId(3), fetch(3)));
        for (link, is_stale) in [(1, true), (2, true), (3, false)] {
            let asked = read(&mut ranges, &reader, link);
            let found = asked.map(|asked| (asked.link, asked.is_stale));
            assert_eq!(found, Some((LinkId(link), is_stale)));
        }
    }
}
