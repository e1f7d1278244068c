//! Groups: who gets which message, in which order, and where they go on.

use super::{Seen, assert_each_once, bodies, by_queue, distinct, number, numbered, text};
use crate::runs::Client;

pub(crate) fn consumers_share_queues_evenly(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "clustering", behaviour) else {
        return;
    };
    let balanced = seen.all("balanced")[0];
    assert_eq!((number(balanced, "a"), number(balanced, "b")), (2, 2));
    let a = distinct(&seen.how("got", "a"), "queue");
    let b = distinct(&seen.how("got", "b"), "queue");
    assert_eq!((a.len(), b.len()), (2, 2));
    assert!(a.is_disjoint(&b));
}

pub(crate) fn each_message_reaches_a_group_once(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "clustering", behaviour) else {
        return;
    };
    let (before, _) = seen.split("restarted");
    assert_each_once(&before.all("got"), numbered("first", 40));
}

pub(crate) fn a_restarted_consumer_goes_on_where_it_was(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "clustering", behaviour) else {
        return;
    };
    let (_, after) = seen.split("restarted");
    assert_each_once(&after.all("got"), numbered("second", 10));
}

pub(crate) fn broadcasting_reaches_every_consumer(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "broadcasting", behaviour) else {
        return;
    };
    for consumer in ["a", "b"] {
        assert_each_once(&seen.how("got", consumer), numbered("broadcast", 10));
    }
}

pub(crate) fn a_tag_filter_lets_only_its_tags_through(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "tag_filter", behaviour) else {
        return;
    };
    let wanted = numbered("tags", 12)
        .into_iter()
        .enumerate()
        .filter(|(i, _)| i % 3 != 2)
        .map(|(_, b)| b);
    assert_each_once(&seen.all("got"), wanted.chain(numbered("last", 2)));
}

pub(crate) fn orderly_consumers_keep_the_order(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "orderly", behaviour) else {
        return;
    };
    let queues = by_queue(&seen.all("got"));
    assert_eq!(queues.len(), 4);
    for (queue, messages) in queues {
        assert_eq!(bodies(&messages), numbered(&format!("q{queue}"), 10));
    }
}

pub(crate) fn locked_queues_have_one_owner(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "orderly", behaviour) else {
        return;
    };
    assert!(
        seen.all("overlap").is_empty(),
        "two messages of a queue at once: {:?}",
        seen.all("overlap")
    );
    let a = distinct(&seen.how("got", "a"), "queue");
    let b = distinct(&seen.how("got", "b"), "queue");
    assert_eq!((a.len(), b.len()), (2, 2));
    assert!(a.is_disjoint(&b));
}

pub(crate) fn a_refused_message_is_delivered_again(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "retry", behaviour) else {
        return;
    };
    let got = seen.all("got");
    let round = |n: i64| {
        got.iter()
            .copied()
            .filter(|m| number(m, "reconsume") == n)
            .collect::<Vec<_>>()
    };
    assert_each_once(&round(0), numbered("retry", 2));
    assert_each_once(&round(1), numbered("retry", 2));
    assert_eq!(got.len(), 4);
    for m in round(1) {
        let first = round(0)
            .into_iter()
            .find(|f| f["body"] == m["body"])
            .unwrap();
        assert_eq!(
            (text(m, "topic"), text(m, "id")),
            (text(first, "topic"), text(first, "id")),
            "the client sees the same message"
        );
        assert_eq!(m["properties"]["color"], first["properties"]["color"]);
    }
}
