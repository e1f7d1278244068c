//! Each behaviour, judged for each client that has it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::runs::Client;

mod consuming;
mod reading;
mod sending;

/// The facts of one scenario.
pub(crate) struct Seen(Vec<&'static Value>);

impl Seen {
    fn of(client: Client, scenario: &str, behaviour: &str) -> Option<Self> {
        let facts = client.facts(behaviour)?;
        Some(Self(
            facts.scenario(scenario).unwrap_or_else(|e| panic!("{e:#}")),
        ))
    }

    fn all(&self, fact: &str) -> Vec<&'static Value> {
        self.0
            .iter()
            .copied()
            .filter(|f| f["fact"] == fact)
            .collect()
    }

    /// Facts of one kind whose `how` (who read, or how it was sent) is the one named.
    fn how(&self, fact: &str, how: &str) -> Vec<&'static Value> {
        self.0
            .iter()
            .copied()
            .filter(|f| f["fact"] == fact && f["how"] == how)
            .collect()
    }

    /// The one fact of a kind whose `what` is the one named.
    fn what(&self, fact: &str, what: &str) -> &'static Value {
        let found: Vec<_> = self
            .0
            .iter()
            .filter(|f| f["fact"] == fact && f["what"] == what)
            .collect();
        assert_eq!(found.len(), 1, "facts {fact}/{what}: {found:?}");
        found[0]
    }

    /// The facts before and after the one named.
    fn split(&self, fact: &str) -> (Self, Self) {
        let at = self
            .0
            .iter()
            .position(|f| f["fact"] == fact)
            .unwrap_or_else(|| panic!("no fact {fact}"));
        (Self(self.0[..at].to_vec()), Self(self.0[at..].to_vec()))
    }
}

fn text(fact: &Value, key: &str) -> String {
    fact[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} of {fact}"))
        .to_owned()
}

fn number(fact: &Value, key: &str) -> i64 {
    fact[key]
        .as_i64()
        .unwrap_or_else(|| panic!("{key} of {fact}"))
}

fn bodies(facts: &[&Value]) -> Vec<String> {
    facts.iter().map(|f| text(f, "body")).collect()
}

/// That exactly these bodies came, each once, in whatever order.
fn assert_each_once(facts: &[&Value], expected: impl IntoIterator<Item = String>) {
    let mut came = bodies(facts);
    let mut expected: Vec<String> = expected.into_iter().collect();
    came.sort();
    expected.sort();
    assert_eq!(came, expected);
}

fn numbered(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{name}-{i}")).collect()
}

/// Messages by queue, in the order in which they came.
fn by_queue<'a>(facts: &[&'a Value]) -> BTreeMap<i64, Vec<&'a Value>> {
    let mut queues: BTreeMap<i64, Vec<&Value>> = BTreeMap::new();
    for f in facts {
        queues.entry(number(f, "queue")).or_default().push(f);
    }
    queues
}

fn distinct(facts: &[&Value], key: &str) -> BTreeSet<String> {
    facts.iter().map(|f| f[key].to_string()).collect()
}

/// One module for each client, one test for each behaviour: `scenarios::java_4_9_8::orderly_consumers_keep_the_order`.
macro_rules! judged {
    ($module:ident, $client:expr, $($area:ident: [$($behaviour:ident),* $(,)?]),* $(,)?) => {
        mod $module {
            $($(
                #[test]
                fn $behaviour() {
                    let client = $client;
                    super::$area::$behaviour(client, stringify!($behaviour));
                }
            )*)*
        }
    };
}

macro_rules! judged_java {
    ($module:ident, $client:expr) => {
        judged!(
            $module,
            $client,
            sending: [
                every_way_to_send_stores_each_message_once,
                keys_tags_and_properties_survive,
                an_offset_id_names_the_place,
                a_batch_lands_together_and_in_order,
                messages_of_one_key_keep_their_order,
                large_bodies_come_back_as_they_were,
            ],
            reading: [
                a_pull_tells_found_filtered_end_and_beyond,
                a_held_pull_is_woken_by_a_message,
                a_stored_offset_is_told_again,
                a_lite_puller_seeks_and_commits,
                a_time_names_the_first_message_since_then,
                messages_are_found_by_id_and_key,
            ],
            consuming: [
                consumers_share_queues_evenly,
                each_message_reaches_a_group_once,
                a_restarted_consumer_goes_on_where_it_was,
                broadcasting_reaches_every_consumer,
                a_tag_filter_lets_only_its_tags_through,
                orderly_consumers_keep_the_order,
                locked_queues_have_one_owner,
            ],
        );
    };
}

judged_java!(java_4_9_8, crate::runs::Client::Java4_9_8);
judged_java!(java_5_4_0, crate::runs::Client::Java5_4_0);
judged_java!(
    java_5_4_0_compact_headers,
    crate::runs::Client::Java5_4_0Compact
);
judged!(
    java_4_9_8_later,
    crate::runs::Client::Java4_9_8Late,
    consuming: [a_refused_message_is_delivered_again],
    sending: [transactions_are_committed_rolled_back_and_asked_about],
);
judged!(
    java_5_4_0_later,
    crate::runs::Client::Java5_4_0Late,
    consuming: [a_refused_message_is_delivered_again],
    sending: [transactions_are_committed_rolled_back_and_asked_about],
);
judged!(
    go_2_1_2,
    crate::runs::Client::Go2_1_2,
    sending: [
        every_way_to_send_stores_each_message_once,
        keys_tags_and_properties_survive,
        a_batch_lands_together_and_in_order,
        large_bodies_come_back_as_they_were,
        a_topic_can_be_created_listed_and_deleted,
    ],
    reading: [a_pull_tells_found_and_end],
    consuming: [
        each_message_reaches_a_group_once,
        a_restarted_consumer_goes_on_where_it_was,
        a_tag_filter_lets_only_its_tags_through,
        orderly_consumers_keep_the_order,
    ],
);
