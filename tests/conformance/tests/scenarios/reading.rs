//! Readers that name queue and offset themselves, and the look-ups.

use super::{Seen, assert_each_once, bodies, distinct, number, numbered, text};
use crate::runs::Client;

fn assert_pull(seen: &Seen, what: &str, status: &str, next: i64, count: i64) {
    let p = seen.what("pulled", what);
    assert_eq!(
        (
            text(p, "status").as_str(),
            number(p, "next"),
            number(p, "count")
        ),
        (status, next, count),
        "{p}"
    );
    assert_eq!(number(p, "min"), 0, "{p}");
}

pub(crate) fn a_pull_tells_found_filtered_end_and_beyond(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "pull", behaviour) else {
        return;
    };
    assert_pull(&seen, "all", "FOUND", 10, 10);
    assert_pull(&seen, "three", "FOUND", 7, 3);
    assert_pull(&seen, "odd", "FOUND", 10, 5);
    assert_pull(&seen, "none_match", "NO_MATCHED_MSG", 10, 0);
    assert_pull(&seen, "at_end", "NO_NEW_MSG", 10, 0);
    assert_pull(&seen, "beyond_end", "OFFSET_ILLEGAL", 10, 0);
    assert_eq!(bodies(&seen.how("got", "all")), numbered("pull", 10));
    assert_eq!(
        bodies(&seen.how("got", "three")),
        ["pull-4", "pull-5", "pull-6"]
    );
    assert_eq!(
        bodies(&seen.how("got", "odd")),
        ["pull-1", "pull-3", "pull-5", "pull-7", "pull-9"]
    );
}

pub(crate) fn a_pull_tells_found_and_end(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "pull", behaviour) else {
        return;
    };
    assert_pull(&seen, "all", "FOUND", 10, 10);
    assert_pull(&seen, "three", "FOUND", 7, 3);
    assert_pull(&seen, "at_end", "NO_NEW_MSG", 10, 0);
    assert_eq!(bodies(&seen.how("got", "all")), numbered("pull", 10));
    assert_eq!(
        bodies(&seen.how("got", "three")),
        ["pull-4", "pull-5", "pull-6"]
    );
}

pub(crate) fn a_held_pull_is_woken_by_a_message(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "pull", behaviour) else {
        return;
    };
    assert_pull(&seen, "woken", "FOUND", 11, 1);
    assert_eq!(bodies(&seen.how("got", "woken")), ["wake"]);
    let held = number(seen.all("held")[0], "ms");
    assert!(
        held < 10_000,
        "a pull is held up to 15 s; a message has to wake it long before ({held} ms)"
    );
}

pub(crate) fn a_stored_offset_is_told_again(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "pull", behaviour) else {
        return;
    };
    let value = |what: &str| number(seen.what("offset", what), "value");
    // A group without an offset begins at 0 on a queue whose first message is still there.
    assert_eq!(
        (value("none"), value("stored"), value("min"), value("max")),
        (0, 7, 0, 11)
    );
}

pub(crate) fn a_lite_puller_seeks_and_commits(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "lite_pull", behaviour) else {
        return;
    };
    assert_eq!(bodies(&seen.how("got", "from_start")), numbered("lite", 10));
    assert_eq!(
        bodies(&seen.how("got", "from_three")),
        numbered("lite", 10)[3..]
    );
    assert_eq!(number(seen.what("offset", "committed"), "value"), 10);
}

pub(crate) fn a_time_names_the_first_message_since_then(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "time_offsets", behaviour) else {
        return;
    };
    let offset = |what: &str| number(seen.what("searched", what), "offset");
    assert_eq!(
        (offset("long_ago"), offset("before_sixth"), offset("future")),
        (0, 5, 10)
    );
    let stored = seen.all("stored");
    // Several messages may share the millisecond of the sixth.
    let first = stored
        .iter()
        .find(|m| m["store_time"] == stored[5]["store_time"])
        .map(|m| number(m, "offset"));
    assert_eq!(Some(offset("sixth")), first);
    assert_eq!(seen.all("earliest")[0]["time"], stored[0]["store_time"]);
}

pub(crate) fn messages_are_found_by_id_and_key(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "lookup", behaviour) else {
        return;
    };
    assert_eq!(bodies(&seen.how("found", "offset_id")), ["lookup-2"]);
    assert_eq!(bodies(&seen.how("found", "unique_key")), ["lookup-2"]);
    assert_each_once(&seen.how("found", "key"), numbered("lookup", 3));
    assert_eq!(bodies(&seen.how("found", "one_key")), ["lookup-1"]);
    assert_eq!(number(seen.all("none")[0], "count"), 0);
    assert_eq!(distinct(&seen.how("found", "key"), "keys").len(), 3);
}
