//! The queues of every topic by broker name, with a bound on what they take: whoever reaches a name server may register brokers with any
//! topics, and routes stay until their broker leaves.

use std::collections::{BTreeMap, HashMap};

use rocket_protocol::body::REGISTERED_TOPICS_MAX;

use super::Queues;

/// Topics of one broker group, however many registrations brought them.
const TOPICS_PER_GROUP_MAX: usize = REGISTERED_TOPICS_MAX;
/// Bytes that all routes may take, about: 800,000 topics of one group each, or some millions of queues of fewer topics.
const BYTES_MAX: usize = 512 << 20;
/// What a topic takes beside its name, most of it for the table of its first groups; and each of its groups beside the name.
const TOPIC_BYTES: usize = 560;
const GROUP_BYTES: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Routes {
    topics: HashMap<String, BTreeMap<String, Queues>>,
    size: Size,
    bytes_max: usize,
    /// How often all of them were gone through.
    #[cfg(test)]
    pub(super) passes: usize,
}

impl Default for Routes {
    fn default() -> Self {
        Self::bounded(BYTES_MAX)
    }
}

impl Routes {
    /// None yet, and never more than so many bytes.
    pub(super) fn bounded(bytes_max: usize) -> Self {
        Self {
            topics: HashMap::new(),
            size: Size::default(),
            bytes_max,
            #[cfg(test)]
            passes: 0,
        }
    }

    /// Who serves a topic.
    pub(super) fn get(&self, topic: &str) -> Option<&BTreeMap<String, Queues>> {
        self.topics.get(topic)
    }

    /// Whether the group serves the topic.
    pub(super) fn has(&self, topic: &str, group: &str) -> bool {
        let groups = self.topics.get(topic);
        groups.is_some_and(|groups| groups.contains_key(group))
    }

    /// All topics and who serves them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &BTreeMap<String, Queues>)> {
        self.topics.iter()
    }

    /// How many topics there are.
    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Bytes that they take, about.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.size.bytes
    }

    /// Puts what a group has of a topic; `false`: there is no room for another one.
    pub(super) fn put(&mut self, topic: String, group: &str, queues: Queues) -> bool {
        let groups = self.topics.get_mut(&topic);
        let of_topic = if groups.is_some() {
            0
        } else {
            topic_bytes(&topic)
        };
        if let Some(known) = groups.and_then(|groups| groups.get_mut(group)) {
            *known = queues;
            return true;
        }
        let bytes = of_topic + group_bytes(group);
        if self.size.bytes + bytes > self.bytes_max || self.size.of(group) >= TOPICS_PER_GROUP_MAX {
            return false;
        }
        self.size.take(group, bytes);
        self.topics
            .entry(topic)
            .or_default()
            .insert(group.to_owned(), queues);
        true
    }

    /// Changes what a group has of each of its topics; says of how many.
    pub(super) fn change(&mut self, group: &str, mut change: impl FnMut(&mut Queues)) -> usize {
        let topics = self.topics.values_mut();
        let queues = topics.filter_map(|groups| groups.get_mut(group));
        queues.map(&mut change).count()
    }

    /// One pass over all: keeps of each topic the groups that `keep` wants, and may change what they have.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&str, &str, &mut Queues) -> bool) {
        #[cfg(test)]
        {
            self.passes += 1;
        }
        let size = &mut self.size;
        self.topics.retain(|topic, groups| {
            groups.retain(|group, queues| size.goes_on(group, keep(topic, group, queues)));
            size.is_left(topic, groups)
        });
    }

    /// Keeps of one topic the groups that `keep` wants.
    pub(super) fn retain_of(&mut self, topic: &str, keep: impl Fn(&str) -> bool) {
        let Some(groups) = self.topics.get_mut(topic) else {
            return;
        };
        let size = &mut self.size;
        groups.retain(|group, _| size.goes_on(group, keep(group)));
        if !size.is_left(topic, groups) {
            self.topics.remove(topic);
        }
    }
}

fn topic_bytes(topic: &str) -> usize {
    TOPIC_BYTES + topic.len()
}

fn group_bytes(group: &str) -> usize {
    GROUP_BYTES + group.len()
}

/// What routes take.
#[derive(Debug, Default)]
struct Size {
    bytes: usize,
    /// Topics of each group.
    topics: HashMap<String, usize>,
}

impl Size {
    fn of(&self, group: &str) -> usize {
        self.topics.get(group).copied().unwrap_or_default()
    }

    fn take(&mut self, group: &str, bytes: usize) {
        self.bytes += bytes;
        match self.topics.get_mut(group) {
            Some(topics) => *topics += 1,
            None => {
                self.topics.insert(group.to_owned(), 1);
            }
        }
    }

    /// Gives back what a group takes of a topic that it leaves; says again whether it stays.
    fn goes_on(&mut self, group: &str, stays: bool) -> bool {
        if !stays {
            self.bytes -= group_bytes(group);
            match self.topics.get_mut(group) {
                Some(topics) if *topics > 1 => *topics -= 1,
                _ => {
                    self.topics.remove(group);
                }
            }
        }
        stays
    }

    /// Gives back what a topic takes that nobody serves any more; says whether somebody does.
    fn is_left(&mut self, topic: &str, groups: &BTreeMap<String, Queues>) -> bool {
        if groups.is_empty() {
            self.bytes -= topic_bytes(topic);
        }
        !groups.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUES: Queues = Queues {
        read: 1,
        write: 1,
        perm: 6,
        sys_flag: 0,
    };

    #[test]
    fn routes_have_a_bound_and_give_back_what_leaves() {
        let mut routes = Routes::bounded(10_000);
        let mut topics = 0;
        while topics < 100 && routes.put(format!("t{topics}"), "a", QUEUES) {
            topics += 1;
        }
        assert!((5..20).contains(&topics), "{topics}");
        assert!(routes.bytes() <= 10_000);
        // Another group of a topic takes less, what is there may change, and who leaves makes room.
        let before = routes.bytes();
        assert!(routes.put("t0".to_owned(), "a", Queues { perm: 4, ..QUEUES }));
        assert_eq!(routes.bytes(), before);
        routes.retain_of("t1", |_| false);
        assert!(routes.put("t0".to_owned(), "b", QUEUES));
        assert_eq!(routes.get("t0").unwrap()["a"].perm, 4);
        assert_eq!((routes.len(), routes.get("t1")), (topics - 1, None));
        routes.retain(|topic, group, _| topic == "t0" && group == "b");
        assert_eq!(routes.bytes(), topic_bytes("t0") + group_bytes("b"));
        assert_eq!((routes.size.of("a"), routes.size.of("b")), (0, 1));
        routes.retain_of("t0", |group| group != "b");
        assert_eq!((routes.len(), routes.bytes()), (0, 0));
    }

    #[test]
    fn a_group_has_so_many_topics_and_no_more() {
        let mut routes = Routes::default();
        routes
            .size
            .topics
            .insert("a".to_owned(), TOPICS_PER_GROUP_MAX - 1);
        assert!(routes.put("t".to_owned(), "a", QUEUES));
        assert!(!routes.put("u".to_owned(), "a", QUEUES));
        assert!(routes.put("u".to_owned(), "b", QUEUES));
        assert!(routes.put("t".to_owned(), "a", QUEUES), "it is there");
    }
}
