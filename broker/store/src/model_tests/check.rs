//! What must hold: of each answer when it comes, and of all that can be read, whenever it is looked at.

use super::*;

impl World {
    pub(super) fn take_unknown(&mut self) {
        self.answered += self.outcomes.lock().drain(..).count() as u64;
        assert_eq!(self.taken, self.answered, "every append is answered once");
    }

    pub(super) fn take_outcomes(&mut self) {
        for (sent, outcome) in std::mem::take(&mut *self.outcomes.lock()) {
            self.answered += 1;
            match (outcome.status, outcome.appended) {
                (PutStatus::Ok, Some(_)) if sent.first < self.deleted => {}
                (PutStatus::Ok, Some(appended)) if sent.is_kept && sent.is_queued => {
                    let of_one = [appended.physical_offset];
                    let starts = match &appended.physical_offsets[..] {
                        [] => &of_one[..],
                        many => many,
                    };
                    // Records of one append are of about one length.
                    let len = appended.len / u64::from(appended.count);
                    for (number, start) in (sent.first..).zip(starts) {
                        self.places.lock().insert(number, (start.0, start.0 + len));
                    }
                    for index in 0..u64::from(appended.count) {
                        let key = (sent.queue, appended.queue_offset.0 + index);
                        let before = self.promised.insert(key, sent.first + index);
                        assert!(
                            before.is_none_or(|before| self.may_be_given_again(before)),
                            "an offset is promised once"
                        );
                    }
                }
                (PutStatus::Ok | PutStatus::FlushDiskTimeout, Some(_)) => {}
                (PutStatus::ServiceNotAvailable(_), None) => drop(self.refused.insert(sent.first)),
                other => panic!("unexpected answer {other:?}"),
            }
        }
    }

    /// Reads everything and compares.
    pub(super) fn look(&mut self) {
        if !self.rotten.is_empty() {
            self.look_at_rotten();
            return;
        }
        let topic = TopicName::parse(TOPIC).unwrap();
        let mut everywhere = HashSet::new();
        for queue in 0..QUEUES {
            let Some(range) = self.engine().queue_range(&topic, QueueId(queue)) else {
                let is_promised = self.promised.keys().any(|(of, _)| *of == queue);
                assert!(!is_promised || !self.jobs_done(), "queue {queue} is gone");
                continue;
            };
            let mut found = BTreeMap::new();
            let mut next = i64::try_from(range.min.0).unwrap();
            let end = i64::try_from(range.max.0).unwrap();
            while next < end {
                let limits = ReadLimits {
                    messages_max: 3,
                    bytes_max: 4000,
                };
                let result = self
                    .engine()
                    .get(&topic, QueueId(queue), next, limits, &|_, _| true);
                assert_eq!(
                    result.status,
                    GetStatus::Found,
                    "queue {queue} at {next} of {range:?}"
                );
                for chunk in &result.chunks {
                    let mut rest = &chunk[..];
                    while !rest.is_empty() {
                        let (view, len) = RecordView::parse(rest).unwrap();
                        assert_eq!(view.queue_offset().to_wire(), next, "dense");
                        let number: u64 = std::str::from_utf8(&view.body()[..8])
                            .unwrap()
                            .parse()
                            .unwrap();
                        assert!(everywhere.insert(number), "message {number} is there twice");
                        assert!(number >= self.deleted, "message {number} was deleted");
                        assert!(
                            !self.refused.contains(&number),
                            "message {number} was refused"
                        );
                        found.insert((queue, view.queue_offset().0), number);
                        self.note_place(number, &view, len);
                        self.look_up(&topic, number);
                        next += 1;
                        rest = &rest[len..];
                    }
                }
            }
            for map in [&mut self.promised, &mut self.seen] {
                map.retain(|&(of, offset), _| of != queue || offset >= range.min.0);
            }
            for (key, number) in self.seen.iter().filter(|(key, _)| key.0 == queue) {
                assert_eq!(
                    found.get(key),
                    Some(number),
                    "what was seen at {key:?} stays"
                );
            }
            let visible = |key: &(u32, u64)| self.jobs_done() || key.1 < range.max.0;
            for (key, number) in self.promised.iter().filter(|(key, _)| key.0 == queue) {
                if visible(key) {
                    assert_eq!(
                        found.get(key),
                        Some(number),
                        "what was answered at {key:?} is there"
                    );
                }
            }
            self.seen.extend(found);
        }
    }

    pub(super) fn note_place(&self, number: u64, view: &RecordView<'_>, len: usize) {
        let from = view.physical_offset().0;
        self.places.lock().insert(number, (from, from + len as u64));
    }

    /// Looks a message up by its key. A write that failed in the middle may leave the index short until the next start.
    pub(super) fn look_up(&self, topic: &TopicName, number: u64) {
        let key = format!("k{number}");
        let (begin, end) = (UnixMillis(0), UnixMillis(i64::MAX));
        let found = self
            .engine()
            .query(topic, &key, 5, begin, end)
            .records
            .len();
        let is_failed = matches!(self.engine().health(), Health::ReadOnly { .. });
        assert!(
            found == 1 || is_failed && found == 0,
            "key {key} is found {found} times"
        );
    }

    /// Whether everything visible is dispatched, so that what was answered must be readable.
    pub(super) fn jobs_done(&self) -> bool {
        let positions = self.engine().positions();
        positions.dispatched == positions.committed
    }
}
