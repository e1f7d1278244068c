//! What is sent is stored once, whole and in order.

use super::{Seen, assert_each_once, bodies, by_queue, distinct, number, numbered, text};
use crate::cluster::target_is_apache;
use crate::runs::Client;

pub(crate) fn every_way_to_send_stores_each_message_once(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "send_ways", behaviour) else {
        return;
    };
    let stored = seen.all("stored");
    assert_each_once(
        &stored,
        ["sync", "async", "oneway"]
            .iter()
            .flat_map(|w| numbered(w, 6)),
    );
    assert_eq!(distinct(&stored, "id").len(), 18, "unique keys are unique");
    let sent = seen.all("sent");
    assert_eq!(
        sent.len(),
        12,
        "answers of all but the one-way sends; refused: {:?}",
        seen.all("refused")
    );
    for s in sent {
        assert_eq!(text(s, "status"), "SEND_OK");
        let found = stored
            .iter()
            .find(|m| m["id"] == s["id"])
            .unwrap_or_else(|| panic!("{s} is not stored"));
        assert_eq!(
            (&found["body"], &found["queue"], &found["offset"]),
            (&s["body"], &s["queue"], &s["offset"])
        );
    }
    for (queue, messages) in by_queue(&stored) {
        let offsets: Vec<i64> = messages.iter().map(|m| number(m, "offset")).collect();
        assert_eq!(
            offsets,
            (0..i64::try_from(messages.len()).unwrap()).collect::<Vec<_>>(),
            "offsets of queue {queue}"
        );
    }
}

pub(crate) fn keys_tags_and_properties_survive(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "send_ways", behaviour) else {
        return;
    };
    for m in seen.all("stored") {
        let body = text(m, "body");
        let (way, i) = body.split_once('-').unwrap();
        let (keys, tags) = match way {
            "sync" => (
                format!("key{i} both"),
                format!("tag{}", i.parse::<u32>().unwrap() % 2),
            ),
            other => (format!("{other}{i}"), "tag".to_owned()),
        };
        assert_eq!(
            (text(m, "keys").trim_end(), text(m, "tags")),
            (keys.as_str(), tags),
            "of {body}"
        );
        assert_eq!(m["properties"]["color"], "blue \u{e9}", "of {body}");
        assert_eq!(m["properties"]["UNIQ_KEY"], m["id"], "of {body}");
        assert_eq!(m["reconsume"], 0, "of {body}");
        assert!(
            text(m, "born").starts_with("127.0.0.1"),
            "born host of {body}"
        );
    }
}

pub(crate) fn an_offset_id_names_the_place(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "send_ways", behaviour) else {
        return;
    };
    let stored = seen.all("stored");
    for s in seen.all("sent") {
        let found = stored
            .iter()
            .find(|m| m["id"] == s["id"])
            .unwrap_or_else(|| panic!("{s} is not stored"));
        assert_eq!(found["offset_id"], s["offset_id"]);
        let physical = format!("{:016X}", number(found, "physical"));
        assert!(
            text(s, "offset_id").ends_with(&physical),
            "{s} at {physical}"
        );
    }
}

pub(crate) fn a_batch_lands_together_and_in_order(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "batch", behaviour) else {
        return;
    };
    let sent = seen.all("sent");
    assert_eq!(sent.len(), 1);
    assert_eq!(text(sent[0], "status"), "SEND_OK");
    let stored = seen.all("stored");
    assert_eq!(bodies(&stored), numbered("batch", 20));
    assert_eq!(distinct(&stored, "queue").len(), 1);
    assert_eq!(stored[0]["queue"], sent[0]["queue"]);
    let first = number(sent[0], "offset");
    let offsets: Vec<i64> = stored.iter().map(|m| number(m, "offset")).collect();
    assert_eq!(offsets, (first..first + 20).collect::<Vec<_>>());
    for name in ["id", "offset_id"] {
        let ids: Vec<String> = stored.iter().map(|m| text(m, name)).collect();
        let answered = text(sent[0], name);
        // client-go gives the messages of a batch no unique keys and so can't name them by these.
        assert!(
            answered == ids.join(",")
                || (name == "id" && client == Client::Go2_1_2 && answered.is_empty()),
            "{name}: {answered} for {ids:?}"
        );
    }
}

pub(crate) fn messages_of_one_key_keep_their_order(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "selector", behaviour) else {
        return;
    };
    let queues = by_queue(&seen.all("stored"));
    assert_eq!(queues.len(), 4);
    for (queue, messages) in queues {
        assert_eq!(bodies(&messages), numbered(&format!("k{queue}"), 8));
    }
}

pub(crate) fn large_bodies_come_back_as_they_were(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "large_body", behaviour) else {
        return;
    };
    let key = |f: &serde_json::Value| (number(f, "size"), number(f, "crc"));
    let sent: Vec<_> = seen.all("body").into_iter().map(key).collect();
    let stored: Vec<_> = seen.all("stored").into_iter().map(key).collect();
    assert!(!sent.is_empty());
    assert_eq!(sent, stored);
}

pub(crate) fn a_topic_can_be_created_listed_and_deleted(client: Client, behaviour: &str) {
    let Some(seen) = Seen::of(client, "admin", behaviour) else {
        return;
    };
    assert_eq!(number(seen.all("created")[0], "queues"), 3);
    assert_eq!(seen.all("listed")[0]["yes"], true);
    assert_eq!(seen.all("deleted").len(), 1);
}

/// Our broker has no transactions yet: it has to say so at the first half message, not to store it as a plain one.
pub(crate) fn transactions_are_committed_rolled_back_and_asked_about(
    client: Client,
    behaviour: &str,
) {
    if !target_is_apache() {
        let Some(facts) = client.facts(behaviour) else {
            return;
        };
        let refusal = facts
            .scenario("transaction")
            .expect_err("a refusal, until transactions are served")
            .to_string();
        assert!(
            refusal.contains("CODE: 13  DESC: transactional messages are not supported"),
            "{refusal}"
        );
        return;
    }
    let Some(seen) = Seen::of(client, "transaction", behaviour) else {
        return;
    };
    assert_eq!(seen.all("sent").len(), 3);
    let asked = seen.all("asked");
    assert!(!asked.is_empty(), "the broker asks about the undecided one");
    assert!(
        asked.iter().all(|m| m["body"] == "UNKNOW"),
        "and about no other: {asked:?}"
    );
    // A broker may ask again before it has noted the answer, so the undecided one may come more than once.
    let mut came = bodies(&seen.all("stored"));
    came.sort();
    came.dedup();
    assert_eq!(came, ["COMMIT_MESSAGE", "UNKNOW"]);
}
